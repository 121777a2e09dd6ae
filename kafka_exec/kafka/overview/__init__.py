"""Reading the topics for an operator's view: right also if no worker lives."""
