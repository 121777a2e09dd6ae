"""Heartbeats of nodes: they decide when a node is lost, and if the name of a starting node is taken by another one."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from enum import Enum, auto
from typing import Any, NamedTuple

from kafka_exec.core.record.fields import a_list, an_object, flag, from_json, moment, optional, text, texts, whole

#: A node is lost after this many periods without a heartbeat.
LOST_AFTER = 3

#: A node stops what only a living node may do so many periods before others find it lost: stopping takes a moment.
_MARGIN = 0.5

#: A longer time without this incarnation's own heartbeat, in periods, is a gap: others that were silent too may be alive.
_GAP = 2

#: The last heartbeat of an incarnation is forgotten after so many periods: it would only say that the incarnation is lost.
_REMEMBERED = 60

#: The largest process id. Signals are sent to a process id, so it is checked.
_LARGEST_PID = 2**31 - 1

#: A task that a node runs although another node owns its partition now: topic, partition, offset.
Stray = tuple[str, int, int]


class Work(NamedTuple):
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
        boot: the incarnation; each start of the process is another one.
        place: the host and its process namespace, in which ``pid`` is valid.
        left: the node leaves now: this is its last heartbeat.
        control: the node drives a share of the control plane.
        delays: the node moves a share of the delayed messages.
        beat: the node claims periodic entries.
        since: when the incarnation began, epoch seconds by its own clock.
        strays: the tasks that it runs although other nodes own their partitions now: topic, partition, offset.
        slots, active, queues: as in :class:`Work`.
        known: how many task names the node knows.
        tasks: the task names; None if this heartbeat leaves them out.
        kind: ``worker``, ``beat`` or ``control-plane``; empty if the node does not say.
        version: the version of kafka_exec; empty if the node does not say.
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
                boot=text(found["boot"]),
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
            )
        except (ValueError, KeyError):
            return None


def _stray(found: Any) -> Stray:
    topic, partition, offset = a_list(found)
    return text(topic), whole(partition), whole(offset)


class Name(Enum):
    """The answer to a starting node that asks for its name."""

    FREE = auto()
    TAKEN = auto()
    UNSURE = auto()


def judge(mine: Heartbeat, seen: list[Heartbeat], *, new: int, others_process_lives: bool | None, waited: bool) -> Name:
    """Decides if another living node has the name of this one.

    Args:
        mine: this node's heartbeat.
        seen: the heartbeats under the name, the oldest first: those of the last few periods, and those that came since.
        new: how many of them came while this node was watching.
        others_process_lives: True if the process of the last other node exists; None if it is on another machine.
        waited: True if a living node would have sent another heartbeat by now.
    """
    others = [beat for beat in seen if beat.boot != mine.boot]
    if not others or others[-1].left or others_process_lives is False:
        return Name.FREE
    last = others[-1].boot
    if any(beat.boot == last for beat in seen[len(seen) - new :]):
        return Name.TAKEN
    return Name.FREE if waited else Name.UNSURE


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


class Lease:
    """The time until which a node may do what only a living node may do. All times are log times.

    The lease ends before any other node can find this one lost. Once it has ended no heartbeat brings it back, because
    another node may have taken over meanwhile.

    Args:
        period: seconds between two heartbeats.

    Attributes:
        until: the end of the lease; None if there is no heartbeat yet, or the lease is lost.
        lost: the lease has ended once.
    """

    def __init__(self, period: float) -> None:
        self.until: float | None = None
        self.lost = False
        self._period = period

    def take(self, at: float) -> None:
        """Takes a heartbeat of the node, which has the log time ``at``."""
        self.lost = self.lost or (self.until is not None and at > self.until)
        self.until = None if self.lost else at + (LOST_AFTER - _MARGIN) * self._period


class Presence:
    """The incarnations that are alive, and the tasks that they still run: a fold of the log of heartbeats.

    Times are log times. As with :class:`Census`, silence is measured against this incarnation's own heartbeats, read back
    from the same log.

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
        """The last heartbeat of an incarnation; None if none was read."""
        return self._heard[boot][0] if boot in self._heard else None

    def peers(self, since: float = 0.0) -> list[Heartbeat]:
        """The last heartbeats of the other living incarnations, without those that are older than ``since``."""
        if self._own is None:
            return []
        since = max(since, self._own - LOST_AFTER * self._period)
        return [beat for beat, at in self._heard.values() if not beat.left and at > since]

    def with_role(self, role: str) -> list[str]:
        """The other incarnations whose last heartbeat has this one of the :data:`ROLES`, and that have not left."""
        return [boot for boot, (beat, _) in self._heard.items() if getattr(beat, role) and not beat.left]

    def watch(self, boot: str, task: Stray) -> None:
        """Notes that an incarnation is believed to run a task of a partition that it does not own any more."""
        self._unnamed.setdefault((boot, task), 0)

    def forget(self, boot: str, task: Stray) -> None:
        """Ends what :meth:`watch` began."""
        self._unnamed.pop((boot, task), None)

    def is_over(self, boot: str, task: Stray) -> bool:
        """True if an incarnation does not run a watched task any more: it is gone, or no longer names the task."""
        return self.is_gone(boot) or (self._own is not None and self._unnamed.get((boot, task), 0) > LOST_AFTER)

    def is_gone(self, boot: str) -> bool:
        """True if an incarnation is lost, or has left."""
        heard = self._heard.get(boot)
        if heard is not None and heard[0].left:
            return True
        return self._own is not None and self._silence(boot, self._own) >= LOST_AFTER * self._period

    def suspects(self, boot: str, now: float) -> bool:
        """True if the incarnation ``boot`` would count as lost after a heartbeat of this incarnation at ``now``."""
        if self._own is None or not self._period / _GAP < now - self._own <= _GAP * self._period:
            return False
        return self._silence(boot, now) >= LOST_AFTER * self._period

    def _silence(self, boot: str, until: float) -> float:
        """The time for which an incarnation has certainly been silent at ``until``, seconds."""
        heard = self._heard.get(boot)
        return until - max(heard[1] if heard else 0.0, self._steady)


#: The kinds of work of which each node drives a share: names of attributes of :class:`Heartbeat`.
ROLES = ("control", "delays")


class Census:
    """The living incarnations that have a role: a fold of the log of heartbeats. Times are log times.

    Silence is measured against this incarnation's own heartbeats, read back from the same log. So no node counts as lost
    because this reader lags, or because an outage has silenced all nodes.

    Args:
        boot: this incarnation.
        period: seconds between two heartbeats.
        role: one of the :data:`ROLES`.
    """

    def __init__(self, boot: str, period: float, role: str = "control") -> None:
        self._boot = boot
        self._role = role
        self._period = period
        self._others: dict[str, float] = {}
        self._own: float | None = None
        # This incarnation's heartbeats have had no gap since then.
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
        """The time for which an incarnation has certainly been silent whose last heartbeat came at ``last``, seconds."""
        return 0.0 if self._own is None else self._own - max(last, self._steady)

    @property
    def living(self) -> frozenset[str]:
        """The living incarnations with this one; none until this one has read a heartbeat of its own."""
        return frozenset() if self._own is None else frozenset((self._boot, *self._others))

    def suspects(self, now: float) -> bool:
        """True if any incarnation would count as lost after a heartbeat of this incarnation at ``now``."""
        if self._own is None or now - self._own > _GAP * self._period:
            return False
        return any(now - max(last, self._steady) >= self._limit for last in self._others.values())
