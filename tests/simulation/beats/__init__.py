"""Beats in a simulated world: the real claims, agenda, heartbeats and readers, over simulated transactions."""
