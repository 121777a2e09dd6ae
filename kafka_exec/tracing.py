"""Traces of tasks by OpenTelemetry: publishing, waiting and running, in one trace over delays, retries and canvases.

It needs ``kafka_exec[otel]``. Names of attributes: https://opentelemetry.io/docs/specs/semconv/messaging/kafka/
"""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, NamedTuple

from celery import current_task
from celery.signals import after_task_publish, before_task_publish, task_failure, task_postrun, task_retry
from opentelemetry import context as contexts
from opentelemetry import propagate, trace
from opentelemetry.instrumentation.instrumentor import BaseInstrumentor  # type: ignore[attr-defined]
from opentelemetry.trace import Link, SpanKind, StatusCode

from kafka_exec import signals
from kafka_exec.about import __version__
from kafka_exec.backend.control import chords
from kafka_exec.core.message.envelope import FENCE, ORDERING_KEY, RECORD_HEADER, trace_context

__all__ = ("KafkaExecInstrumentor",)

#: The module of Celery's official instrumentation, which makes the spans of publishing and running where it is in use.
_OFFICIAL = "opentelemetry.instrumentation.celery"


class _Run(NamedTuple):
    """The span of a run, and what puts the context before it back."""

    span: trace.Span
    token: Any


class KafkaExecInstrumentor(BaseInstrumentor):  # type: ignore[misc]
    """Makes spans of tasks: ``publish NAME``, ``wait NAME``, and ``run NAME`` for each attempt.

    Beside Celery's official instrumentation it makes the spans of waiting only, and adds its attributes to the official
    spans of runs. Attempts of a message whose worker was lost are children of the span that has published it. A retry is
    published in the same place of the trace, with a link to the run that it repeats.

    ``opentelemetry-instrument celery …`` finds it by itself; a program calls ``KafkaExecInstrumentor().instrument()``, with
    a prefork pool in a receiver of Celery's ``worker_process_init``.
    """

    _tracer: trace.Tracer

    def instrumentation_dependencies(self) -> Collection[str]:
        return ("celery >= 5.5",)

    def _instrument(self, **kwargs: Any) -> None:
        self._tracer = trace.get_tracer("kafka_exec", __version__, kwargs.get("tracer_provider"))
        self._here = threading.local()
        self._runs: dict[str, _Run] = {}
        for signal, receiver in self._receivers():
            signal.connect(receiver, weak=False)
        chords.within = _within

    def _uninstrument(self, **kwargs: Any) -> None:
        chords.within = chords.within_none
        for signal, receiver in self._receivers():
            signal.disconnect(receiver)

    def _receivers(self) -> list[tuple[Any, Any]]:
        return [
            (before_task_publish, self._publishes),
            (after_task_publish, self._has_published),
            (signals.begun, self._begins),
            (task_failure, self._fails),
            (task_retry, self._is_retried),
            (task_postrun, self._ends),
        ]

    def _publishes(self, sender: str, headers: dict[str, Any], routing_key: str | None = None, **_: Any) -> None:
        self._has_published()  # an earlier message of this thread, if its publishing has raised
        if _is_official_in_use():
            return
        context, links = None, []
        request = current_task.request if current_task else None
        if request is not None and request.id == headers.get("id"):  # a retry
            context, links = _context_of(request.get), [Link(trace.get_current_span().get_span_context())]
        attributes = {
            "messaging.system": "kafka",
            "messaging.operation.name": "publish",
            "messaging.operation.type": "send",
            "messaging.destination.name": routing_key,
            "messaging.message.id": headers.get("id"),
            "celery.task_name": sender,
        }
        span = self._tracer.start_span(f"publish {sender}", context, SpanKind.PRODUCER, _told(attributes), links)
        propagate.inject(headers, trace.set_span_in_context(span))
        self._here.publishing = span

    def _has_published(self, **_: Any) -> None:
        span, self._here.publishing = getattr(self._here, "publishing", None), None
        if span is not None:
            span.end()

    def _begins(self, sender: Any, **_: Any) -> None:
        task, request = sender, sender.request
        context, place = _context_of(request.get), request.get(RECORD_HEADER) or {}
        attributes = _told(
            {
                "messaging.system": "kafka",
                "messaging.destination.name": place.get("topic"),
                "messaging.destination.partition.id": _text(place.get("partition")),
                "messaging.kafka.offset": place.get("offset"),
                "messaging.kafka.message.key": request.get(ORDERING_KEY),
                "messaging.message.id": request.id,
                "celery.task_name": task.name,
                "kafka_exec.attempt": request.retries + 1,
                "kafka_exec.fence": request.get(FENCE),
                "kafka_exec.redelivered": (request.delivery_info or {}).get("redelivered"),
            }
        )
        now = time.time_ns()
        if (published := place.get("timestamp")) is not None:
            since = min(now, int(published * 1e9))  # the broker's clock may be ahead
            self._tracer.start_span(f"wait {task.name}", context, attributes=attributes, start_time=since).end(now)
        if _is_official_in_use():
            trace.get_current_span().set_attributes(attributes)
            return
        span = self._tracer.start_span(
            f"run {task.name}",
            context,
            SpanKind.CONSUMER,
            {**attributes, "messaging.operation.name": "process", "messaging.operation.type": "process"},
        )
        self._runs[request.id] = _Run(span, contexts.attach(trace.set_span_in_context(span, context)))

    def _fails(self, task_id: str, exception: BaseException, **_: Any) -> None:
        if (run := self._runs.get(task_id)) is not None:
            run.span.record_exception(exception)
            run.span.set_status(StatusCode.ERROR, str(exception))

    def _is_retried(self, request: Any, reason: Any, **_: Any) -> None:
        if (run := self._runs.get(request.id)) is not None:
            run.span.set_attribute("celery.retry.reason", str(reason))

    def _ends(self, task_id: str, state: str | None = None, **_: Any) -> None:
        if (run := self._runs.pop(task_id, None)) is not None:
            run.span.set_attributes(_told({"celery.state": state}))
            run.span.end()
            contexts.detach(run.token)


def _is_official_in_use() -> bool:
    module = sys.modules.get(_OFFICIAL)
    return module is not None and bool(module.CeleryInstrumentor().is_instrumented_by_opentelemetry)


@contextmanager
def _within(headers: Mapping[str, Any]) -> Iterator[None]:
    """The context of a message that another process has prepared: a chord's body."""
    token = contexts.attach(_context_of(headers.get))
    try:
        yield
    finally:
        contexts.detach(token)


def _context_of(get: Callable[[str], Any]) -> contexts.Context:
    """The context in which a task's message was published. ``get``: returns a header of the message, or None."""
    return propagate.extract(trace_context(get))


def _text(value: Any) -> str | None:
    return None if value is None else str(value)


def _told(attributes: Mapping[str, Any]) -> dict[str, Any]:
    """The attributes that have a value that OpenTelemetry takes."""
    return {name: value for name, value in attributes.items() if isinstance(value, str | int | float)}
