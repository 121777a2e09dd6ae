"""One partition of a work queue: its records, their order, their journal and what has ended."""
