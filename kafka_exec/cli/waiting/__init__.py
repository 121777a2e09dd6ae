"""The commands that look at what waits: queues, ordering keys, dead letters."""
