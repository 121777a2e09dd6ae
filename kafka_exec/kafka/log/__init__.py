"""Reading logs: their present records, those that come, and compacted logs as tables."""
