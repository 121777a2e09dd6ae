"""The tasks. Counting is a chord: :func:`count` for each batch of files, and :func:`merge` as its body.

:func:`nap` is for trying out what happens when tasks fail and workers are killed.
"""

from __future__ import annotations

import random
import time
from pathlib import Path

from celery_app import corpus
from celery_app.app import app
from kafka_exec import Phase, RetryPolicy


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


class Restless(Exception):
    """A nap that has failed."""


@app.task(retrying=RetryPolicy((Phase(20, 0.1, factor=1),), on=(Restless,)))
def nap(seconds: float, odds: float = 0.3) -> float:
    """Sleeps for a random time up to so many seconds, and then fails with these odds: by chance, so a retry may succeed."""
    slept = random.uniform(0, seconds)
    time.sleep(slept)
    if random.random() < odds:
        raise Restless(f"after {slept:.2f} s")
    return slept
