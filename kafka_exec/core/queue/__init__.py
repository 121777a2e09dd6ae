"""One partition of a work queue: its records, their order, their journal, and the offsets that have ended."""
