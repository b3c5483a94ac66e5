"""Benchmarks of the model server and its peers: `make bench` (docs/benchmarks.md)."""
