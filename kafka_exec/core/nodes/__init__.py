"""Nodes: their heartbeats, who may be believed and for how long, and who drives which partition."""
