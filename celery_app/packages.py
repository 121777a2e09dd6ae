"""Small tasks, each of which needs a feature of kafka_exec. They note in the diary what they do, and the tour reads it."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from typing import Any

from celery_app import corpus, diary
from celery_app.app import app
from kafka_exec import Phase, RetryPolicy

#: The release of this code. In a rolling deploy the workers of two releases run beside each other.
RELEASE = int(os.environ.get("EXAMPLE_RELEASE", "1"))


class Unready(Exception):
    """A file that cannot be counted yet."""


@app.task(bind=True)
def stay(self: Any, seconds: float) -> str:
    """Stays for so long; the name of the worker."""
    diary.note("begin", self.request)
    time.sleep(seconds)
    diary.note("end", self.request)
    return str(self.request.hostname)


@app.task(
    bind=True,
    ordering_key=lambda package, *_: package,
    retrying=RetryPolicy((Phase(5, 0.3, factor=1),), on=(Unready,)),
)
def enter(self: Any, package: str, path: str, fails: bool = False) -> int:
    """Adds a file to the sums of its package, one at a time and in order; with ``fails`` it fails in its first run."""
    diary.note("begin", self.request, self.request.fence)
    if fails and not self.request.retries:
        raise Unready(path)
    lines = corpus.decode(Path(path).read_bytes()).count("\n")
    diary.add_file(package, lines, self.request.fence)
    diary.note("end", self.request, self.request.fence)
    return lines


@app.task(retrying=RetryPolicy.fast(on=(TimeoutError,)))
def lines_of(path: str) -> int:
    """Counts the lines of a file. A file that does not exist is no case for a retry, but for a person."""
    return corpus.decode(Path(path).read_bytes()).count("\n")


@app.task(bind=True)
def crash(self: Any) -> None:
    """Takes the process with it that runs it, each time."""
    diary.note("begin", self.request)
    os.kill(os.getpid(), signal.SIGKILL)


@app.task(bind=True)
def tick(self: Any) -> None:
    """Notes the slot of the periodic entry that it belongs to."""
    diary.note("tick", self.request, self.request.slot)


@app.task(bind=True)
def tidy(self: Any) -> None:
    """Runs on the node that holds its periodic entry; notes its fencing token."""
    diary.note("tidy", self.request, self.request.fence)


@app.task(bind=True)
def refresh(self: Any) -> None:
    """Runs in each worker, as one that empties a cache."""
    diary.note("refresh", self.request)


if RELEASE > 1:

    @app.task(bind=True)
    def archive(self: Any) -> str:
        """Came with the second release."""
        return str(self.request.hostname)
