"""``celery beat -S kafka-exec``: any number of beats share the periodic entries, each slot is fired exactly once."""

from __future__ import annotations

import logging
import os
import signal
import socket
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from celery import beat, signals
from celery.utils.dispatch import Signal
from kombu.utils.objects import cached_property

from kafka_exec.beat.entries import PeriodicEntry, entry_of
from kafka_exec.beat.node_runs import NodeRuns
from kafka_exec.beat.periodic import PeriodicTasks
from kafka_exec.beat.rules import text_of
from kafka_exec.beat.schedule_table import ADDED, ScheduleTable
from kafka_exec.beat.stopping import ended_by_signals, exit_now
from kafka_exec.core.beat.agenda import Plan
from kafka_exec.core.beat.claimant import Firing
from kafka_exec.core.cluster.topology import sync_topic
from kafka_exec.errors import ConfigurationError, KafkaExecError
from kafka_exec.kafka.beat.exclusive import Exclusive
from kafka_exec.kafka.publish.scopes import Outgoing, captured, confirmed
from kafka_exec.settings.appconf import broker_home

__all__ = ("PeriodicEntry", "PeriodicTasks", "Scheduler", "claim_acquired", "claim_released")

logger = logging.getLogger("kafka_exec")

#: Signals: this node holds an entry from now on, and it holds the entry no longer. Each is sent once for every claim, in
#: this order. The thread that fires sends them; of an entry with ``on_node`` the process that runs it, which lives between
#: the two. No slot is fired before the first one or after the second one. If that process is killed the second one is not
#: sent, and the claim's next process sends the first one anew.
claim_acquired = Signal(name="claim_acquired", providing_args={"entry"})
claim_released = Signal(name="claim_released", providing_args={"entry"})

#: Beat waits no longer at its end for the release of its claims, seconds.
_STOP_TIMEOUT = 5.0

#: The longest pause between two ticks of Celery's loop, seconds.
_TICK = 0.5


class Scheduler(beat.Scheduler):  # type: ignore[misc]
    """Celery's scheduler. A thread of its own fires the entries; Celery's ticks only watch that thread."""

    Entry = PeriodicEntry
    _exclusive: Exclusive | None = None
    _turned = 0.0

    def setup_schedule(self) -> None:
        """Sets the schedule up. Celery calls it once, unless it needs only the banner.

        Raises:
            ConfigurationError: an entry is wrong.
            TopicMismatch: the log of claims has more than one partition.
        """
        with ended_by_signals():
            self._set_up()

    def _set_up(self) -> None:
        self.install_default_entries(self.data)
        self.update_from_dict(self.app.conf.beat_schedule)
        self._ensure_connected()
        self._space = broker_home(self.app)
        self._space.cluster.topics.ensure(sync_topic(self._space.topics))
        for entry in self.schedule.values():
            entry.plan(self._space.settings.beat_catch_up)
        self._schedule_table = ScheduleTable(self._space.cluster, self._space.topics)
        self._read: int | None = None
        self._added: dict[str, PeriodicEntry] = {}
        self._plans: dict[str, Plan] = {}
        self._name = f"beat-{os.getpid()}@{socket.gethostname()}"

    def tick(self, *args: Any, **kwargs: Any) -> float:
        """Watches the thread that fires. Does not return while that is stuck, so that monitors of Celery's beat notice."""
        if self._exclusive is None:
            self._node_runs = NodeRuns(self.app, self._name, self._begin, self._end)
            self._exclusive = Exclusive(self._space.cluster, self._space.topics, self._name, self)
            self._exclusive.start()
        while self._exclusive.turned == self._turned:
            time.sleep(0.05)
        self._turned = self._exclusive.turned
        return min(_TICK, float(self.max_interval))

    def close(self) -> None:
        """Releases the claims. A second call changes nothing."""
        exclusive, self._exclusive = self._exclusive, None
        if exclusive is not None and not exclusive.stop(_STOP_TIMEOUT):
            logger.warning("beat has not released its claims within %.0f s", _STOP_TIMEOUT)
        super().close()

    @cached_property
    def producer(self) -> Any:
        """The producer of fired tasks. It connects when a task is published, and does not retry by itself."""
        return self.Producer(self.connection, auto_declare=False)

    @property
    def info(self) -> str:
        return "    . schedule -> in Kafka, shared by all beats"

    # -- called by the thread that fires -------------------------------------------------------------------------------

    def plans(self) -> Mapping[str, Plan] | None:
        """The plans of the entries that this node is able to fire, by name; None: they are the same as before."""
        if self._read == self._schedule_table.version:
            return None
        if self._read is None:
            self._note_own()
        self._read = self._schedule_table.version
        rows = self._schedule_table.rows()
        self._added = {}
        plans = {}
        for name, entry in self.schedule.items():
            plans[name] = self._plan(entry, rows.get(name, {}))
        for name, row in rows.items():
            if row.get("source") == ADDED and name not in plans and (found := self._entry_of(name, row)) is not None:
                self._added[name] = found
                plans[name] = self._plan(found, row)
        labels = self._space.settings.beat_labels
        self._plans = {
            name: plan
            for name, plan in plans.items()
            if plan.policy.able(labels) and (not plan.policy.on_node or self._entry(name).task in self.app.tasks)
        }
        return self._plans

    def _entry(self, name: str) -> PeriodicEntry:
        return self.schedule.get(name) or self._added[name]

    def _note_own(self) -> None:
        """Stores the entries of the configuration; warns of those that another node has defined otherwise."""
        with confirmed():
            told = [
                (name, entry, self._schedule_table.note(name, entry.facts(self._space.settings.beat_catch_up)))
                for name, entry in self.schedule.items()
            ]
        for name, entry, before in told:
            if before is not None:
                logger.warning(
                    "periodic entry %s was defined otherwise by another node, or before (%s: %s): now it is %s: %s",
                    name,
                    before.get("task"),
                    before.get("schedule"),
                    entry.task,
                    text_of(entry.schedule),
                )

    def _plan(self, entry: PeriodicEntry, row: Mapping[str, Any]) -> Plan:
        return entry.plan(
            self._space.settings.beat_catch_up,
            paused=bool(row.get("paused")),
            since=row.get("since"),
            request=row.get("request"),
        )

    def _entry_of(self, name: str, row: Mapping[str, Any]) -> PeriodicEntry | None:
        try:
            return entry_of(name, row.get("given") or {}, self.app)
        except Exception as error:  # the error concerns this entry only: the others go on
            logger.error("%s", error if isinstance(error, KafkaExecError) else f"periodic entry {name}: {error!r}")
            return None

    def perform(self, entry: str, firing: Firing, runs: int) -> Sequence[Outgoing]:
        """The messages that Celery would publish for a firing."""
        found = self._entry(entry)
        with captured() as records:
            self.apply_async(
                found.fired(firing, self._plans[entry].policy, runs), producer=self.producer, advance=False
            )
        if not records:
            raise ConfigurationError(f"task {found.task} was not published: is task_always_eager set?")
        logger.info("Scheduler: Sending due task %s (%s)", entry, found.task)
        return records

    def acquired(self, entry: str) -> None:
        """Called when this node holds an entry from now on."""
        logger.info("beat: %s is claimed by this node", entry)
        if entry in self._plans and self._plans[entry].policy.on_node:
            self._node_runs.open(entry)
        else:
            self._begin(entry)

    def released(self, entry: str) -> None:
        """Called when this node holds an entry no longer."""
        if not self._node_runs.close(entry):
            self._end(entry)
        logger.info("beat: %s is released by this node", entry)

    def _begin(self, entry: str) -> None:
        claim_acquired.send(sender=self, entry=entry)

    def _end(self, entry: str) -> None:
        claim_released.send(sender=self, entry=entry)

    # -- runs on this node ---------------------------------------------------------------------------------------------

    def begin(self, entry: str, firing: Firing, fence: int) -> None:
        """Begins the run of an entry on this node."""
        found = self._entry(entry)
        logger.info("Scheduler: Running due task %s (%s)", entry, found.task)
        self._node_runs.begin(entry, found.run(firing, self._plans[entry].policy, fence, self._name))

    def ended(self) -> Sequence[str]:
        """The entries whose runs on this node have ended since the last call."""
        return self._node_runs.ended()

    def stop(self, entries: Iterable[str], reason: str) -> None:
        """Stops the runs of these entries that are under way."""
        self._node_runs.stop(entries, reason)

    def lease(self, until: float) -> None:
        """Lets runs go on without this process until a time, seconds of the monotonic clock."""
        self._node_runs.lease(until)


@signals.beat_embedded_init.connect(weak=False)
def _stop_in_order(sender: Any, **kwargs: Any) -> None:
    """Ends an embedded beat in order. Its worker ends it by SIGTERM, which would kill it before it releases its claims."""
    if isinstance(sender.scheduler, Scheduler):
        signal.signal(signal.SIGTERM, exit_now)
