"""Traces of tasks by OpenTelemetry: publishing, waiting and running, in one trace over delays, retries and canvases.

It needs ``kafka_exec[otel]``. Names of attributes: https://opentelemetry.io/docs/specs/semconv/messaging/kafka/
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

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


#: The span with which this thread or greenlet publishes a message.
_publishing: ContextVar[trace.Span | None] = ContextVar("kafka_exec_publishing", default=None)

#: The attribute of a task's request that holds the span of its run, and what puts the context before it back.
_RUN = "kafka_exec_span"


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
        if (failed := _publishing.get()) is not None:  # the one before has raised, and nobody says so
            failed.set_status(StatusCode.ERROR, "it was not published")
            self._has_published()
        if _is_official_in_use():
            return
        context, links = None, []
        request = current_task.request if current_task else None
        if request is not None and (request.id, request.get("task")) == (headers.get("id"), sender):  # a retry
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
        _publishing.set(span)

    def _has_published(self, **_: Any) -> None:
        if (span := _publishing.get()) is not None:
            _publishing.set(None)
            span.end()

    def _begins(self, sender: Any, **_: Any) -> None:
        task, request = sender, sender.request
        # What runs where it is called is a part of what calls it.
        context = contexts.get_current() if request.is_eager else _context_of(request.get)
        place = request.get(RECORD_HEADER) or {}
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
        setattr(request, _RUN, (span, contexts.attach(trace.set_span_in_context(span, context))))

    def _fails(self, sender: Any, exception: BaseException, **_: Any) -> None:
        if (run := sender.request.get(_RUN)) is not None:
            run[0].record_exception(exception)
            run[0].set_status(StatusCode.ERROR, str(exception))

    def _is_retried(self, request: Any, reason: Any, **_: Any) -> None:
        if (run := request.get(_RUN)) is not None:
            run[0].set_attribute("celery.retry.reason", str(reason))

    def _ends(self, task: Any, state: str | None = None, **_: Any) -> None:
        if (run := task.request.get(_RUN)) is not None:
            span, token = run
            span.set_attributes(_told({"celery.state": state}))
            span.end()
            contexts.detach(token)


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
