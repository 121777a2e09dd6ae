"""The node registry, and a node's share of the partitions that all nodes drive together."""
