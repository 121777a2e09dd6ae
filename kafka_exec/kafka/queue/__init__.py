"""Consuming a work queue's topic: its group, its journal, its commits, its dead letters."""
