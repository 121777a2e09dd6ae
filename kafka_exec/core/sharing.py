"""Which other worker runs a task of this one's partitions: one that has a slot free, or that knows the task at all."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import NamedTuple

from kafka_exec.core.nodes import Heartbeat


class Grant(NamedTuple):
    """A task that its partition's owner gives to another incarnation to run.

    Attributes:
        to: the incarnation.
        topic, partition, offset: where the task's record is.
        attempts: how often it was begun before.
    """

    to: str
    topic: str
    partition: int
    offset: int
    attempts: int

    @staticmethod
    def encode(grants: Sequence[Grant]) -> bytes:
        """The value of a record in the log of heartbeats."""
        return json.dumps({"grants": grants}).encode()

    @staticmethod
    def decode(value: bytes | None) -> list[Grant]:
        """The grants of a record; none if it is something else."""
        try:
            return [
                Grant(str(to), str(topic), int(partition), int(offset), int(attempts))
                for to, topic, partition, offset, attempts in json.loads(value or b"null")["grants"]
            ]
        except (ValueError, TypeError, KeyError):
            return []


def is_fresh(granted: float, now: float, period: float) -> bool:
    """Whether what was granted may still begin: later its owner may have ceased to wait, and begun it elsewhere.

    Args:
        granted: when this incarnation took it, seconds of a steady clock, as ``now``.
        period: seconds between two heartbeats.
    """
    return now - granted < period


def idle_peers(peers: Sequence[Heartbeat], queue: str, waiting: int) -> list[str]:
    """Who may have a task each of so many that wait in a queue, by the free slots of who consumes it; the idlest first."""
    free = {peer.boot: peer.slots - peer.active for peer in peers if queue in peer.queues and peer.slots > peer.active}
    chosen: list[str] = []
    while len(chosen) < waiting and any(free.values()):
        for boot in sorted(free, key=lambda each: -free[each]):
            if free[boot] and len(chosen) < waiting:
                free[boot] -= 1
                chosen.append(boot)
    return chosen


def who_knows(peers: Sequence[Heartbeat], queue: str, task: str) -> str | None:
    """The one of those that consume a queue and know a task that has the most free slots; None if there is none."""
    able = [peer for peer in peers if queue in peer.queues and task in (peer.tasks or ())]
    return max(able, key=lambda peer: (peer.slots - peer.active, peer.boot)).boot if able else None


def is_given_up(since: float, now: float, timeout: float) -> bool:
    """Whether a task that nobody knows has waited for long enough; all in seconds."""
    return now - since > timeout
