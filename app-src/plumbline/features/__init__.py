"""Features as of a moment: joined from history for training, read from the online store when serving."""
