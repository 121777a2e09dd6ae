"""Heartbeats of nodes: they decide when a node is lost, and if the name of a starting node is taken by another one."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from enum import Enum, auto
from typing import Any, NamedTuple

from kafka_exec.core.record.fields import (
    a_list,
    an_object,
    flag,
    from_json,
    moment,
    number,
    optional,
    text,
    texts,
    whole,
)

#: A node is lost after this many periods without a heartbeat.
LOST_AFTER = 3

#: The largest process id. Signals are sent to a process id, so it is checked.
_LARGEST_PID = 2**31 - 1

#: A task that a node runs although another node owns its partition now: topic, partition, offset.
Stray = tuple[str, int, int]


class Load(NamedTuple):
    """The load of a node, and the tasks that it knows.

    Attributes:
        slots: how many tasks it can run at a time.
        active: how many tasks it runs now.
        queues: the queues that it consumes.
        tasks: the names of all tasks that it knows.
    """

    slots: int = 0
    active: int = 0
    queues: tuple[str, ...] = ()
    tasks: tuple[str, ...] = ()


@dataclass(frozen=True)
class Heartbeat:
    """A record by which a node says that it lives.

    Attributes:
        incarnation: the incarnation; each start of the process is another one.
        place: the host and its process namespace, in which ``pid`` is valid.
        left: the node leaves now: this is its last heartbeat.
        control: the node drives a share of the control plane.
        delays: the node moves a share of the delayed messages.
        beat: the node claims periodic entries.
        since: when the incarnation began, epoch seconds by its own clock.
        strays: the tasks that it runs although other nodes own their partitions now: topic, partition, offset.
        slots, active, queues: as in :class:`Load`.
        known: how many task names the node knows.
        tasks: the task names; None if this heartbeat leaves them out.
        kind: ``worker``, ``beat`` or ``control-plane``; empty if the node does not say.
        version: the version of kafka_exec; empty if the node does not say.
        faults: the number of errors from which the node's threads have gone on.
        clock_ahead: the seconds by which its machine's clock is ahead of the log's; None: it does not know yet.
    """

    incarnation: str
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
    clock_ahead: float | None = None

    def telling(self, work: Load, *, tasks: bool) -> Heartbeat:
        """A copy of the heartbeat with the node's load. ``tasks``: with the names of all tasks that it knows."""
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
        """The heartbeat in a record's value; None if the value has another format."""
        try:
            found = an_object(from_json(value))
            return cls(
                incarnation=text(found["incarnation"]),
                place=text(found["place"]),
                pid=whole(found["pid"], least=1, most=_LARGEST_PID),
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
                clock_ahead=optional(found, "clock_ahead", number),
            )
        except (ValueError, KeyError):
            return None


def _stray(found: Any) -> Stray:
    topic, partition, offset = a_list(found)
    return text(topic), whole(partition), whole(offset)


class Name(Enum):
    """The answer to a node that asks for its name."""

    FREE = auto()
    TAKEN = auto()
    UNSURE = auto()


class Namesake(NamedTuple):
    """Another incarnation under the name of a node that asks for it.

    Attributes:
        is_gone: it has left, was found lost, or its process has ended.
        is_heard: it has sent a heartbeat since the node asks.
        has_left: it has said goodbye, after it had left its groups.
    """

    is_gone: bool
    is_heard: bool
    has_left: bool = False


class Joining(NamedTuple):
    """The way in which a process is to join a consumer group.

    Attributes:
        static_id: the id of a static member, which gets its partitions back after a restart; None: a dynamic member.
        is_return: Kafka may still count a former incarnation as the member.
    """

    static_id: str | None = None
    is_return: bool = False


def judge(namesakes: Iterable[Namesake], *, waited: bool) -> Name:
    """Decides if another living node has the name of this one.

    Args:
        namesakes: the other incarnations under the name.
        waited: True if a living node would have sent another heartbeat by now.
    """
    present = [each for each in namesakes if not each.is_gone]
    if any(each.is_heard for each in present):
        return Name.TAKEN
    return Name.UNSURE if present and not waited else Name.FREE


class NodeState(Enum):
    """The state of a node, by its last heartbeat."""

    ALIVE = "alive"
    LOST = "lost"
    LEFT = "left"


def node_state(beat: Heartbeat, at: float, *, now: float, period: float) -> NodeState:
    """The state of a node whose last heartbeat has the log time ``at``; all times are seconds."""
    if beat.left:
        return NodeState.LEFT
    return NodeState.LOST if now - at > LOST_AFTER * period else NodeState.ALIVE


class Seen(NamedTuple):
    """A heartbeat of a node, and its log time, epoch seconds."""

    name: str
    beat: Heartbeat
    at: float


def roll(heard: Iterable[Seen], *, now: float, period: float) -> list[tuple[Seen, NodeState]]:
    """The nodes, sorted by name: the last heartbeat of each incarnation, with the task names of the last one that had them.

    An incarnation that is lost or has left is not listed if a later one has its name.
    """
    last: dict[tuple[str, str], Seen] = {}
    for seen in heard:
        key = (seen.name, seen.beat.incarnation)
        before = last.pop(key, None)
        if seen.beat.tasks is None and before is not None:
            seen = seen._replace(beat=replace(seen.beat, tasks=before.beat.tasks))
        last[key] = seen
    latest = {seen.name: seen for seen in last.values()}
    present = ((seen, node_state(seen.beat, seen.at, now=now, period=period)) for seen in last.values())
    found = [(seen, state) for seen, state in present if state is NodeState.ALIVE or seen is latest[seen.name]]
    return sorted(found, key=lambda each: (each[0].name, each[0].beat.since))


def is_lost(started: float | None, heard: tuple[Heartbeat, float] | None, *, now: float, period: float) -> bool:
    """True if the worker that runs a task will not end it: the worker is lost, has left, or has started again since.

    Args:
        started: when the task began, epoch seconds by the worker's clock; None if that is unknown.
        heard: the last heartbeat under the worker's name and its log time, epoch seconds; None if there is no recent one.
        now: epoch seconds by the log's clock.
        period: seconds between two heartbeats.
    """
    if heard is None:
        return True
    beat, at = heard
    gone = node_state(beat, at, now=now, period=period) is not NodeState.ALIVE
    return gone or (started is not None and started < beat.since)
