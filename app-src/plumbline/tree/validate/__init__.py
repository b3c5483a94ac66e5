"""What would be refused after a merge, refused before it."""
