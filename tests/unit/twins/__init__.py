"""Dumb twins of clever code: obviously right, slow, and without knowledge of what they judge."""
