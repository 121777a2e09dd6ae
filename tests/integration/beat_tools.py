"""The work of beats, read from Kafka: holders of entries, fired slots, and the tasks published for them."""

from __future__ import annotations

import json
import time
from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from kafka_exec.core.beat.claimlog import ClaimLog, RecordKind, Signal, Verdict
from kafka_exec.core.message.envelope import decode
from tests.integration.records import committed
from tests.integration.workers import Crew, until


@dataclass
class Fired:
    """A firing: which slot, by whom, and when it was in the log, epoch seconds."""

    slot: float
    by: str
    at: float


class Diary:
    """The log of claims of a crew's prefix, read anew with each question."""

    def __init__(self, crew: Crew) -> None:
        self._crew = crew

    def read(self) -> tuple[ClaimLog, dict[str, list[Fired]]]:
        """The state at the end, and all firings by entry. Each must be by who held the entry."""
        log, fired = ClaimLog(), defaultdict[str, list[Fired]](list)
        for record in committed(self._crew.kafka, f"{self._crew.prefix}.sync"):
            signal = Signal.decode(record.value())
            at = record.timestamp()[1] / 1000
            if record.offset() > log.next and log.next == 0:
                log.whole = False
            verdict = log.take(signal, record.offset(), at)
            if signal.kind is RecordKind.HANDLING:
                assert verdict is Verdict.ACCEPTED, f"{signal} is fired by who does not hold it"
                fired[signal.entry].append(Fired(signal.slot or 0.0, signal.name, at))
        return log, fired

    def holders(self) -> dict[str, str]:
        """The names of the nodes that hold entries, by entry."""
        log, _ = self.read()
        return {entry: standing.name for entry, standing in log.all().items() if standing.holder}

    def until(self, condition: Callable[[ClaimLog, Mapping[str, list[Fired]]], Any], what: str = "") -> Any:
        """Waits until the log is as it should be; what the condition returned."""
        admin, topic = self._crew.kafka.admin(), f"{self._crew.prefix}.sync"

        def ask() -> Any:
            time.sleep(0.1)
            # To list the topics of all tests would take longer than to read this one.
            return admin.list_topics(topic, timeout=10).topics[topic].partitions and condition(*self.read())

        return until(ask, what=what)

    def until_held(self, number: int, by: str | None = None) -> dict[str, str]:
        """Waits until so many entries are held, by a node if one is named; who holds them."""

        def held(log: ClaimLog, fired: object) -> dict[str, str]:
            found = {entry: standing.name for entry, standing in log.all().items() if standing.holder}
            names = [name for name in found.values() if by in (None, name)]
            return found if len(names) >= number else {}

        found: dict[str, str] = self.until(held, f"{number} entries held by {by or 'anybody'}")
        return found

    def until_fired(self, entry: str, number: int, after: float = 0.0) -> list[Fired]:
        """Waits until an entry was fired so often after a time; those firings."""

        def fired_so_often(log: object, fired: Mapping[str, list[Fired]]) -> list[Fired]:
            found = [each for each in fired.get(entry, []) if each.at > after]
            return found if len(found) >= number else []

        found: list[Fired] = self.until(fired_so_often, f"{number} firings of {entry}")
        return found


def published(crew: Crew, queue: str = "celery") -> dict[str, list[float]]:
    """The slots of the task messages in a queue, by ordering key, in the order of the slots."""
    slots = defaultdict[str, list[float]](list)
    for record in committed(crew.kafka, f"{crew.prefix}.queue.{queue}"):
        headers = decode(record.headers(), record.value()).headers
        if "slot" in headers:
            slots[headers["ordering_key"]].append(headers["slot"])
    return {key: sorted(found) for key, found in slots.items()}


def assert_each_once(crew: Crew, periods: Mapping[str, float]) -> dict[str, list[float]]:
    """Each slot of each entry had its task published once, with none left out, and was fired once; the slots, by entry.

    What a checkpoint has made needless is not in the log of claims any more.
    """
    _, fired = Diary(crew).read()
    tasks = published(crew)
    for entry, period in periods.items():
        slots = tasks.get(f"beat {entry}", [])
        steps = [round((after - before) / period, 3) for before, after in pairwise(slots)]
        assert set(steps) <= {1.0}, f"{entry}: {json.dumps(slots)}"
        in_log = [each.slot for each in fired[entry]]
        assert slots, f"{entry} was never fired"
        assert in_log == slots[len(slots) - len(in_log) :], f"{entry}: {in_log} in the log, {slots} in the queue"
    return {entry: tasks[f"beat {entry}"] for entry in periods}


def name_of(beat: Any) -> str:
    """The node name of a beat's process, without its host."""
    return f"beat-{beat.process.pid}@"
