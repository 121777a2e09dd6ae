"""The periodic entries of an application, for any process: a list, and changes that all beats follow at once."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from kafka_exec.beat.entries import entry_of
from kafka_exec.beat.rules import parsed, rule_of
from kafka_exec.beat.schedule_table import ScheduleTable
from kafka_exec.core.beat.claimlog import Standing
from kafka_exec.core.beat.schedule import CatchUp, Overlap
from kafka_exec.core.cluster.topology import nodes_topic, sync_topic
from kafka_exec.core.nodes.heartbeat import Heartbeat, NodeState, roll
from kafka_exec.errors import KafkaExecError, NoSuchEntry
from kafka_exec.kafka.beat.synclog import present
from kafka_exec.kafka.nodes.node import TASKS_EVERY, heard
from kafka_exec.settings.appconf import broker_home


@dataclass(frozen=True)
class Periodic:
    """A periodic entry and its claim.

    Attributes:
        row: its row in the :class:`~kafka_exec.beat.schedule_table.ScheduleTable`; empty: the entry was removed.
        standing: its claim and its last slot, by the log of claims.
        next: the next slot, epoch seconds; None: the entry is paused, was never claimed, or its schedule is a class of the
            user's, or no beat lives that would fire it.
        is_held: True if its holder lives.
    """

    name: str
    row: Mapping[str, Any]
    standing: Standing
    next: float | None
    is_held: bool

    @property
    def state(self) -> str:
        """The entry's state: ``paused``, ``held``, ``lost`` (its holder is lost, and no beat has it now), or ``free``."""
        if self.row.get("paused"):
            return "paused"
        if self.is_held:
            return "held"
        return "lost" if self.standing.holder else "free"

    def overdue(self, now: float) -> float | None:
        """The seconds since a slot that is due was not fired, or 0; None if no beat is to fire it.

        A run on the node delays the next slot. A holder leaves out what was missed, where the entry's policy says so.
        """
        if self.next is None:
            return None
        policy = self.row.get("policy") or {}
        leaves_out = policy.get("catch_up") == CatchUp.SKIP.value or policy.get("overlap") == Overlap.SKIP.value
        if self.is_held and (leaves_out or self.standing.handling):
            return 0.0
        return max(0.0, now - self.next)

    def facts(self) -> dict[str, Any]:
        """The entry's facts as a JSON object."""
        row, standing = self.row, self.standing
        return {
            "name": self.name,
            "task": row.get("task"),
            "schedule": row.get("schedule"),
            "source": row.get("source"),
            "state": self.state,
            "paused": bool(row.get("paused")),
            "policy": row.get("policy"),
            "holder": standing.name if standing.holder else None,
            "incarnation": standing.holder or None,
            "last": standing.slot,
            "fired": standing.fired,
            "next": self.next,
            "runs": standing.runs,
            "missed": standing.missed,
            "given": row.get("given"),
            "definition": row.get("definition"),
        }


class PeriodicTasks:
    """The periodic entries of an application.

    Raises:
        ConfigurationError: the application's broker is not kafka-exec.
        ConnectionFailed: no broker answers.
    """

    def __init__(self, app: Any) -> None:
        self._app = app
        self._space = broker_home(app)
        self._schedule_table = ScheduleTable(self._space.cluster, self._space.topics)

    def all(self) -> list[Periodic]:
        """All entries that a beat has or had, or that were added, in the order of their names."""
        log, beats = present(self._space.cluster, sync_topic(self._space.topics)), self.beats()
        found = []
        for name, row in sorted(self._schedule_table.rows().items()):
            standing = log.standing(name)
            due = self._next(row, standing) if beats else None
            found.append(Periodic(name, row, standing, due, standing.holder in beats))
        return found

    def one(self, name: str) -> Periodic:
        """The entry of a name.

        Raises:
            NoSuchEntry: there is no entry of this name.
        """
        for each in self.all():
            if each.name == name:
                return each
        raise NoSuchEntry(f"there is no periodic entry {name}")

    def beats(self) -> frozenset[str]:
        """The ids of the incarnations of beats that live."""
        return frozenset(beat.incarnation for beat in self._living() if beat.beat)

    def knows(self, task: str) -> bool:
        """True if a worker that lives knows a task of this name."""
        return any(task in (beat.tasks or ()) for beat in self._living())

    def _living(self) -> list[Heartbeat]:
        period, now = self._space.settings.heartbeat, time.time()
        # So long ago that each node has sent a heartbeat with all its tasks since.
        since = now - 2 * TASKS_EVERY * period
        seen = heard(self._space.cluster, nodes_topic(self._space.topics), since)
        return [each.beat for each, state in roll(seen, now=now, period=period) if state is NodeState.ALIVE]

    def _next(self, row: Mapping[str, Any], standing: Standing) -> float | None:
        last = standing.last(after_end=bool((row.get("policy") or {}).get("after_end")))
        if row.get("paused") or last is None:
            return None
        try:
            rule = rule_of(parsed(str(row.get("schedule")), self._app), row.get("start"))
            return rule.after(max(last, row.get("since") or 0.0))
        except KafkaExecError:
            return None

    def add(self, name: str, task: str, schedule: Any, *, paused: bool = False, **more: Any) -> None:
        """Adds an entry; beats fire it from now on, and after their restarts.

        Args:
            schedule: seconds, or a text: ``every 5 m``, ``0 4 * * mon``, ``solar sunset 52.5 13.4``.
            paused: it is not fired until :meth:`resume`.
            more: ``args``, ``kwargs``, ``options`` of Celery; ``catch_up``, ``max_running``, ``max_duration``,
                ``max_executions_on_node``, ``labels``, ``start``, ``on_node``, ``overlap``, ``after_end``,
                ``claim_heartbeat``, ``claim_wait``, ``takeover_wait``. All must be JSON.

        Raises:
            ConfigurationError: an option is wrong, or there is an entry of this name.
        """
        given = {"task": task, "schedule": schedule, **more}
        entry = entry_of(name, given, self._app)
        facts = {**entry.facts(self._space.settings.beat_catch_up), "given": given}
        self._schedule_table.add(name, {**facts, "paused": True} if paused else facts)

    def pause(self, name: str) -> None:
        """Stops firing an entry by its schedule, until :meth:`resume`.

        Raises:
            NoSuchEntry: there is no entry of this name.
        """
        self._schedule_table.change(name, paused=True)

    def resume(self, name: str) -> None:
        """Has an entry fired again; slots that were due meanwhile are left out.

        Raises:
            NoSuchEntry: there is no entry of this name.
        """
        self._schedule_table.change(name, paused=False, since=time.time())

    def remove(self, name: str) -> None:
        """Removes an entry.

        An entry of the configuration goes on in the beats that run and have it, and comes back when the next one starts.

        Raises:
            NoSuchEntry: there is no entry of this name.
        """
        self._schedule_table.remove(name)

    def run_now(self, name: str) -> None:
        """Has an entry fired once, at once, also while it is paused.

        Raises:
            NoSuchEntry: there is no entry of this name.
        """
        self._schedule_table.change(name, request=time.time())
