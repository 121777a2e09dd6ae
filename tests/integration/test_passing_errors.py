"""A broker that stands still: what passes is waited for, what lasts is an OperationalError in bounded time.

One broker is paused (SIGSTOP) once for all that is tried, each in a thread or process of its own, on topics of its own.
"""

from __future__ import annotations

import ctypes
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from celery import Celery
from confluent_kafka import TopicPartition
from confluent_kafka.admin import OffsetSpec
from kombu.exceptions import OperationalError

from kafka_exec.broker import EmbeddedKafka
from kafka_exec.kafka.cluster.admin import administration
from kafka_exec.kafka.publish.publisher import Publisher
from kafka_exec.settings.appconf import broker_home
from tests.integration.app import make_app
from tests.integration.workers import Crew, crew, until

#: For so long the broker stands still, seconds.
PAUSE = 5.0

#: What a busy machine may take beside all that has a bound of its own, seconds.
SLACK = 10.0


class Attempt:
    """A call in a thread of its own. Its outcome is what it returned or raised; ``took``: after so many seconds."""

    def __init__(self, name: str, call: Callable[[], Any]) -> None:
        self.name = name
        self.outcome: Any = None
        self.took = 0.0
        self._call = call
        self._began = time.monotonic()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            self.outcome = self._call()
        except Exception as error:
            self.outcome = error
        self.took = time.monotonic() - self._began

    def __repr__(self) -> str:
        return f"{self.name} after {self.took:.1f} s: {self.outcome!r}"

    def finish(self, timeout: float) -> None:
        self._thread.join(timeout)
        assert not self._thread.is_alive(), f"{self.name} has not come back within {timeout:.0f} s"


def apps(kafka: EmbeddedKafka, **conf: Any) -> dict[str, Celery]:
    """An app for each thing to try, on topics of its own; all but the first one's are there."""
    found = {}
    for name in ("new queue", "ordering key", "deduplication", "countdown", "known queue", "state", "queue size"):
        url = f"{kafka.url}/t{uuid.uuid4().hex[:8]}"
        found[name] = make_app(url, url, **conf)
        if name != "new queue":
            found[name].tasks["work"].delay()
    return found


def attempts(found: dict[str, Celery]) -> list[Attempt]:
    """Tries all that talks to the cluster in a way of its own."""

    def size() -> int:
        with found["queue size"].connection_for_read() as connection:
            return int(connection.default_channel.queue_declare("celery", passive=True).message_count)

    calls: dict[str, Callable[[], Any]] = {
        "new queue": lambda: found["new queue"].tasks["work"].delay(),
        "ordering key": lambda: found["ordering key"].tasks["work"].apply_async(ordering_key="k"),
        "deduplication": lambda: found["deduplication"].tasks["work"].apply_async(deduplication_id="k"),
        "countdown": lambda: found["countdown"].tasks["work"].apply_async(countdown=3600),
        "known queue": lambda: found["known queue"].tasks["work"].delay(),
        "state": lambda: found["state"].AsyncResult("unknown").state,
        "queue size": size,
    }
    return [Attempt(name, call) for name, call in calls.items()]


@pytest.mark.timed
def test_a_broker_that_pauses_for_five_seconds_costs_nothing_but_time(fragile: EmbeddedKafka, tmp_path: Path) -> None:
    with crew(fragile, tmp_path, backend="same") as made:
        steady = made.start("steady", "-c", "1")
        made.ready(steady)
        known = apps(fragile)
        fragile.pause()
        paused = time.monotonic()
        tried = attempts(known)
        tried.append(Attempt("executions", lambda: made.command("kafka", "executions")))
        late = made.start("late", "-c", "1")
        time.sleep(max(0.0, PAUSE - (time.monotonic() - paused)))
        fragile.resume()
        for attempt in tried:
            attempt.finish(15.0 + SLACK)
        print(*tried, sep="\n")
        assert [attempt for attempt in tried if isinstance(attempt.outcome, Exception)] == []
        made.ready(late)
        made.effects.wait_for(made.send("work", number=20))
        assert {effect.worker for effect in made.effects.all()} == {"steady", "late"}
        for worker in (steady, late):
            for trouble in ("Traceback", "starting over", "Unrecoverable", "ChannelFailed"):
                assert trouble not in worker.output, worker.output
        # A connection is lost only when it is closed: the consumer of tasks goes on, and what it runs is its own.
        assert "Connection to broker lost" not in steady.output


def test_who_knows_the_leaders_from_before_an_election_asks_for_them_again(fragile: EmbeddedKafka) -> None:
    app = make_app(f"{fragile.url}/t{uuid.uuid4().hex[:8]}")
    app.tasks["work"].delay()
    space = broker_home(app)
    topic = space.topics.queue("celery")
    partitions = [TopicPartition(topic, number) for number in range(space.cluster.topics.partitions(topic) or 0)]
    with administration(space.cluster) as admin:
        before = admin.offsets(partitions, OffsetSpec.latest())
        fragile.stop()
        fragile.start()
        assert admin.offsets(partitions, OffsetSpec.latest()) == before
    assert sum(before.values()) == 1


@pytest.mark.timed
def test_a_broker_that_stays_paused_gives_operational_errors_in_bounded_time(fragile: EmbeddedKafka) -> None:
    known = apps(fragile, kafka_exec_publish_timeout=2, broker_connection_timeout=1)
    fragile.pause()
    tried = attempts(known)
    for attempt in tried:
        attempt.finish(30.0 + SLACK)
    print(*tried, sep="\n")
    assert [attempt for attempt in tried if not isinstance(attempt.outcome, OperationalError)] == []
    published = [attempt for attempt in tried if attempt.name not in ("state", "queue size")]
    # The publish timeout for all that comes before the message, and once more for the message.
    assert max(attempt.took for attempt in published) < 2 * 2 + SLACK


# -- clients that have failed for good -----------------------------------------------------------------------------------


def break_for_good(publisher: Publisher) -> None:
    """Makes librdkafka believe that its producer has met an error of which it cannot recover."""
    library = next(
        line.split()[-1] for line in Path("/proc/self/maps").read_text().splitlines() if "librdkafka" in line
    )
    fail = ctypes.CDLL(library).rd_kafka_test_fatal_error
    fail.argtypes = [ctypes.c_void_p, ctypes.c_int, ctypes.c_char_p]
    # The client's handle is what follows the header of its Python object.
    handle = ctypes.c_void_p.from_address(id(publisher._handle) + object.__basicsize__).value
    assert fail(handle, 45, b"planted") == 0


@pytest.fixture
def made(kafka: EmbeddedKafka, tmp_path: Path) -> Iterator[Crew]:
    with crew(kafka, tmp_path, backend="same") as found:
        yield found


def test_a_producer_that_has_failed_for_good_is_replaced(made: Crew) -> None:
    app = made.app
    app.tasks["work"].delay()
    publisher = app.backend.space.cluster.publisher
    for round_number in range(3):
        broken = publisher._handle
        break_for_good(publisher)
        sent = [app.tasks["work"].delay() for _ in range(3)]
        app.backend.store_result(sent[0].id, round_number, "SUCCESS")
        assert sent[0].get(timeout=30) == round_number
        assert publisher._handle is not broken
        until(lambda: publisher.serve() or not publisher._broken, what="the end of the broken producer")
    assert made.backlog() == 10
