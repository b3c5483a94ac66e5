"""What a canary's verdict needs."""
