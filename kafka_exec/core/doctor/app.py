"""Findings about an app: where its settings come from, what it gives up, and what is missing around it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from kafka_exec.core.nodes.heartbeat import NodeState, Seen
from kafka_exec.core.overview.problems import Problem, Severity


class AppFacts(NamedTuple):
    """The facts of an app.

    Attributes:
        settings: our settings that are not the defaults, each with its value and where it comes from.
        advice: the settings that mean nothing here, or give up a guarantee, each with the reason and what to do.
        results: the URL of the result back end, without password; empty: there is none.
        has_our_results: the results are in Kafka.
        entries: the number of periodic entries that are switched on.
    """

    settings: Mapping[str, tuple[Any, str]] = {}
    advice: Mapping[str, str] = {}
    results: str = ""
    has_our_results: bool = True
    entries: int = 0


def of_app(app: AppFacts, nodes: Sequence[tuple[Seen, NodeState]], queues: Mapping[str, int]) -> Iterator[Problem]:
    """The findings about an app and its nodes.

    Args:
        queues: the number of partitions of each work queue.
    """
    for name, (value, source) in sorted(app.settings.items()):
        yield Problem(Severity.OK, f"{name} is {value!r}, from {source}", "")
    for written, reason in sorted(app.advice.items()):
        yield Problem(Severity.WARNING, f"{written}: {reason}", "")
    if not app.has_our_results:
        where = f"in {app.results}" if app.results else "not kept"
        text = f"the results are {where}: there are no durable tasks, executions or histories"
        yield Problem(Severity.WARNING, text, "result_backend = broker_url")
    yield from _of_nodes(app, [seen for seen, state in nodes if state is NodeState.ALIVE], queues)


def _of_nodes(app: AppFacts, alive: Sequence[Seen], queues: Mapping[str, int]) -> Iterator[Problem]:
    if not alive:
        yield Problem(Severity.WARNING, "no node is alive", "celery -A APP worker")
    elif not any(seen.beat.control for seen in alive) and app.has_our_results:
        yield Problem(
            Severity.WRONG,
            "no node drives chords and suspensions: their bodies do not come",
            "celery -A APP kafka control-plane",
        )
    if app.entries and not any(seen.beat.beat for seen in alive):
        yield Problem(
            Severity.WRONG,
            f"{app.entries} periodic entries are due, and no beat is alive",
            "celery -A APP beat -S kafka-exec",
        )
    for queue, partitions in sorted(queues.items()):
        workers = sum(queue in seen.beat.queues for seen in alive)
        if workers > partitions:
            text = f"{workers} workers read {queue}, which has {partitions} partitions: some get only what others give them"
            yield Problem(Severity.WARNING, text, f"kafka-topics --alter --partitions {workers}")
