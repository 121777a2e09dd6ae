"""Heartbeats of nodes: when a node is lost, and whether another one has the name that a starting node wants."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from enum import Enum, auto
from typing import Any, NamedTuple

from kafka_exec.core.record.fields import a_list, an_object, flag, from_json, moment, optional, text, texts, whole

#: A node is lost after this many periods without a heartbeat.
LOST_AFTER = 3

#: What a process id may be: signals are sent to it.
_LARGEST_PID = 2**31 - 1

#: A task that a node runs though its partition is another's: topic, partition, offset.
Stray = tuple[str, int, int]


class Work(NamedTuple):
    """What a node can do, and does.

    Attributes:
        slots: how many tasks it can run at a time.
        active: how many it runs.
        queues: what it consumes.
        tasks: the names of all tasks it knows.
    """

    slots: int = 0
    active: int = 0
    queues: tuple[str, ...] = ()
    tasks: tuple[str, ...] = ()


@dataclass(frozen=True)
class Heartbeat:
    """A sign of life.

    Attributes:
        boot: the incarnation: another one with every start of the process.
        place: where ``pid`` means something: the host and its process namespace.
        left: the node says goodbye.
        control: the node drives a share of the control plane.
        delays: the node moves a share of the messages that wait for their time.
        beat: the node shares the periodic entries.
        since: when the incarnation began, epoch seconds by its own clock.
        strays: the tasks that it runs though their partitions are another's now: topic, partition, offset.
        slots, active, queues: as in :class:`Work`.
        known: how many task names the node knows.
        tasks: which these are; None if this heartbeat does not tell.
        kind: what the node is: ``worker``, ``beat`` or ``control-plane``; empty: it does not say.
        version: of kafka_exec; empty: it does not say.
        faults: how many errors the node's threads have gone on from.
    """

    boot: str
    place: str
    pid: int
    left: bool = False
    control: bool = False
    since: float = 0.0
    strays: tuple[Stray, ...] = ()
    slots: int = 0
    active: int = 0
    queues: tuple[str, ...] = ()
    known: int = 0
    tasks: tuple[str, ...] | None = None
    delays: bool = False
    beat: bool = False
    kind: str = ""
    version: str = ""
    faults: int = 0

    def telling(self, work: Work, *, tasks: bool) -> Heartbeat:
        """The same with what the node does now; ``tasks``: with all their names."""
        return replace(
            self,
            slots=work.slots,
            active=work.active,
            queues=work.queues,
            known=len(work.tasks),
            tasks=work.tasks if tasks else None,
        )

    def encode(self) -> bytes:
        """The record's value."""
        return json.dumps(asdict(self)).encode()

    @classmethod
    def decode(cls, value: bytes | None) -> Heartbeat | None:
        """The heartbeat of a record; None for one of another format, which says nothing about the name."""
        try:
            found = an_object(from_json(value))
            return cls(
                *(text(found["boot"]), text(found["place"]), whole(found["pid"], least=1, most=_LARGEST_PID)),
                left=flag(found["left"]),
                control=optional(found, "control", flag, False),
                since=optional(found, "since", moment, 0.0),
                strays=tuple(_stray(each) for each in optional(found, "strays", a_list, ())),
                slots=optional(found, "slots", whole, 0),
                active=optional(found, "active", whole, 0),
                queues=optional(found, "queues", texts, ()),
                known=optional(found, "known", whole, 0),
                tasks=optional(found, "tasks", texts),
                delays=optional(found, "delays", flag, False),
                beat=optional(found, "beat", flag, False),
                kind=optional(found, "kind", text, ""),
                version=optional(found, "version", text, ""),
                faults=optional(found, "faults", whole, 0),
            )
        except (ValueError, KeyError):
            return None


def _stray(found: Any) -> Stray:
    topic, partition, offset = a_list(found)
    return text(topic), whole(partition), whole(offset)


class Name(Enum):
    """Whether a node may have its name."""

    FREE = auto()
    TAKEN = auto()
    UNSURE = auto()


def judge(mine: Heartbeat, seen: list[Heartbeat], *, new: int, others_process_lives: bool | None, waited: bool) -> Name:
    """Whether another living node has the name.

    Args:
        mine: this node's heartbeat.
        seen: the heartbeats under the name, the oldest first, of the last few periods and since.
        new: how many of them came while this node was watching.
        others_process_lives: whether the last other one's process exists; None: it runs elsewhere, so nobody knows.
        waited: whether a living node would have sent another heartbeat by now.
    """
    others = [beat for beat in seen if beat.boot != mine.boot]
    if not others or others[-1].left or others_process_lives is False:
        return Name.FREE
    last = others[-1].boot
    if any(beat.boot == last for beat in seen[len(seen) - new :]):
        return Name.TAKEN
    return Name.FREE if waited else Name.UNSURE


class NodeState(Enum):
    """Whether a node is there."""

    ALIVE = "alive"
    LOST = "lost"
    LEFT = "left"


def node_state(beat: Heartbeat, at: float, *, now: float, period: float) -> NodeState:
    """What a node's last heartbeat, which was in the log at a time, means now; all in seconds."""
    if beat.left:
        return NodeState.LEFT
    return NodeState.LOST if now - at > LOST_AFTER * period else NodeState.ALIVE


class Seen(NamedTuple):
    """A heartbeat of a node, and its log time, epoch seconds."""

    name: str
    beat: Heartbeat
    at: float


def roll(heard: Iterable[Seen], *, now: float, period: float) -> list[tuple[Seen, NodeState]]:
    """The nodes by name: the last heartbeat of each incarnation, with the task names that an earlier one told.

    An incarnation that is gone is left out if another one has come under its name.
    """
    last: dict[tuple[str, str], Seen] = {}
    for seen in heard:
        key = (seen.name, seen.beat.boot)
        before = last.pop(key, None)
        if seen.beat.tasks is None and before is not None:
            seen = seen._replace(beat=replace(seen.beat, tasks=before.beat.tasks))
        last[key] = seen
    latest = {seen.name: seen for seen in last.values()}
    present = ((seen, node_state(seen.beat, seen.at, now=now, period=period)) for seen in last.values())
    found = [(seen, state) for seen, state in present if state is NodeState.ALIVE or seen is latest[seen.name]]
    return sorted(found, key=lambda each: (each[0].name, each[0].beat.since))


def is_lost(started: float | None, heard: tuple[Heartbeat, float] | None, *, now: float, period: float) -> bool:
    """Whether a task that has not ended will not be ended by the worker that runs it.

    Args:
        started: when, epoch seconds by the worker's clock; None if nobody knows.
        heard: the last heartbeat under the worker's name and its log time, epoch seconds; None: none of late.
        now: epoch seconds by the log's clock.
        period: seconds between two heartbeats.
    """
    if heard is None:
        return True
    beat, at = heard
    gone = node_state(beat, at, now=now, period=period) is not NodeState.ALIVE
    return gone or (started is not None and started < beat.since)
