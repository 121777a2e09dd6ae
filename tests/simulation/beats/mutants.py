"""Planted faults of beats: each changes the real code in one place, and the simulation must find it."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

from kafka_exec.core.beat import claim, claimant, claimlog
from kafka_exec.core.beat.agenda import Agenda, Proposal
from kafka_exec.core.beat.claim import ClaimState, Event, Move
from kafka_exec.core.beat.claimant import Act, Claimant
from kafka_exec.core.beat.claimlog import RecordKind, Signal, Standing, Verdict
from kafka_exec.core.nodes.liveness import Liveness
from kafka_exec.kafka.beat.exclusive import Exclusive
from kafka_exec.kafka.beat.synclog import SyncLog
from kafka_exec.kafka.publish.scopes import Outgoing
from tests.simulation.beats.world import BeatPlan
from tests.simulation.search import Change, Result, first_broken


def _takes_over_unfenced(self: Exclusive, incarnation: str) -> None:
    self._fenced.append(incarnation)


def _holds_on(self: Claimant, incarnation: str, now: float) -> list[Act]:
    claimant_renew(self, incarnation, now)
    return []


def _lets_the_last_win(signal: Signal, standing: Standing) -> Verdict:
    is_claim = signal.kind is RecordKind.CLAIMING and signal.epoch == standing.reference
    return Verdict.WON if is_claim else log_judge(signal, standing)


def _begins_anew(self: Agenda, entry: str, standing: Standing) -> None:
    agenda_acquired(self, entry, replace(standing, slot=None))


def _sends_apart(self: Exclusive, records: Sequence[Outgoing]) -> None:
    exclusive_write(self, ())
    if records:
        exclusive_write(self, records)


def _facts_without(name: str) -> Any:
    return lambda standing: {each: value for each, value in log_facts(standing).items() if each != name}


def _lets_runs_go_on(self: Exclusive, claimant: Claimant) -> None:
    self._host.lease(math.inf)


def _begins_first(self: Exclusive, claimant: Claimant, proposals: Sequence[Proposal], now: float) -> None:
    for each in proposals:
        for firing in each.firings:
            self._handle(claimant.fire(each.entry, firing, now, held=True))
            self._agenda.done(each)
            self._agenda.begun(each.entry, now)
            self._host.begin(each.entry, firing, claimant.log.standing(each.entry).epoch)
    self._write(())


def _forgets_requests(signal: Signal, standing: Standing, offset: int, at: float) -> Standing:
    return replace(log_after(signal, standing, offset, at), request=None)


def _is_lost_soon(self: Liveness, incarnation: str, period: float) -> None:
    liveness_init(self, incarnation, period)
    self._limit = period


def _cell(state: ClaimState, event: Event, move: Move) -> list[Change]:
    """The table of claims with another cell."""
    return [(claimant, "TABLE", {**claim.TABLE, (state, event): move})]


claimant_renew, log_judge, log_facts, log_after = Claimant.renew, claimlog._judge, claimlog._facts, claimlog._after
agenda_acquired, exclusive_write, liveness_init = Agenda.acquired, Exclusive._write, Liveness.__init__

#: The planted faults.
MUTANTS: dict[str, list[Change]] = {
    "a lost beat is not fenced": [(Exclusive, "_fence", _takes_over_unfenced)],
    "a beat that was fenced holds its entries on": [(Claimant, "renew", _holds_on)],
    "a later claim wins": [(claimlog, "_judge", _lets_the_last_win)],
    "a takeover begins with the first slot": [(Agenda, "acquired", _begins_anew)],
    "tasks are sent apart from their firings": [(Exclusive, "_write", _sends_apart)],
    "a checkpoint has no slots": [(claimlog, "_facts", _facts_without("slot"))],
    "a checkpoint does not say what the next claim must name": [(claimlog, "_facts", _facts_without("reference"))],
    "a run has no lease": [(Exclusive, "_look_at_lease", _lets_runs_go_on)],
    "a run begins before it is in the log": [(Exclusive, "_begin_runs", _begins_first)],
    "an answered request is forgotten": [(claimlog, "_after", _forgets_requests)],
    "a beat is lost after one heartbeat": [(Liveness, "__init__", _is_lost_soon)],
    "what others have not read is deleted": [(SyncLog, "trim", lambda self: self._truncate(self._position))],
    "who lets an entry go does not say so": _cell(
        ClaimState.CLAIMED_BY_NODE, Event.UNCLAIM_I, Move(ClaimState.UNCLAIMING, (claim.Do.RELEASED,))
    ),
}

#: A seed that finds each.
SEEDS: dict[str, int] = {
    "a lost beat is not fenced": 0,
    "a beat that was fenced holds its entries on": 0,
    "a later claim wins": 0,
    "a takeover begins with the first slot": 0,
    "tasks are sent apart from their firings": 0,
    "a checkpoint has no slots": 0,
    "a checkpoint does not say what the next claim must name": 0,
    "a run has no lease": 0,
    "a run begins before it is in the log": 1,
    "an answered request is forgotten": 0,
    "a beat is lost after one heartbeat": 5,
    "what others have not read is deleted": 0,
    "who lets an entry go does not say so": 3,
}


def find(name: str, seeds: Iterable[int]) -> Result | None:
    """The first of some simulations that finds a planted fault; None if none does."""
    return first_broken(MUTANTS[name], map(BeatPlan.of, seeds))
