"""Databases and the artifacts that they name, kept and brought back together."""
