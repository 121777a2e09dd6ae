"""The view of an operator: how much waits in each queue, and why, from what stands in the topics."""
