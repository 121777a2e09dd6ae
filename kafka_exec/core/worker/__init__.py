"""Decisions of a worker: which task begins next, which one goes to another worker, and which one is retried."""
