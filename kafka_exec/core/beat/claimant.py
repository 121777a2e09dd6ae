"""The claimant: one incarnation of a node that shares the periodic entries; what it claims, holds, takes over and releases.

It reads the log of claims and answers with actions: records to send, all of them in transactions that only this incarnation
can commit, and messages within the node. Times are epoch seconds of the brokers' clock.
"""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import replace
from hashlib import blake2b
from typing import NamedTuple

from kafka_exec.core.beat.claim import HELD, TABLE, ClaimState, Do, Event
from kafka_exec.core.beat.claimlog import ClaimLog, RecordKind, Signal, Standing, Verdict

#: The longest time that a node waits before it claims a free entry, seconds, unless the entry says otherwise. The time is
#: random, so that nodes do not claim at once.
CLAIM_WAIT = 0.5

#: A node that passes an entry on waits at least so many seconds longer than all others before it claims it again.
_YIELD = 2 * CLAIM_WAIT

#: The longest time that a node waits before it fences a lost one, seconds. The time is random, since one fence is enough.
_REVIVE_WAIT = 0.3

#: If the log's beginning is missing, a new node gives holders so many seconds to repeat their claims.
WAIT_IN_NEW = 1.0

#: A node looks at a contradiction again after so many seconds.
_CLEAR_AFTER = 3.0

_SENDS = {
    Do.SEND_CLAIMED: RecordKind.CLAIMED,
    Do.SEND_HEARTBEAT: RecordKind.HEARTBEAT,
    Do.SEND_HANDLING: RecordKind.HANDLING,
    Do.SEND_UNCLAIMED: RecordKind.UNCLAIMED,
}


class Terms(NamedTuple):
    """The terms of an entry's claim. Times are seconds.

    Attributes:
        definition: the hash of the entry's definition.
        heartbeat: the time between two repetitions of the claim.
        claim_wait: the longest time that a node waits before it claims the entry when it is free.
        takeover_wait: the time for which the holder must be lost before another node takes the entry over.
    """

    definition: str
    heartbeat: float = 60.0
    claim_wait: float = CLAIM_WAIT
    takeover_wait: float = 0.0


class Act(NamedTuple):
    """An action, and its entry. ``signal``: the record to send."""

    do: Do
    entry: str
    signal: Signal | None = None


class Firing(NamedTuple):
    """One firing of an entry, with attributes as in :class:`Signal`."""

    slot: float
    run: str
    missed: int = 0
    request: float | None = None


class Claimant:
    """The claims of one node. Not thread-safe.

    Args:
        incarnation: the incarnation.
        name: the node's name.
        log: the log, as far as it was read.
        former: earlier incarnations of this process: they write no more, so their entries are taken over at once.

    Attributes:
        incarnation: the present incarnation.
        log: the fold of the log.
        ready: the log was read to its end, so that the node may claim.
        conflicts: the number of contradictions.
    """

    def __init__(self, incarnation: str, name: str, log: ClaimLog, *, former: Iterable[str] = ()) -> None:
        self.incarnation = incarnation
        self.log = log
        self.ready = False
        self.conflicts = 0
        self._name = name
        self._states: dict[str, ClaimState] = {}
        self._wanted: dict[str, Terms] = {}
        self._former = set(former)
        self._fenced: set[str] = set()
        self._lost: dict[str, float] = {}
        self._reviving: dict[str, float] = {}
        self._yielded: set[str] = set()
        self._timers: list[tuple[float, str, Event]] = []
        self._due: dict[tuple[str, Event], float] = {}

    # -- questions -----------------------------------------------------------------------------------------------------

    def state(self, entry: str) -> ClaimState:
        """The state of an entry's claim."""
        return self._states.get(entry, ClaimState.NEW)

    def states(self) -> Counter[ClaimState]:
        """The number of entries in each state."""
        return Counter(self._states.values())

    def holds(self, entry: str) -> bool:
        """True if this node may fire the entry."""
        return self.state(entry) in HELD

    @property
    def former(self) -> frozenset[str]:
        """The earlier incarnations of this process."""
        return frozenset(self._former)

    @property
    def held(self) -> list[str]:
        """The entries that this node may fire."""
        return [entry for entry, state in self._states.items() if state in HELD]

    @property
    def next_timer(self) -> float | None:
        """The time at which :meth:`turn` has something to do; None if there is no such time."""
        return self._timers[0][0] if self._timers else None

    # -- events --------------------------------------------------------------------------------------------------------

    def begin(self, now: float) -> list[Act]:
        """Notes that the log was read to its end."""
        self.ready = True
        if not self.log.whole:
            for entry in self._wanted:
                self._set_timer(entry, Event.INITIATING_I, now + WAIT_IN_NEW)
            return [Act(Do.SEND_CLAIMED, "", Signal(RecordKind.DO_INFORMATION_SEND, self.incarnation, self._name))]
        return [act for entry in self._wanted for act in self._enter(entry, now)]

    def want(self, wanted: Mapping[str, Terms], now: float) -> list[Act]:
        """Replaces the entries that this node is able and willing to hold."""
        before, self._wanted = self._wanted, dict(wanted)
        if not self.ready:
            return []
        acts = [act for entry in before if entry not in wanted for act in self._happens(entry, Event.UNCLAIM_I, now)]
        return acts + [act for entry in wanted if entry not in before for act in self._enter(entry, now)]

    def take(self, signal: Signal, offset: int, at: float, now: float) -> list[Act]:
        """Folds a record of the log."""
        verdict = self.log.take(signal, offset, at)
        if not self.ready:
            return []
        if signal.kind is RecordKind.DO_INFORMATION_SEND and signal.node != self.incarnation:
            return [act for entry in self.held for act in self._happens(entry, Event.DO_INFORMATION_SEND, now)]
        event = _event_of(signal, verdict, own=signal.node == self.incarnation)
        return [] if event is None else self._happens(signal.entry, event, now)

    def turn(self, now: float) -> list[Act]:
        """Handles all timers that have expired by now."""
        acts: list[Act] = []
        while self._timers and self._timers[0][0] <= now:
            due, entry, event = heapq.heappop(self._timers)
            if self._due.get((entry, event)) != due:
                continue
            del self._due[entry, event]
            if event is Event.INITIATING_I:
                acts += self._enter(entry, now)
            elif event is not Event.CLAIMING_I or entry in self._wanted:
                acts += self._happens(entry, event, now)
        return acts

    def fire(self, entry: str, firing: Firing, now: float, *, held: bool = False) -> list[Act]:
        """Fires an entry that this node holds. ``held``: the node runs it itself, until :meth:`ended`."""
        event = Event.HANDLING_I if held else Event.FIRING_I
        return self._happens(entry, event, now, firing)

    def ended(self, entry: str, now: float) -> list[Act]:
        """Notes that the node's own run of an entry is over."""
        return self._happens(entry, Event.UNHANDLING_I, now)

    def give_up(self, entry: str, now: float) -> list[Act]:
        """Releases a claim so that another node can get it. If no other node claims it, this one does so again."""
        self._yielded.add(entry)
        return self._happens(entry, Event.UNCLAIM_I, now)

    def renew(self, incarnation: str, now: float) -> list[Act]:
        """Goes on as another incarnation, since this one was fenced, or does not know which of its records were written."""
        self._former.add(self.incarnation)
        self.incarnation = incarnation
        return [act for entry in list(self._states) for act in self._happens(entry, Event.FENCED, now)]

    # -- lost nodes ----------------------------------------------------------------------------------------------------

    def to_fence(self, is_gone: Callable[[str], bool], peers: Collection[str], now: float) -> list[str]:
        """The lost incarnations that this node must fence now.

        They include those that hold no entry: a transaction that one of them has left open hides all records behind it.

        Args:
            is_gone: returns True if an incarnation is lost.
            peers: the incarnations that have sent heartbeats lately.
            now: epoch seconds.
        """
        found = []
        holders = {self.log.standing(entry).holder for entry in self._wanted} - {"", self.incarnation}
        # Sorted, so that what follows from one log is the same in every process.
        for holder in sorted(holders.union(({*peers, *self._former} - self._fenced) - {self.incarnation})):
            is_former = holder in self._former
            if not is_former and not is_gone(holder):
                self._lost.pop(holder, None)
                for entry in self._entries_of(holder) if holder in self._reviving else ():
                    self._happens(entry, Event.NODEHEARTBEAT, now)
                continue
            self._lost.setdefault(holder, now)
            if self._entries_of(holder) and not self._to_release(holder, now):
                continue
            wait = 0.0 if is_former else _REVIVE_WAIT * chance(self.incarnation, holder)
            if now >= self._reviving.setdefault(holder, now + wait):
                self._reviving[holder] = (
                    now + _CLEAR_AFTER
                )  # again then, if the fence fails, or UNCLAIMED is not written
                found.append(holder)
        return found

    def fenced(self, holder: str, now: float) -> list[Act]:
        """Notes that a lost incarnation is fenced: releases its entries on its behalf, but for those that must wait."""
        self._fenced.add(holder)
        return [act for entry in self._to_release(holder, now) for act in self._happens(entry, Event.REVIVING, now)]

    def _to_release(self, holder: str, now: float) -> list[str]:
        """The entries of a lost incarnation whose takeover wait is over."""
        lost = now - self._lost.get(holder, now)
        entries = self._entries_of(holder)
        return [each for each in entries if holder in self._former or lost >= self._wanted[each].takeover_wait]

    def _entries_of(self, holder: str) -> list[str]:
        return [entry for entry in self._wanted if self.log.standing(entry).holder == holder]

    # -- the table's use -----------------------------------------------------------------------------------------------

    def _enter(self, entry: str, now: float) -> list[Act]:
        """Begins to share an entry, from the state that the log says."""
        standing = self.log.standing(entry)
        if not standing.holder:
            return self._happens(entry, Event.INITIATING_I, now)
        if standing.holder != self.incarnation:
            event = Event.OTHER_HANDLING if standing.handling else Event.OTHER_CLAIMED
            return self._happens(entry, event, now)
        # The log has a claim of this incarnation that it does not know of any more.
        return [] if self.holds(entry) else self._happens(entry, Event.UNCLAIM_I, now)

    def _happens(self, entry: str, event: Event, now: float, firing: Firing | None = None) -> list[Act]:
        before = self.state(entry)
        move = TABLE[before, event]
        self._states[entry] = move.state
        if move.state is ClaimState.ERROR:
            self._set_timer(entry, Event.INITIATING_I, now + _CLEAR_AFTER)
        standing = self.log.standing(entry)
        acts: list[Act] = []
        for do in move.actions:
            if do is Do.WAIT:
                self._wait(entry, standing, now)
            elif do is Do.KEEP:
                self._reviving.pop(standing.holder, None)
            elif do is Do.COUNT:
                self.conflicts += 1
            else:
                if do in (Do.ACQUIRED, Do.SEND_HEARTBEAT) and entry in self._wanted:
                    self._set_timer(entry, Event.HEARTBEAT_I, now + self._wanted[entry].heartbeat)
                acts.append(Act(do, entry, self._signal(do, entry, standing, firing)))
        return acts

    def _signal(self, do: Do, entry: str, standing: Standing, firing: Firing | None) -> Signal | None:
        if do is Do.SEND_CLAIMING:
            return Signal(
                RecordKind.CLAIMING,
                self.incarnation,
                self._name,
                entry,
                epoch=standing.reference,
                definition=self._wanted[entry].definition if entry in self._wanted else "",
            )
        if do not in _SENDS:
            return None
        held = self._states[entry] is ClaimState.HANDLING_BY_NODE
        signal = Signal(_SENDS[do], self.incarnation, self._name, entry, epoch=standing.epoch, held=held)
        if do is not Do.SEND_HANDLING or firing is None:
            return signal
        return replace(signal, slot=firing.slot, missed=firing.missed, run=firing.run, request=firing.request)

    def _wait(self, entry: str, standing: Standing, now: float) -> None:
        if entry not in self._wanted:
            return
        longest = self._wanted[entry].claim_wait
        wait = longest * chance(self.incarnation, entry, str(standing.reference))
        if entry in self._yielded:
            self._yielded.discard(entry)
            wait += max(_YIELD, 2 * longest)
        self._set_timer(entry, Event.CLAIMING_I, now + wait)

    def _set_timer(self, entry: str, event: Event, due: float) -> None:
        self._due[entry, event] = due
        heapq.heappush(self._timers, (due, entry, event))


def _event_of(signal: Signal, verdict: Verdict, *, own: bool) -> Event | None:
    """The event that a record is for the claim of its entry; None if it is none."""
    if verdict is Verdict.WON:
        return Event.OWN_CLAIMING if own else Event.OTHER_CLAIMING
    if verdict is Verdict.LATE:
        return None if own else Event.LATE_CLAIMING
    if verdict is Verdict.CONFLICT:
        return Event.CONFLICT
    if verdict is not Verdict.ACCEPTED:
        return None
    if signal.kind is RecordKind.UNCLAIMED:
        return Event.UNCLAIMED
    if signal.kind is RecordKind.HANDLING and (own or signal.held):
        return Event.OWN_HANDLING if own else Event.OTHER_HANDLING
    if signal.kind is RecordKind.HEARTBEAT or signal.held:
        return Event.OWN_HEARTBEAT if own else Event.OTHER_HEARTBEAT
    return Event.OWN_CLAIMED if own else Event.OTHER_CLAIMED


def chance(*of: str) -> float:
    """A number from 0 to 1 (excluded): always the same for the same texts, evenly spread over different ones."""
    return int.from_bytes(blake2b("\0".join(of).encode(), digest_size=6).digest(), "big") / 2**48
