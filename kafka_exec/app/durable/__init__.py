"""Durable tasks, as programs use them: their calls, their runs, and resuming suspended ones."""
