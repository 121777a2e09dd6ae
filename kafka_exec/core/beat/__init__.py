"""Periodic entries: their slots, their claims, and their firings."""
