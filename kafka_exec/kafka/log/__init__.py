"""Reading logs: what is in them already, what comes, and compacted ones as tables."""
