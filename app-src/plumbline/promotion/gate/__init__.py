"""Whether a version may be served: measurements, rules, verdict."""
