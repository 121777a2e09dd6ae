"""Nodes: their heartbeats, how long one may be believed, and which node drives which partition."""
