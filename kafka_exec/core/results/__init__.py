"""The states of tasks: the order in which they may follow, and the records that hold them."""
