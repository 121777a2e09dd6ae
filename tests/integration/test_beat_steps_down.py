"""A beat whose stepping down fails, as while a broker is away, goes on all the same, and as another incarnation."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import pytest

from kafka_exec.broker import EmbeddedKafka
from kafka_exec.core.beat.agenda import Plan
from kafka_exec.core.beat.claim import ClaimState
from kafka_exec.core.beat.schedule import Grid, Policy
from kafka_exec.core.cluster.names import Topics
from kafka_exec.core.cluster.settings import Settings
from kafka_exec.errors import ConnectionFailed
from kafka_exec.kafka.beat.exclusive import Exclusive
from kafka_exec.kafka.beat.synclog import SyncLog
from kafka_exec.kafka.client.properties import client_properties
from kafka_exec.kafka.cluster.cluster import Cluster
from kafka_exec.kafka.cluster.logreader import LogReader
from kafka_exec.kafka.publish.transactions import Lost, Transactor
from tests.integration.workers import PATIENCE, until


class Host:
    """Has one entry, which is not due."""

    def __init__(self) -> None:
        self._told = False

    def plans(self) -> Mapping[str, Plan] | None:
        told, self._told = self._told, True
        return None if told else {"e": Plan(Grid(1e6), Policy(), "h")}

    def acquired(self, entry: str) -> None: ...

    def released(self, entry: str) -> None: ...

    def stop(self, entries: Iterable[str], reason: str) -> None: ...

    def lease(self, until: float) -> None: ...

    def ended(self) -> Sequence[str]:
        return ()


@pytest.fixture
def beat(kafka: EmbeddedKafka, prefix: str) -> Iterator[Exclusive]:
    settings = Settings()
    cluster = Cluster(client_properties(servers=kafka.bootstrap_servers, settings=settings), settings)
    host: Any = Host()
    made = Exclusive(cluster, Topics(prefix), "beat@test", host)
    made.start()
    yield made
    assert made.stop(PATIENCE)
    cluster.close(5.0)


def fail_once(monkeypatch: pytest.MonkeyPatch, kind: type, name: str, error: Exception) -> list[Exception]:
    """Has the next call of a method raise, instead of its work. Returns the errors to come."""
    errors, former = [error], getattr(kind, name)

    def call(*args: Any, **more: Any) -> Any:
        if errors:
            raise errors.pop()
        return former(*args, **more)

    monkeypatch.setattr(kind, name, call)
    return errors


STEPS = [(Host, "stop"), (SyncLog, "close"), (Transactor, "close"), (LogReader, "unsubscribe")]


@pytest.mark.parametrize(("kind", "step"), STEPS, ids=[f"{kind.__name__}.{step}" for kind, step in STEPS])
def test_a_beat_goes_on_after_an_error_while_it_steps_down(
    beat: Exclusive, kind: type, step: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    held = {ClaimState.CLAIMED_BY_NODE: 1}
    until(lambda: beat.states() == held, what="a claim")
    former = beat._node.incarnation
    failing = fail_once(monkeypatch, kind, step, ConnectionFailed("the broker is away"))
    turning = fail_once(monkeypatch, Exclusive, "_turn", Lost("the broker is away"))
    until(lambda: not failing and not turning, what="both errors")
    until(lambda: beat.states() == held and beat._opened and not beat._is_stepping_down, what="another claim")
    assert beat._node.incarnation != former
