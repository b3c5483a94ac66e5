"""The released model on this disk: where it comes from, and that it is what git names."""
