"""How good answers are: the names of the metrics, and their figures; the same in training, gate and monitoring."""
