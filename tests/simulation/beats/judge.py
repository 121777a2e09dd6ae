"""The judge of a simulation of beats: it reads the log of claims as it is, and sees the tasks that are fired."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from typing import TYPE_CHECKING, NoReturn

from kafka_exec.core.beat.claimlog import NEVER, ClaimLog, RecordKind, Signal, Standing, Verdict
from kafka_exec.core.beat.schedule import CatchUp, Grid, Overlap
from kafka_exec.core.cluster.topology import sync_topic
from tests.simulation.beats.process import NAMES, QUEUE, Process
from tests.simulation.judge import Violation
from tests.simulation.plane.brokers import Sent

if TYPE_CHECKING:
    from tests.simulation.beats.world import BeatWorld

#: The topic of the log of claims.
SYNC = sync_topic(NAMES).name

#: Times are rounded, seconds.
_ROUNDED = 0.002


class BeatJudge:
    """The rules.

    Attributes:
        runs: the number of firings.
        fired: the number of firings of each entry.
        answered: the requests to run now that were answered, each with its entry.
    """

    def __init__(self, world: BeatWorld) -> None:
        self.runs = 0
        self.fired: Counter[str] = Counter()
        self.answered: set[tuple[str, float]] = set()
        self._world = world
        self._log = ClaimLog()
        self._at = 0
        # All that is known of all entries, by the offset before which it is in the log.
        self._known: dict[int, Mapping[str, Standing]] = {0: {}}
        # The holders of entries with the epochs of their claims, by the simplest reading of the log; and what the next claim
        # must name.
        self._holders: dict[str, tuple[str, int]] = {}
        self._references: dict[str, int] = {}
        self._slots: dict[str, float] = {}
        # The tasks, by entry and task id, that the log says are fired, and those that are in their queue.
        self._told: set[tuple[str, str]] = set()
        self._sent: set[tuple[str, str]] = set()
        self._begun: set[tuple[str, str]] = set()
        self._running: dict[str, Process] = {}
        self._fences: dict[str, int] = {}

    # -- the log -------------------------------------------------------------------------------------------------------

    def committed(self, record: Sent) -> None:
        """Takes a record of a transaction that was committed just now."""
        self.look()
        if record.topic() == QUEUE:
            entry, slot, run, *_ = json.loads(record.value() or b"")
            self._world.note("queue", "gets", entry, f"{slot:.3f}", run)
            if (entry, run) in self._sent:
                self._wrong("a task is fired twice", entry, slot)
            self._sent.add((entry, run))

    def look(self) -> None:
        """Reads what is new in the log of claims, in its order."""
        records, self._at = self._world.brokers.log(SYNC).read(self._at, 1_000_000)
        for record in records:
            self._take(Signal.decode(record.value()), record.offset(), record.timestamp()[1] / 1000)

    def _take(self, signal: Signal, offset: int, at: float) -> None:
        entry, claim = signal.entry, (signal.node, signal.epoch)
        told = "" if signal.slot is None else f"{signal.slot:.3f}"
        self._world.note(
            "sync", str(offset), signal.kind.value, signal.name, signal.node[:4], entry, signal.epoch, told
        )
        before = self._log.standing(entry)
        if self._log.take(signal, offset, at) is Verdict.CONFLICT:
            self._wrong("a record is not the holder's", signal, "holder:", self._holders.get(entry))
        self._known[self._log.next] = dict(self._log.all())
        holder = self._holders.get(entry)
        if signal.kind is RecordKind.CLAIMING and holder is None and signal.epoch == self._references.get(entry, NEVER):
            self._holders[entry] = signal.node, offset
        elif signal.kind is RecordKind.UNCLAIMED and holder is not None and holder[1] == signal.epoch:
            if holder[0] != signal.node and not self._world.is_fenced(holder[0]):
                self._wrong("a claim is released for one who is not fenced", entry, *holder)
            del self._holders[entry]
            self._references[entry] = offset
        elif signal.kind is RecordKind.HANDLING:
            if claim != holder:
                self._wrong("an entry is fired by one who does not hold it", signal, "holder:", holder)
            self._fires(signal, before, at)

    def _fires(self, signal: Signal, before: Standing, at: float) -> None:
        entry, slot = signal.entry, signal.slot or 0.0
        self.runs += 1
        self.fired[entry] += 1
        if not signal.held:
            self._told.add((entry, signal.run))
        if slot > at + _ROUNDED:
            self._wrong("a slot is fired before its time", entry, slot, at)
        if signal.request is not None:
            if (entry, signal.request) in self.answered:
                self._wrong("a request to run now is answered twice", entry, signal.request)
            self.answered.add((entry, signal.request))
            return
        last = self._slots.get(entry, before.since or 0.0)
        self._slots[entry] = slot
        if slot <= last + _ROUNDED:
            self._wrong("a slot is fired twice", entry, slot, "after", last)
        plan = self._world.plans[entry]
        if plan.policy.after_end or entry in self._world.changed or not isinstance(plan.rule, Grid):
            return
        between = round((slot - last) / plan.rule.period) - 1
        if between != signal.missed or (between and self._is_complete(entry)):
            self._wrong("slots are left out", entry, f"{slot:.3f} after {last:.3f}", between, "missed:", signal.missed)

    def _is_complete(self, entry: str) -> bool:
        """True if each slot of an entry is fired."""
        policy = self._world.plans[entry].policy
        is_all = policy.catch_up is CatchUp.ALL and policy.overlap is Overlap.QUEUE
        return is_all and not self._world.is_lossy(entry)

    def _wrong(self, rule: str, *details: object) -> NoReturn:
        self._world.break_off(Violation(rule, *details))

    # -- the processes -------------------------------------------------------------------------------------------------

    def look_at(self, process: Process) -> None:
        """Compares what a process has read with the log itself."""
        claimant = process.exclusive._claimant
        if claimant is None or not claimant.log.whole:
            return
        known, read = self._known.get(claimant.log.next), claimant.log.all()
        if known is not None and read != known:
            wrong = [
                (read.get(entry), known.get(entry)) for entry in {*read, *known} if read.get(entry) != known.get(entry)
            ]
            self._wrong("what a process has read is not in the log", process.name, *wrong)

    def acquired(self, process: Process, entry: str) -> None:
        if entry in process.host.held:
            self._wrong("a claim is acquired twice", process.name, entry)
        process.host.held.add(entry)

    def released(self, process: Process, entry: str) -> None:
        if entry not in process.host.held:
            self._wrong("a claim is released that is not held", process.name, entry)
        process.host.held.discard(entry)

    def may_act(self, process: Process, entry: str) -> None:
        """Notes that a process fires an entry."""
        if entry not in process.host.held:
            self._wrong("an entry is fired without a claim", process.name, entry)

    def begins(self, process: Process, entry: str, task: str, fence: int) -> None:
        """Notes that a run on a node begins."""
        process.note("begins", entry, task, fence)
        if (entry, task) in self._begun:
            self._wrong("a slot is run twice", entry, task)
        self._begun.add((entry, task))
        if entry in self._running:
            self._wrong("two runs at once", entry, self._running[entry].name, process.name)
        if fence < self._fences.get(entry, NEVER):
            self._wrong("a fencing token goes back", entry, fence, self._fences[entry])
        self._running[entry], self._fences[entry] = process, fence

    def ends(self, process: Process, entry: str) -> None:
        """Notes that a run on a node is over."""
        process.note("ends", entry)
        del self._running[entry]

    # -- the end -------------------------------------------------------------------------------------------------------

    def compare(self) -> None:
        """Looks at all processes when no fault has come for a while.

        Raises:
            Violation: an entry has two holders, or a task was not sent.
        """
        self.look()
        if self._told != self._sent:
            self._wrong("tasks are not in their queue", *(self._told ^ self._sent))
        for entry in self._world.plans:
            holders = [each.name for each in self._world.processes if each.exclusive._claimant.holds(entry)]
            told = [each.name for each in self._world.processes if entry in each.host.held]
            if len(holders) > 1 or told != holders:
                self._wrong("an entry has two holders, or one that is not told", entry, holders, told)
