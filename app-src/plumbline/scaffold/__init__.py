"""A new model's files, and how they go again."""
