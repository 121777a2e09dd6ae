"""Messages: their record format, their routing, their priorities, and dead letters."""
