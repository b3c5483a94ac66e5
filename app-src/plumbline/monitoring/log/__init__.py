"""The prediction log: from Redis streams to PostgreSQL, and read from there."""
