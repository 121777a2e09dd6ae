"""Sharing of tasks: an owner gives a task to another worker, which has a free pool slot, or knows the task at all."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, NamedTuple

from kafka_exec.core.nodes.heartbeat import Heartbeat
from kafka_exec.core.record.fields import MOST_PARTITIONS, a_list, an_object, from_json, text, whole


class Grant(NamedTuple):
    """A task that the owner of its partition gives to another incarnation.

    Attributes:
        to: the other incarnation, which runs the task.
        topic, partition, offset: the place of the task's record.
        attempts: how often the task was begun before.
        queue: the id of the topic, without which the offset means nothing.
        since: the offset in the partition's journal from which on the grant, and all that contradicts it, is to be read.
    """

    to: str
    topic: str
    partition: int
    offset: int
    attempts: int
    queue: str
    since: int

    @staticmethod
    def encode(grants: Sequence[Grant]) -> bytes:
        """The value of a record in the log of heartbeats."""
        return json.dumps({"grants": grants}).encode()

    @staticmethod
    def decode(value: bytes | None) -> list[Grant]:
        """The grants in a record's value; none if the value has another format."""
        try:
            return [_grant(each) for each in a_list(an_object(from_json(value))["grants"])]
        except (ValueError, KeyError):
            return []


def _grant(found: Any) -> Grant:
    to, topic, partition, offset, attempts, queue, since = a_list(found)
    place = text(topic), whole(partition, most=MOST_PARTITIONS), whole(offset)
    return Grant(text(to), *place, whole(attempts), text(queue), whole(since))


class Fullness:
    """The time since which a worker has had no free pool slot: a fold of its regular looks."""

    def __init__(self) -> None:
        self._since: float | None = None

    def look(self, is_full: bool, now: float | None) -> float | None:
        """The log time since which all pool slots are taken; None if one is free, or this is the first look without one.

        Other workers may have had free slots until then, and have filled them since: a burst of tasks reaches all at once.
        """
        before, self._since = self._since, None
        if is_full:
            self._since = now if before is None else before
        return before if is_full else None


def idle_peers(peers: Sequence[Heartbeat], queue: str, waiting: int) -> list[str]:
    """The incarnations that get one waiting task each, the idlest first. One with several free slots may be listed again.

    Args:
        peers: the other living workers; only those that consume the queue count.
        queue: the queue's name.
        waiting: how many of its tasks wait.
    """
    free = {
        peer.incarnation: peer.slots - peer.active
        for peer in peers
        if queue in peer.queues and peer.slots > peer.active
    }
    chosen: list[str] = []
    while len(chosen) < waiting and any(free.values()):
        for incarnation in sorted(free, key=lambda each: -free[each]):
            if free[incarnation] and len(chosen) < waiting:
                free[incarnation] -= 1
                chosen.append(incarnation)
    return chosen


def who_knows(peers: Sequence[Heartbeat], queue: str, task: str) -> str | None:
    """The incarnation with the most free slots of those that consume the queue and know the task; None if there is none."""
    able = [peer for peer in peers if queue in peer.queues and task in (peer.tasks or ())]
    return max(able, key=lambda peer: (peer.slots - peer.active, peer.incarnation)).incarnation if able else None


def is_given_up(since: float, now: float, timeout: float) -> bool:
    """True if a task that no worker knows has waited longer than ``timeout``; all times are seconds."""
    return now - since > timeout
