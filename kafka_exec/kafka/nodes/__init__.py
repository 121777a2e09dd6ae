"""The node registry, and a node's share of what all nodes drive together."""
