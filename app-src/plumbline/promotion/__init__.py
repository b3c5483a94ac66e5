"""Registry, governance, gate and the one writer of git."""
