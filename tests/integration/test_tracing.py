"""Traces: one for all that follows from a call, whatever lies between, with Celery's official instrumentation or without."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from celery import Celery, chain, chord
from confluent_kafka import Consumer, TopicPartition
from confluent_kafka import Message as Record
from opentelemetry.instrumentation.celery import CeleryInstrumentor
from opentelemetry.sdk.trace import TracerProvider

from kafka_exec import resume
from kafka_exec.broker import EmbeddedKafka
from kafka_exec.tracing import KafkaExecInstrumentor
from tests.integration.traced_app import instrument, make_app
from tests.integration.workers import Crew, Worker, crew, until


class TracedWorker(Worker):
    app = "tests.integration.traced_app"


class Span(NamedTuple):
    """A span that a process has ended."""

    name: str
    id: str
    parent: str | None
    trace: str
    attributes: dict[str, Any]
    status: str
    links: list[str]


class Traced(NamedTuple):
    """A worker and a publisher whose spans are in a file."""

    made: Crew
    app: Celery
    provider: TracerProvider
    path: Path
    pool: str
    official: bool

    def spans(self) -> list[Span]:
        """The spans of all processes, in the order in which they have ended."""
        # Of a line that is being written the beginning may be there already.
        lines = self.path.read_text().splitlines(keepends=True) if self.path.exists() else []
        return [
            Span(
                found["name"],
                found["context"]["span_id"],
                found["parent_id"],
                found["context"]["trace_id"],
                found["attributes"],
                found["status"]["status_code"],
                [link["context"]["span_id"] for link in found["links"]],
            )
            for found in (json.loads(line) for line in lines if line.endswith("\n"))
        ]

    def named(self, *names: str) -> list[Span]:
        return [span for span in self.spans() if span.name in names]

    def runs(self, task: str) -> list[Span]:
        return self.named(f"run {task}", f"run/{task}")

    def published(self, task: str) -> list[Span]:
        return self.named(f"publish {task}", f"apply_async/{task}")

    def record(self, topic: str, partition: int, offset: int) -> Record:
        consumer = Consumer({**self.made.kafka.client_config(), "group.id": "reader"})
        try:
            consumer.assign([TopicPartition(topic, partition, offset)])
            found = consumer.poll(30)
            assert found is not None
            return found
        finally:
            consumer.close()


@pytest.fixture(
    params=[("prefork", False), ("prefork", True), ("threads", False), ("threads", True)], ids=lambda found: f"{found}"
)
def traced(kafka: EmbeddedKafka, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Traced]:
    path, (pool, official) = tmp_path / "spans", request.param
    with crew(kafka, tmp_path, "same") as made:
        provider = instrument(str(path), official=official)
        env = {"SPANS": str(path), "OFFICIAL": "1" if official else "", "POOL": pool}
        made.start("w", "-c", "2", "-P", pool, kind=TracedWorker, env=env)
        app = make_app(made.url, made.url)
        try:
            yield Traced(made, app, provider, path, pool, official)
        finally:
            KafkaExecInstrumentor().uninstrument()
            if official:
                CeleryInstrumentor().uninstrument()
            app.close()


def attempt(span: Span) -> tuple[int, bool]:
    return span.attributes["kafka_exec.attempt"], span.attributes["kafka_exec.redelivered"]


def test_all_that_follows_from_a_call_is_one_trace(traced: Traced, tmp_path: Path) -> None:
    tasks = traced.app.tasks
    file = tmp_path / "begun"
    is_killed = is_prefork = traced.pool == "prefork"
    if not is_killed:
        file.touch()  # a run that ends its process would end the worker
    with traced.provider.get_tracer("test").start_as_current_span("order") as order:
        parts = chord([tasks["part"].s(), tasks["part"].s()], tasks["body"].s())
        result = chain(tasks["first"].si(str(file)), parts).apply_async(countdown=0.3)
    resume(traced.app, "approval", "yes")
    assert result.get(timeout=60) == [2, "yes"]
    lost = 1 if is_killed else 0  # of a run that has ended its process only the wait is told
    expected = {
        "order": 1,
        "publish first": 2,
        "wait first": 2 + lost,
        "run first": 2,
        "publish part": 2,
        "wait part": 2,
        "run part": 2,
        # The control plane publishes it in the worker's process, which is traced here if it runs tasks itself.
        "publish body": 1 if is_prefork else 2,
        "wait body": 2,
        "run body": 2,
    }

    def names() -> Counter[str]:
        return Counter(span.name.replace("apply_async/", "publish ").replace("run/", "run ") for span in traced.spans())

    until(lambda: names().total() >= sum(expected.values()), what="all spans")
    assert names() == expected
    root = order.get_span_context()
    assert {span.trace for span in traced.spans()} == {f"0x{root.trace_id:032x}"}
    # Those of several processes are in no order.
    one, two = sorted(traced.published("first"), key=lambda span: span.parent != f"0x{root.span_id:016x}")
    first, again = sorted(traced.runs("first"), key=attempt)
    waits = sorted(traced.named("wait first"), key=attempt)
    assert [span.parent for span in (*waits, first, again)] == [one.id] * (lost + 1) + [two.id, one.id, two.id]
    if traced.official:
        assert two.parent == first.id
    else:
        assert (two.parent, two.links) == (one.id, [first.id])
    told = [attempt(span) for span in waits]
    assert told == [(1, False)] * lost + [(1, is_killed), (2, False)]


def test_a_run_tells_its_place_and_its_error(traced: Traced) -> None:
    called = traced.app.tasks["fails"].apply_async(ordering_key="order 7")
    with pytest.raises(ValueError, match="no such order"):
        called.get(timeout=60)
    until(lambda: len(traced.runs("fails")) == 1, what="the span of the run")
    (run,), (published,), (wait,) = traced.runs("fails"), traced.published("fails"), traced.named("wait fails")
    assert (run.status, run.parent, wait.parent) == ("ERROR", published.id, published.id)
    place = {name.removeprefix("messaging."): value for name, value in run.attributes.items()}
    found = traced.record(place["destination.name"], int(place["destination.partition.id"]), place["kafka.offset"])
    assert found.key() == b"order 7"
    assert place["kafka.message.key"] == "order 7"
    assert dict(found.headers())["traceparent"].decode().split("-")[1:3] == [run.trace[2:], published.id[2:]]
