"""Questions and acts of an operator, which the commands and the HTTP API share: each gets the application."""
