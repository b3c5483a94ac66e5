"""What is registered: versions, their life cycle, signature and card."""
