"""What a number that comes back for a prediction may be: server, consumer and read-out hold the same bounds."""

LARGEST = 1e15
"""Up to here sums, squares and their sums over any log stay within a double; 1e200 made every read-out fail."""
