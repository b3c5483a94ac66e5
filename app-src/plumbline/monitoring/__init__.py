"""What was predicted and what came true: the log of predictions, read-outs by arm, experiments and drift."""
