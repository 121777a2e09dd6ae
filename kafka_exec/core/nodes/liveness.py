"""Nodes that may be believed to live: which ones, for how long, by which clock, and why no two of them act in one place.

**Which nodes.** A node says in heartbeats that it lives. All heartbeats are in one log with one partition, so all nodes read
the same heartbeats in the same order. An incarnation speaks for itself alone: no other node says that it lives, or that it
has left. :class:`Liveness` folds the log.

**For how long.** An incarnation is believed for :data:`~kafka_exec.core.nodes.heartbeat.LOST_AFTER` periods after its last
heartbeat. After that it is lost, until it is heard again. A task that it runs beside its own partitions is believed to run
while its heartbeats name the task; :class:`TaskWatch` counts those that do not.

**By which clock.** For others the time is the log's: the brokers stamp each heartbeat when they append it, so the clocks of
the nodes do not matter. "Now" is the newest heartbeat of the node that judges, read back from the same log. So a reader that
lags has an early "now" and finds no node lost. In an outage the brokers append no heartbeats at all: the node's own have a
gap, and it counts the silence of others from the end of that gap. A node judges no other one before it has heard itself.

For itself a node has a :class:`TrustWindow`: the time until which it may act on its last knowledge. It looks at the end of a
window by a clock that goes on while the process is stopped, so that a process which wakes up finds its windows shut.

**Why that suffices.** Both sides guard an act that only one node may do. The other nodes wait for the whole length of a
window before they take over; the node itself stops earlier, by the margin:

- *the lease of an incarnation* (:func:`lease`): others need ``LOST_AFTER`` periods of silence, and its window is half a
  period shorter. Runs on the node of a beat end with it;
- *the membership of a group* (:func:`membership`): Kafka waits for a whole session, and hears from a member every third of
  one. The window is half a session, so it has shut before another member gets the partitions;
- *a granted task* (:func:`grant`): the owner waits while heartbeats name the task, some periods at least. A worker that has
  not begun it within one period of the grant's log time does not begin it any more. If both begin it all the same, the
  journal decides: see :mod:`kafka_exec.core.queue.partition.machine`.

A window whose renewal came too late stays shut: another node may have acted meanwhile. Only an answer of Kafka opens it
again, or another incarnation has a new one. A node can also be stopped between the look at its window and the act itself.
Then Kafka refuses what it writes in a transaction, as the node that took over has fenced its transactional id. A store can
refuse late writes of a task's code by the fencing token.
"""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

from kafka_exec.core.nodes.heartbeat import LOST_AFTER, Heartbeat, Stray

#: A node stops what only a living node may do so many periods before others find it lost: stopping takes a moment.
_MARGIN = 0.5

#: A longer time without this incarnation's own heartbeat, in periods, is a gap: others that were silent too may be alive.
_GAP = 2

#: The last heartbeat of an incarnation is forgotten after so many periods: it would only say that the incarnation is lost.
_REMEMBERED = 60


#: A watched task that was not asked for within so many seconds is forgotten: it has ended.
_ASKED_WITHIN = 5.0


class TrustWindow:
    """The time until which a process may act on a fact that it knew at some time. All times are seconds of one clock.

    Args:
        length: other processes may act against the fact when no sign of it has come for so long.
        margin: the process itself stops so much earlier.

    Attributes:
        until: the end of the window; None: the window is shut.
        lost: a sign has come too late, so that the window stays shut.
        lapses: how often that was so.
    """

    def __init__(self, length: float, margin: float = 0.0) -> None:
        self.until: float | None = None
        self.lost = False
        self.lapses = 0
        self._span = length - margin

    def open(self, at: float) -> None:
        """Opens the window, also a lost one: the fact was certainly true at the time ``at``."""
        self.until, self.lost = at + self._span, False

    def renew(self, at: float) -> bool:
        """Notes a sign that the fact was still true at the time ``at``. Returns False if the sign comes too late."""
        if self.until is not None and at > self.until:
            self.lost = True
            self.lapses += 1
        self.until = None if self.lost else at + self._span
        return not self.lost

    def is_open(self, now: float) -> bool:
        """True if the process may act on the fact."""
        until = self.until
        return until is not None and now <= until


def lease(period: float) -> TrustWindow:
    """The window in which an incarnation is alive for all others, by its own heartbeats in log time.

    Args:
        period: seconds between two heartbeats.
    """
    return TrustWindow(LOST_AFTER * period, _MARGIN * period)


def membership(session: float) -> TrustWindow:
    """The window in which a member of a group owns its partitions, renewed when it hears from its group.

    Args:
        session: Kafka gives a member's partitions to others after so many seconds without a heartbeat.
    """
    return TrustWindow(session, session / 2)


def grant(period: float) -> TrustWindow:
    """The window in which a granted task may begin, from when the grant came."""
    return TrustWindow(period)


class _Heard(NamedTuple):
    """The last heartbeat of an incarnation, and its log time. ``lost``: the incarnation was found lost since."""

    beat: Heartbeat
    at: float
    lost: bool = False


class Liveness:
    """The incarnations that live: a fold of the log of heartbeats. Times are log times.

    Args:
        incarnation: this incarnation.
        period: seconds between two heartbeats.
    """

    def __init__(self, incarnation: str, period: float) -> None:
        self.incarnation = incarnation
        self._period = period
        self._limit = LOST_AFTER * period
        self._own: tuple[Heartbeat, float] | None = None
        # This incarnation's heartbeats have had no gap since then.
        self._steady = 0.0
        self._heard: dict[str, _Heard] = {}

    def take(self, beat: Heartbeat, at: float) -> None:
        """Folds a heartbeat that was appended to the log at this time."""
        if beat.incarnation == self.incarnation:
            self._take_own(beat, at)
            return
        if beat.tasks is None and (before := self._heard.get(beat.incarnation)) is not None:
            beat = replace(beat, tasks=before.beat.tasks)
        self._heard[beat.incarnation] = _Heard(beat, at)

    def _take_own(self, beat: Heartbeat, at: float) -> None:
        if self._own is None or at - self._own[1] > _GAP * self._period:
            self._steady = at
        self._own = beat, at
        self._heard = {
            incarnation: heard._replace(lost=heard.lost or self._silence(incarnation, at) >= self._limit)
            for incarnation, heard in self._heard.items()
            if at - heard.at < _REMEMBERED * self._period or not self.is_gone(incarnation)
        }

    def _silence(self, incarnation: str, until: float) -> float:
        """The time for which an incarnation has certainly been silent at ``until``, seconds."""
        heard = self._heard.get(incarnation)
        return until - max(heard.at if heard is not None else 0.0, self._steady)

    @property
    def hears_itself(self) -> bool:
        """True if a heartbeat of this incarnation was read back, so that all later ones are new."""
        return self._own is not None

    def last(self, incarnation: str) -> Heartbeat | None:
        """The last heartbeat of another incarnation; None if none was read."""
        heard = self._heard.get(incarnation)
        return None if heard is None else heard.beat

    def is_gone(self, incarnation: str) -> bool:
        """True if another incarnation is lost, or has left."""
        if (heard := self._heard.get(incarnation)) is not None:
            return heard.lost or heard.beat.left
        return self._own is not None and self._silence(incarnation, self._own[1]) >= self._limit

    def suspects(self, incarnation: str, now: float) -> bool:
        """True if the incarnation ``incarnation`` would count as lost after a heartbeat of this incarnation at ``now``."""
        if self._own is None or now - self._own[1] > _GAP * self._period or self.is_gone(incarnation):
            return False
        return self._silence(incarnation, now) >= self._limit

    def peers(self, since: float = 0.0) -> list[Heartbeat]:
        """The last heartbeats of the other living incarnations, without those that are older than ``since``."""
        if self._own is None:
            return []
        since = max(since, self._own[1] - self._limit)
        return [heard.beat for heard in self._heard.values() if not heard.beat.left and heard.at > since]

    def with_role(self, role: str) -> list[str]:
        """The other incarnations whose last heartbeat has the role, and that have not left."""
        return [incarnation for incarnation, heard in self._heard.items() if _drives(heard.beat, role)]

    def living(self, role: str) -> frozenset[str]:
        """The living incarnations with a role; none until this one has read a heartbeat of its own with the role.

        Args:
            role: the name of an attribute of heartbeats.
        """
        if self._own is None or not _drives(self._own[0], role):
            return frozenset()
        return frozenset(
            (self.incarnation, *(incarnation for incarnation in self.with_role(role) if not self.is_gone(incarnation)))
        )


def _drives(beat: Heartbeat, role: str) -> bool:
    return bool(getattr(beat, role)) and not beat.left


class _Watched(NamedTuple):
    """A watched task. ``named``: its node's heartbeats that came before the watch, or up to the last one that has named it.

    ``asked``: when it was asked for last.
    """

    named: int
    asked: float


class TaskWatch:
    """The tasks that incarnations still run although other nodes own their partitions: a fold of heartbeats.

    A task is watched while it is asked for again and again, so it is forgotten however it ends. ``now``: seconds of a
    steady clock.
    """

    def __init__(self, liveness: Liveness) -> None:
        self._liveness = liveness
        self._tasks: dict[tuple[str, Stray], _Watched] = {}
        # The number of heartbeats of each incarnation that may run a watched task.
        self._beats: dict[str, int] = {}

    def take(self, beat: Heartbeat, now: float) -> None:
        """Folds a heartbeat. One that was sent before this incarnation began does not count: it may be outdated."""
        if not self._liveness.hears_itself:
            return
        if beat.incarnation == self._liveness.incarnation:
            self._tasks = {each: task for each, task in self._tasks.items() if now - task.asked <= _ASKED_WITHIN}
            present = {incarnation for incarnation, _ in self._tasks}
            self._beats = {incarnation: count for incarnation, count in self._beats.items() if incarnation in present}
        elif beat.incarnation in self._beats:
            count = self._beats[beat.incarnation] = self._beats[beat.incarnation] + 1
            for each in ((beat.incarnation, task) for task in beat.strays):
                if each in self._tasks:
                    self._tasks[each] = self._tasks[each]._replace(named=count)

    def watch(self, incarnation: str, task: Stray, now: float) -> None:
        """Notes that an incarnation runs a task from now on: heartbeats from before do not say that it does not."""
        self._tasks[incarnation, task] = _Watched(self._beats.setdefault(incarnation, 0), now)

    def own(self, topic: str, partition: int) -> None:
        """Notes that this incarnation owns a partition from now on.

        Until now others may have run its tasks as their own ones, which heartbeats do not name.
        """
        self._tasks = {each: task for each, task in self._tasks.items() if each[1][:2] != (topic, partition)}

    def is_over(self, incarnation: str, task: Stray, now: float) -> bool:
        """True if an incarnation does not run a task any more: it is gone, or no longer names the task."""
        if (incarnation, task) not in self._tasks:
            self.watch(incarnation, task, now)
        watched = self._tasks[incarnation, task]
        if self._liveness.is_gone(incarnation) or self._beats[incarnation] - watched.named > LOST_AFTER:
            del self._tasks[incarnation, task]  # it is taken back, and may be given to the same incarnation again
            return True
        self._tasks[incarnation, task] = watched._replace(asked=now)
        return False
