"""Declare a model platform in git, from training to canary, and tell the truth about what is served."""
