"""One partition of a work queue, as a state machine: which of its tasks may begin in this process, and when."""
