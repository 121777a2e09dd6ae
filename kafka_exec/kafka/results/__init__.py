"""The states of tasks as one process sees them, and their notes."""
