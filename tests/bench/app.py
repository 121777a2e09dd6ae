"""The application that is measured: the same settings for every broker, which ``BENCH_URL`` names."""

from __future__ import annotations

import json
import os

from celery import Celery, signals

from tests.bench import board, ceiling, servers

URL = os.environ["BENCH_URL"]
if URL.startswith("kafka-exec"):
    import kafka_exec  # noqa: F401
    from kafka_exec.transport import sources

    if servers.UNJOURNALED in os.environ:
        sources.Journal = lambda *arguments: None  # type: ignore[misc,assignment]
ceiling.register()

app = Celery("bench", broker=URL, backend=os.environ.get("BENCH_RESULTS"))
app.conf.update(
    broker_connection_retry_on_startup=True,
    broker_transport_options=json.loads(os.environ.get("BENCH_TRANSPORT_OPTIONS", "{}")),
    task_acks_late=True,
    task_default_queue=os.environ["BENCH_QUEUE"],
    task_ignore_result="BENCH_RESULTS" not in os.environ,
    worker_prefetch_multiplier=int(os.environ["BENCH_PREFETCH_MULTIPLIER"]),
)


@signals.worker_ready.connect
def on_ready(**kwargs: object) -> None:
    """Called in the worker's main process."""
    board.ready()


@app.task
def tick() -> None:
    """Does nothing but being counted."""
    board.end()


@app.task
def stamp(sequence: int) -> None:
    """Notes when it started."""
    board.start(sequence)


@app.task
def add(x: int, y: int) -> int:
    """Has a result."""
    return x + y


@app.task
def total(numbers: list[int]) -> int:
    """The body of a chord."""
    return sum(numbers)
