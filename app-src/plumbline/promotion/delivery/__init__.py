"""The one writer of git, and what follows git: registry and cluster."""
