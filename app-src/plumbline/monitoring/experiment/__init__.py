"""Two versions compared: rows, statistics, verdict."""
