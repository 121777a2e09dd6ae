"""The tasks. Counting is a chord: :func:`count` for each batch of files, and :func:`merge` as its body."""

from __future__ import annotations

from pathlib import Path

from celery_app import corpus
from celery_app.app import app


@app.task
def add(x: float, y: float) -> float:
    """Add two numbers: the cheapest task there is, for measuring everything but the task."""
    return x + y


@app.task
def count(root: str, names: list[str]) -> corpus.Counts:
    """Count the named files below ``root``."""
    return corpus.count_files(Path(root), names)


@app.task
def merge(parts: list[corpus.Counts]) -> corpus.Counts:
    """Add partial counts up."""
    return corpus.merge(parts)
