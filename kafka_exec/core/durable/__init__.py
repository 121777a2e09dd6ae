"""Durable tasks: the record of what a task has done, and the message by which it continues."""
