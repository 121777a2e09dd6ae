"""Decisions without effects: values in, values out, time is an argument."""
