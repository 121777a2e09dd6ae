"""The commands that look at the cluster, its topics, nodes and rights."""
