"""An app whose processes write their spans to a file, one JSON object a line."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from typing import Any

from celery import Celery, Task
from celery.signals import worker_process_init
from opentelemetry.instrumentation.celery import CeleryInstrumentor
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor, SpanExporter, SpanExportResult

import kafka_exec
from kafka_exec.tracing import KafkaExecInstrumentor


class FileExporter(SpanExporter):
    """Appends each span to a file: a line is written at once, so that those of several processes do not mix."""

    def __init__(self, path: str) -> None:
        self._path = path

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        lines = "".join(json.dumps(json.loads(span.to_json())) + "\n" for span in spans)
        file = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        try:
            os.write(file, lines.encode())
        finally:
            os.close(file)
        return SpanExportResult.SUCCESS


def instrument(path: str, *, official: bool) -> TracerProvider:
    """Has this process trace its tasks, with the official instrumentation beside ours or without."""
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(FileExporter(path)))
    KafkaExecInstrumentor().instrument(tracer_provider=provider)  # before the other one: the order does not matter
    if official:
        CeleryInstrumentor().instrument(tracer_provider=provider)
    return provider


def make_app(url: str, backend: str) -> Celery:
    app = Celery("traced", broker=url, backend=backend, set_as_current=False)

    @app.task(name="first", bind=True, shared=False, max_retries=3)
    def first(self: Task, file: str) -> str:
        """Kills its process at its first run, and is retried after its second."""
        if not os.path.exists(file):
            open(file, "x").close()
            os._exit(9)
        if self.request.retries == 0:
            raise self.retry(countdown=0.2)
        return "done"

    @app.task(name="part", shared=False)
    def part(before: Any) -> int:
        return 1

    @app.task(name="body", bind=True, shared=False)
    def body(self: Task, parts: list[int]) -> Any:
        """Waits for a callback, so that it runs twice."""
        return [sum(parts), self.suspend("approval", timeout=60)]

    @app.task(name="fails", shared=False)
    def fails() -> None:
        raise ValueError("no such order")

    return app


if "SPANS" in os.environ:
    app = make_app(os.environ["BROKER_URL"], os.environ["RESULT_BACKEND"])
    arguments = {"path": os.environ["SPANS"], "official": bool(os.environ.get("OFFICIAL"))}
    instrument(**arguments) if os.environ["POOL"] != "prefork" else worker_process_init.connect(
        lambda **_: instrument(**arguments), weak=False
    )

assert kafka_exec
