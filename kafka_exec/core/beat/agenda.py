"""The agenda of a node that holds periodic entries: what it fires now, and when it must look again."""

from __future__ import annotations

import heapq
import math
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import NamedTuple

from kafka_exec.core.beat.claimant import Firing, Terms
from kafka_exec.core.beat.claimlog import Standing
from kafka_exec.core.beat.schedule import CatchUp, Due, Overlap, Policy, Rule, due

#: The namespace of task ids, made of entry and slot (RFC 9562, version 5): a slot has one task id, whichever node fires it.
_NAMESPACE = uuid.UUID("5c1c7a52-3b86-5d1e-8a6b-0c4d2e9f7b11")

#: After an error of a schedule the node asks it again, after so many seconds.
_AGAIN = 10.0


@dataclass(frozen=True)
class Plan:
    """The plan of an entry: all that a node must know to fire it. Times are epoch seconds.

    Attributes:
        rule: the times at which the entry is due.
        policy: its other options.
        definition: the hash of its whole definition.
        paused: its schedule does not fire it.
        since: the entry was paused until then, so that earlier slots are not fired.
        request: the time of the last request to run it at once.
    """

    rule: Rule
    policy: Policy
    definition: str
    paused: bool = False
    since: float | None = None
    request: float | None = None

    def terms(self, heartbeat: float) -> Terms:
        """The terms of its claim. ``heartbeat``: seconds between two heartbeats of the claim, if the entry does not say."""
        policy = self.policy
        return Terms(
            self.definition,
            heartbeat if policy.claim_heartbeat is None else policy.claim_heartbeat,
            policy.claim_wait,
            policy.takeover_wait,
        )


@dataclass(frozen=True)
class Cursor:
    """The progress of an entry, as its holder knows it. A firing counts as soon as the holder has sent it.

    Attributes:
        last: the last slot that was fired or missed; before the first one, the time of the first claim.
        runs: how often the entry was fired.
        turns: how often this holder has fired it.
        missed: the number of slots that were missed since the last fired one.
        request: the last request to run now that was answered.
    """

    last: float
    runs: int = 0
    turns: int = 0
    missed: int = 0
    request: float | None = None


class Proposal(NamedTuple):
    """The firings of an entry that are due, if any, and its progress after them.

    Attributes:
        runs: the number of runs before each firing.
        cursor: the progress after the firings.
        again: nothing is due, and the schedule must be asked again at this time; None: there are firings or missed slots.
    """

    entry: str
    firings: tuple[Firing, ...]
    runs: tuple[int, ...]
    cursor: Cursor
    again: float | None = None


class Agenda:
    """The entries that a node holds, by the times at which they are due.

    Args:
        complain: called when a schedule raises an error, with the entry and the error.
    """

    def __init__(self, complain: Callable[[str, Exception], None]) -> None:
        self._complain = complain
        self._plans: Mapping[str, Plan] = {}
        self._cursors: dict[str, Cursor] = {}
        self._next: dict[str, float] = {}
        # The times by which the runs on this node must be over, by entry.
        self._limits: dict[str, float] = {}
        self._heap: list[tuple[float, str]] = []

    def plan(self, plans: Mapping[str, Plan]) -> None:
        """Replaces the plans of all entries."""
        changed = [entry for entry in self._cursors if plans.get(entry) != self._plans.get(entry)]
        self._plans = plans
        for entry in changed:
            self._look(entry)

    def acquired(self, entry: str, standing: Standing) -> None:
        """Notes that the node holds an entry from now on. ``standing``: all that the log says of it."""
        plan = self._plans.get(entry)
        last = standing.last(after_end=plan is not None and plan.policy.after_end)
        self._cursors[entry] = Cursor(last or 0.0, runs=standing.runs, request=standing.request)
        self._look(entry)

    def released(self, entry: str) -> None:
        """Notes that the node does not hold an entry any more."""
        self._cursors.pop(entry, None)
        self._next.pop(entry, None)
        self._limits.pop(entry, None)

    def clear(self) -> None:
        """Notes that the node holds no entry any more."""
        self._cursors.clear()
        self._next.clear()
        self._limits.clear()
        self._heap.clear()

    @property
    def next_due(self) -> float | None:
        """The time at which an entry is due next, epoch seconds; None if none is."""
        while self._heap and self._next.get(self._heap[0][1]) != self._heap[0][0]:
            heapq.heappop(self._heap)
        return self._heap[0][0] if self._heap else None

    def due(self, now: float) -> list[Proposal]:
        """The proposals that are due, the oldest first. The caller must call :meth:`done` or :meth:`later` for each."""
        found = []
        while (when := self.next_due) is not None and when <= now:
            _, entry = heapq.heappop(self._heap)
            del self._next[entry]
            try:
                proposal = self._proposal(entry, self._plans[entry], self._cursors[entry], now)
            except Exception as error:
                self._complain(entry, error)
                self._push(entry, now + _AGAIN)
                continue
            if proposal.again is None:
                found.append(proposal)
            else:
                self._push(entry, proposal.again)
        return found

    def done(self, proposal: Proposal) -> None:
        """Notes that a proposal's firings are in the log."""
        if proposal.entry in self._cursors:
            self._cursors[proposal.entry] = proposal.cursor
            self._look(proposal.entry)

    def given_up(self, proposal: Proposal) -> None:
        """Notes that a proposal's firings can never be done: their slots count as missed."""
        cursor = proposal.cursor
        missed = cursor.missed + sum(firing.missed + 1 for firing in proposal.firings if firing.request is None)
        before = self._cursors.get(proposal.entry, cursor)
        self.done(proposal._replace(cursor=replace(cursor, runs=before.runs, turns=before.turns, missed=missed)))

    def later(self, proposal: Proposal, at: float) -> None:
        """Notes that a proposal's firings could not be done now: it is made again at the time ``at``."""
        if proposal.entry in self._cursors:
            self._push(proposal.entry, at)

    def begun(self, entry: str, now: float) -> None:
        """Notes that a run of an entry on this node begins."""
        most = self._plans[entry].policy.max_duration if entry in self._plans else None
        self._limits[entry] = math.inf if most is None else now + most
        if entry in self._cursors:
            self._look(entry)

    def ended(self, entry: str, now: float) -> None:
        """Notes that the run of an entry on this node is over."""
        self._limits.pop(entry, None)
        if entry in self._cursors:
            if entry in self._plans:
                self._cursors[entry] = _after_run(self._plans[entry], self._cursors[entry], now)
            self._look(entry)

    def overdue(self, now: float) -> list[str]:
        """The entries whose runs on this node have passed their time limits."""
        return [entry for entry, limit in self._limits.items() if limit <= now]

    def is_used_up(self, entry: str) -> bool:
        """True if this node has fired the entry as often as it may, so that another node should get it."""
        most = self._plans[entry].policy.max_executions_on_node if entry in self._plans else None
        return most is not None and entry in self._cursors and self._cursors[entry].turns >= most

    def _look(self, entry: str) -> None:
        """Finds the time at which an entry is due next."""
        plan, cursor = self._plans.get(entry), self._cursors[entry]
        if plan is None or (entry in self._limits and plan.policy.overlap is not Overlap.REPLACE):
            self._next.pop(entry, None)
            return
        if _asked(plan, cursor):
            self._push(entry, 0.0)
        elif plan.paused:
            self._next.pop(entry, None)
        else:
            try:
                self._push(entry, plan.rule.after(_base(plan, cursor)))
            except Exception as error:
                self._complain(entry, error)
                self._push(entry, cursor.last + _AGAIN)

    def _push(self, entry: str, at: float) -> None:
        self._next[entry] = at
        heapq.heappush(self._heap, (at, entry))

    def _proposal(self, entry: str, plan: Plan, cursor: Cursor, now: float) -> Proposal:
        firings: list[Firing] = []
        after, again = cursor, None
        request = plan.request if _asked(plan, cursor) else None
        # Slots that come during each run would have the request wait for ever.
        is_first = request is not None and plan.policy.on_node and cursor.turns
        if not plan.paused and not is_first:
            found = _due(plan, cursor, now)
            missed = cursor.missed + found.missed
            for slot in found.slots:
                firings.append(Firing(slot, run_id(entry, slot), missed))
                missed = 0
            again = found.again
            last = found.slots[-1] if found.slots else found.passed
            after = replace(after, last=cursor.last if last is None else last, missed=missed)
        one_at_a_time = plan.policy.on_node and firings
        if request is not None and not one_at_a_time:
            firings.append(Firing(request, run_id(entry, request), request=request))
            after = replace(after, request=request)
        number = len(firings)
        after = replace(after, runs=cursor.runs + number, turns=cursor.turns + number)
        runs = tuple(range(cursor.runs, cursor.runs + number))
        return Proposal(entry, tuple(firings), runs, after, None if firings else again)


def _base(plan: Plan, cursor: Cursor) -> float:
    return cursor.last if plan.since is None else max(cursor.last, plan.since)


def _due(plan: Plan, cursor: Cursor, now: float) -> Due:
    """The slots to fire now; only the first one of an entry that runs on its node."""
    policy, base = plan.policy, _base(plan, cursor)
    if policy.after_end:
        slot = plan.rule.after(base)
        return Due((slot,)) if slot <= now else Due()
    if not policy.on_node:
        return due(plan.rule, base, now, policy.catch_up)
    catch_up = policy.catch_up
    if policy.overlap is Overlap.QUEUE and cursor.turns:
        catch_up = CatchUp.ALL  # these slots came during a run: they wait, and were not missed
    elif policy.overlap is Overlap.REPLACE and catch_up is CatchUp.ALL:
        catch_up = CatchUp.ONE  # with ALL each run would replace the one before at once
    found = due(plan.rule, base, now, catch_up)
    return found._replace(slots=found.slots[:1])


def _after_run(plan: Plan, cursor: Cursor, now: float) -> Cursor:
    """The progress of an entry after the end of a run on its node."""
    if plan.policy.after_end:
        return replace(cursor, last=max(cursor.last, now))
    if plan.policy.overlap is not Overlap.SKIP or plan.paused:
        return cursor
    found = due(plan.rule, _base(plan, cursor), now, CatchUp.ONE)
    if not found.slots:
        return cursor
    return replace(cursor, last=found.slots[-1], missed=cursor.missed + found.missed + 1)


def _asked(plan: Plan, cursor: Cursor) -> bool:
    # A request is new if it differs from the last one. It need not be later: clocks of the processes that ask may differ.
    return plan.request is not None and plan.request != cursor.request


def run_id(entry: str, slot: float) -> str:
    """The task id of an entry's slot."""
    return str(uuid.uuid5(_NAMESPACE, f"{entry}\0{slot!r}"))
