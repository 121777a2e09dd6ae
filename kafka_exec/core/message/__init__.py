"""Messages: their record format, where they go, and what becomes of dead ones."""
