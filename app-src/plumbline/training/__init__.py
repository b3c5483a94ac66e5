"""From data to an evaluated, converted model with its report."""
