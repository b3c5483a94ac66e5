"""Predictions, feedback and drift: from the stream to answers."""
