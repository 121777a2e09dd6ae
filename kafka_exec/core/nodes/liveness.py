"""Nodes that may be believed to live: which ones, for how long, by which clock, and why no two of them act in one place.

**Which nodes.** A node says in heartbeats that it lives. All of them are in one log with one partition, so every node reads
the same heartbeats in the same order. An incarnation speaks for itself alone: nobody else says that it lives, and only it
says goodbye. :class:`Liveness` folds the log.

**For how long.** An incarnation is believed for :data:`~kafka_exec.core.nodes.heartbeat.LOST_AFTER` periods after its last
heartbeat. After that it is lost, until it is heard again. A task that it runs beside its own partitions is believed to run
while its heartbeats name the task; :class:`TaskWatch` counts those that do not.

**By which clock.** For others the time is the log's: the brokers stamp each heartbeat when they append it, so the clocks of
the nodes do not matter. "Now" is the newest heartbeat of the node that judges, read back from the same log. So a reader that
lags has an early "now" and finds nobody lost. In an outage no heartbeat of anybody is appended: the judge's own have a gap,
and silence is counted from the end of that gap. A node judges nobody before it has heard itself.

For itself a node has a :class:`TrustWindow`: until when it may act on what it last knew. It looks at the end of a window by
a clock that goes on while the process is stopped, so that a process which wakes up finds its windows shut.

**Why that suffices.** What only one node may do is guarded from both sides. The others wait for the whole length of a window
before they take over; the node itself stops earlier, by the margin:

- *the lease of an incarnation* (:func:`lease`): others need ``LOST_AFTER`` periods of silence, and its window is half a
  period shorter. Runs on the node of a beat end with it;
- *the membership of a group* (:func:`membership`): Kafka waits for a whole session, and hears from a member every third of
  one. The window is half a session, so it has shut before the partitions are another's;
- *a granted task* (:func:`grant`): the owner waits while heartbeats name the task, some periods at least. A guest that has
  not begun it within one period does not begin it any more. That counts from when the guest has read the grant: one that was
  stopped before may be late.

A window that was late stays shut: another node may have acted meanwhile. It is opened again only by an answer of those who
would know, or for another incarnation. A node that is stopped between the look at its window and the act itself can be late
too. What it then writes in a transaction is refused, as the node that took over has fenced its transactional id. The code of
a task that goes on can tell by its fencing token.
"""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

from kafka_exec.core.nodes.heartbeat import LOST_AFTER, Heartbeat, Stray

#: What only a living node may do it does no more this much earlier, in periods: it takes a moment to stop.
_MARGIN = 0.5

#: So many periods without a heartbeat of one's own are a gap: what was silent meanwhile may be well.
_GAP = 2

#: After so many periods an incarnation's last heartbeat says nothing more than that it is lost.
_REMEMBERED = 60


class TrustWindow:
    """Until when a process may act on what it knew at a time. All times are of one clock, in seconds.

    Args:
        length: after so long without a sign others may act as if it were no longer so.
        margin: this much earlier the process itself acts on it no more.

    Attributes:
        until: the end; None: it is shut.
        lost: a sign has come too late, so that it stays shut.
    """

    def __init__(self, length: float, margin: float = 0.0) -> None:
        self.until: float | None = None
        self.lost = False
        self._span = length - margin

    def open(self, at: float) -> None:
        """Opens it, whatever was before: it was certainly so at a time."""
        self.until, self.lost = at + self._span, False

    def renew(self, at: float) -> bool:
        """Notes a sign that it was still so at a time. Returns False if that comes too late."""
        self.lost = self.lost or (self.until is not None and at > self.until)
        self.until = None if self.lost else at + self._span
        return not self.lost

    def is_open(self, now: float) -> bool:
        """Whether the process may act on it."""
        until = self.until
        return until is not None and now <= until


def lease(period: float) -> TrustWindow:
    """The window in which an incarnation is alive for all others, by its own heartbeats in log time.

    Args:
        period: seconds between two heartbeats.
    """
    return TrustWindow(LOST_AFTER * period, _MARGIN * period)


def membership(session: float) -> TrustWindow:
    """The window in which a member's partitions are its own, by what it hears of its group.

    Args:
        session: after so long without a sign of life Kafka gives them to others, seconds.
    """
    return TrustWindow(session, session / 2)


def grant(period: float) -> TrustWindow:
    """The window in which a granted task may begin, from when the grant came."""
    return TrustWindow(period)


class _Heard(NamedTuple):
    """The last heartbeat of an incarnation, its log time, and whether it was found lost since."""

    beat: Heartbeat
    at: float
    lost: bool = False


class Liveness:
    """The incarnations that live: a fold of the log of heartbeats. Times are log times.

    Args:
        boot: this incarnation.
        period: seconds between two heartbeats.
    """

    def __init__(self, boot: str, period: float) -> None:
        self._boot = boot
        self._period = period
        self._limit = LOST_AFTER * period
        self._own: tuple[Heartbeat, float] | None = None
        # Since when this incarnation's heartbeats have had no gap.
        self._steady = 0.0
        self._heard: dict[str, _Heard] = {}

    def take(self, beat: Heartbeat, at: float) -> None:
        """Folds a heartbeat that was appended to the log at this time."""
        if beat.boot == self._boot:
            self._take_own(beat, at)
            return
        if beat.tasks is None and (before := self._heard.get(beat.boot)) is not None:
            beat = replace(beat, tasks=before.beat.tasks)
        self._heard[beat.boot] = _Heard(beat, at)

    def _take_own(self, beat: Heartbeat, at: float) -> None:
        if self._own is None or at - self._own[1] > _GAP * self._period:
            self._steady = at
        self._own = beat, at
        self._heard = {
            boot: heard._replace(lost=heard.lost or self._silence(boot, at) >= self._limit)
            for boot, heard in self._heard.items()
            if at - heard.at < _REMEMBERED * self._period or not self.is_gone(boot)
        }

    def _silence(self, boot: str, until: float) -> float:
        """For how long an incarnation has certainly been silent at a time."""
        heard = self._heard.get(boot)
        return until - max(heard.at if heard is not None else 0.0, self._steady)

    @property
    def hears_itself(self) -> bool:
        """Whether a heartbeat of this incarnation's own was read, so that all that comes is new."""
        return self._own is not None

    def last(self, boot: str) -> Heartbeat | None:
        """The last heartbeat of another incarnation."""
        heard = self._heard.get(boot)
        return None if heard is None else heard.beat

    def is_gone(self, boot: str) -> bool:
        """Whether another incarnation is lost, or has said goodbye."""
        if (heard := self._heard.get(boot)) is not None:
            return heard.lost or heard.beat.left
        return self._own is not None and self._silence(boot, self._own[1]) >= self._limit

    def suspects(self, boot: str, now: float) -> bool:
        """Whether one heartbeat of this incarnation's own, appended now, would declare another one lost."""
        if self._own is None or now - self._own[1] > _GAP * self._period or self.is_gone(boot):
            return False
        return self._silence(boot, now) >= self._limit

    def peers(self, since: float = 0.0) -> list[Heartbeat]:
        """The last heartbeats of the other incarnations that live, if they are not older than a time."""
        if self._own is None:
            return []
        since = max(since, self._own[1] - self._limit)
        return [heard.beat for heard in self._heard.values() if not heard.beat.left and heard.at > since]

    def with_role(self, role: str) -> list[str]:
        """The other incarnations that drove something when they were last heard, and have not said goodbye."""
        return [boot for boot, heard in self._heard.items() if _drives(heard.beat, role)]

    def living(self, role: str) -> frozenset[str]:
        """The living that drive something; nobody while this incarnation has not read that it does itself.

        Args:
            role: the name of an attribute of their heartbeats.
        """
        if self._own is None or not _drives(self._own[0], role):
            return frozenset()
        return frozenset((self._boot, *(boot for boot in self.with_role(role) if not self.is_gone(boot))))


def _drives(beat: Heartbeat, role: str) -> bool:
    return bool(getattr(beat, role)) and not beat.left


class TaskWatch:
    """Which incarnations still run tasks of partitions that are another's by now: by the heartbeats that name them."""

    def __init__(self, liveness: Liveness) -> None:
        self._liveness = liveness
        # By incarnation and task, how many heartbeats on end have not named it.
        self._unnamed: dict[tuple[str, Stray], int] = {}

    def take(self, beat: Heartbeat) -> None:
        """Folds a heartbeat. One that is older than this incarnation says nothing of what runs now."""
        if not self._liveness.hears_itself:
            return
        for boot, task in self._unnamed:
            if boot == beat.boot:
                self._unnamed[boot, task] = 0 if task in beat.strays else self._unnamed[boot, task] + 1

    def watch(self, boot: str, task: Stray) -> None:
        """Notes that an incarnation is believed to run a task."""
        self._unnamed.setdefault((boot, task), 0)

    def forget(self, boot: str, task: Stray) -> None:
        """The opposite of :meth:`watch`."""
        self._unnamed.pop((boot, task), None)

    def is_over(self, boot: str, task: Stray) -> bool:
        """Whether a watched task is run by its incarnation no more: that is lost or gone, or no longer names the task."""
        return self._liveness.is_gone(boot) or self._unnamed.get((boot, task), 0) > LOST_AFTER
