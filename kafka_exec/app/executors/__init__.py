"""Executors: what runs a task that is no Python function of this application, such as an HTTP service or a command."""
