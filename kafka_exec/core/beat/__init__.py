"""Exclusive periodic entries: their slots, their claims, and what is fired."""
