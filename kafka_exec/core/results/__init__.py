"""The states of tasks: which may follow which, and the records that say them."""
