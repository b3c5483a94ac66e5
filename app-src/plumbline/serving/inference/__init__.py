"""From validated values to the model's numbers."""
