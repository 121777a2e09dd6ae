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

#: What only a living node may do it does no more this much earlier, in periods: it takes a moment to stop.
_MARGIN = 0.5

#: So many periods without a heartbeat of one's own are a gap: what was silent meanwhile may be well.
_GAP = 2


#: After so many periods an incarnation's last heartbeat says nothing more than that it is lost.
_REMEMBERED = 60

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


class Lease:
    """Until when a node may do what only a living one may; all times are log times.

    It ends before any other node can find this one lost, and once it has ended no heartbeat brings it back: another node may
    have taken over meanwhile.

    Args:
        period: seconds between two heartbeats.

    Attributes:
        until: its end; None: there is no heartbeat yet, or the lease is lost.
        lost: it has ended once.
    """

    def __init__(self, period: float) -> None:
        self.until: float | None = None
        self.lost = False
        self._period = period

    def take(self, at: float) -> None:
        """A heartbeat of the node was appended at a time."""
        self.lost = self.lost or (self.until is not None and at > self.until)
        self.until = None if self.lost else at + (LOST_AFTER - _MARGIN) * self._period


class Presence:
    """Which incarnations still run what they have begun: a fold of the log of heartbeats. Times are log times.

    As with :class:`Census`, silence is measured against this incarnation's own heartbeats, read back from the same log.

    Args:
        boot: this incarnation.
        period: seconds between two heartbeats.
    """

    def __init__(self, boot: str, period: float) -> None:
        self._boot = boot
        self._period = period
        self._own: float | None = None
        self._steady = 0.0
        self._heard: dict[str, tuple[Heartbeat, float]] = {}
        self._unnamed: dict[tuple[str, Stray], int] = {}

    def take(self, beat: Heartbeat, at: float) -> None:
        """Folds a heartbeat that was appended to the log at this time."""
        if beat.boot == self._boot:
            if self._own is None or at - self._own > _GAP * self._period:
                self._steady = at
            self._own = at
            self._heard = {
                boot: seen for boot, seen in self._heard.items() if at - seen[1] < _REMEMBERED * self._period
            }
            return
        if beat.tasks is None and (before := self._heard.get(beat.boot)) is not None:
            beat = replace(beat, tasks=before[0].tasks)
        self._heard[beat.boot] = (beat, at)
        for lease in [each for each in self._unnamed if each[0] == beat.boot]:
            self._unnamed[lease] = 0 if lease[1] in beat.strays else self._unnamed[lease] + 1

    def last(self, boot: str) -> Heartbeat | None:
        """The last heartbeat of an incarnation."""
        return self._heard[boot][0] if boot in self._heard else None

    def peers(self, since: float = 0.0) -> list[Heartbeat]:
        """The last heartbeats of the other incarnations that live, if they are not older than a time."""
        if self._own is None:
            return []
        since = max(since, self._own - LOST_AFTER * self._period)
        return [beat for beat, at in self._heard.values() if not beat.left and at > since]

    def with_role(self, role: str) -> list[str]:
        """The other incarnations that drove something when they were last heard, and have not said goodbye."""
        return [boot for boot, (beat, _) in self._heard.items() if getattr(beat, role) and not beat.left]

    def watch(self, boot: str, task: Stray) -> None:
        """Notes that an incarnation is believed to run a task of a partition that is not its own any more."""
        self._unnamed.setdefault((boot, task), 0)

    def forget(self, boot: str, task: Stray) -> None:
        """The opposite of :meth:`watch`."""
        self._unnamed.pop((boot, task), None)

    def is_over(self, boot: str, task: Stray) -> bool:
        """Whether a watched task is run by its incarnation no more: that is lost or gone, or no longer names the task."""
        return self.is_gone(boot) or (self._own is not None and self._unnamed.get((boot, task), 0) > LOST_AFTER)

    def is_gone(self, boot: str) -> bool:
        """Whether an incarnation is lost, or has said goodbye."""
        heard = self._heard.get(boot)
        if heard is not None and heard[0].left:
            return True
        return self._own is not None and self._silence(boot, self._own) >= LOST_AFTER * self._period

    def suspects(self, boot: str, now: float) -> bool:
        """Whether one heartbeat of this incarnation's own, appended now, would declare another one lost."""
        if self._own is None or not self._period / _GAP < now - self._own <= _GAP * self._period:
            return False
        return self._silence(boot, now) >= LOST_AFTER * self._period

    def _silence(self, boot: str, until: float) -> float:
        """For how long an incarnation has certainly been silent at a time."""
        heard = self._heard.get(boot)
        return until - max(heard[1] if heard else 0.0, self._steady)


#: What nodes drive together, each a share: attributes of :class:`Heartbeat`.
ROLES = ("control", "delays")


class Census:
    """The living incarnations that drive something: a fold of the log of heartbeats. Times are log times.

    Silence is measured against this incarnation's own heartbeats, read back from the same log: a reader that lags, or
    an outage that silences everybody, declares nobody lost.

    Args:
        boot: this incarnation.
        period: seconds between two heartbeats.
        role: what they drive, the name of an attribute of their heartbeats.
    """

    def __init__(self, boot: str, period: float, role: str = "control") -> None:
        self._boot = boot
        self._role = role
        self._period = period
        self._others: dict[str, float] = {}
        self._own: float | None = None
        # Since when this incarnation's heartbeats have had no gap.
        self._steady = 0.0

    def take(self, beat: Heartbeat, at: float) -> None:
        """Folds a heartbeat that was appended to the log at this time."""
        present = getattr(beat, self._role) and not beat.left
        if beat.boot != self._boot:
            if present:
                self._others[beat.boot] = at
            else:
                self._others.pop(beat.boot, None)
            return
        if self._own is None or at - self._own > _GAP * self._period:
            self._steady = at
        self._own = at if present else None
        self._others = {boot: last for boot, last in self._others.items() if self._silence(last) < self._limit}

    @property
    def _limit(self) -> float:
        return LOST_AFTER * self._period

    def _silence(self, last: float) -> float:
        """For how long somebody who was last heard at this time has certainly been silent."""
        return 0.0 if self._own is None else self._own - max(last, self._steady)

    @property
    def living(self) -> frozenset[str]:
        """Who lives; nobody while this incarnation has not read a heartbeat of its own."""
        return frozenset() if self._own is None else frozenset((self._boot, *self._others))

    def suspects(self, now: float) -> bool:
        """Whether one heartbeat of this incarnation's own, appended now, would declare somebody lost."""
        if self._own is None or now - self._own > _GAP * self._period:
            return False
        return any(now - max(last, self._steady) >= self._limit for last in self._others.values())
