"""Driving the control plane: its partitions, and the levels of messages that wait."""
