"""A project of two files with FastAPI."""
