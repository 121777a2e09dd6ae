"""The end of a task, and of the wait of a lane: what they change for the lane, and for other records of the same task."""

from __future__ import annotations

from kafka_exec.core.queue.lanes import Lane, Run, Ticket, sent_by
from kafka_exec.core.queue.ledger import Ledger
from kafka_exec.core.queue.transitions import ENDED, Memory, Transition, freed, held, lane_of, remembered, run_of


def end(
    ledger: Ledger, offset: int, ticket: Ticket | None, awaited: Run | None, *, at: float, is_copy: bool
) -> list[Transition]:
    """Ends a task in the ledger. Returns the transitions to tell.

    Args:
        ticket: its record's place in a lane; None if it is in none.
        awaited: the run that its lane waits for from now on, a retry or the stop of the lane; None: the lane goes on.
        at: the time of the end, epoch seconds.
        is_copy: the record is dropped, since another one of its task has ended before.
    """
    attempts, is_late = ledger.attempts.get(offset, 0), ledger.has_ended(offset)
    ledger.end(offset)
    told = [Transition(ENDED, offset, attempts)]
    if ticket is None or is_late:  # the first end counts
        return told
    if awaited is not None and ticket.keeps_place:
        ledger.hold(ticket.lane, awaited, offset)
        told.append(held(offset, ticket.lane, awaited))
    elif ticket.run.retries and ticket.keeps_place:
        # Told in any case: a worker that runs another owner's task does not know the run that its lane waits for.
        ledger.free(ticket.lane, ticket.run)
        told.append(freed(offset, ticket.lane, ticket.run))
    if not is_copy:  # a run counts, although a process that runs another owner's task may take it for a copy by now
        is_over, memory = awaited is None or awaited.is_stop, Memory(at, ticket.kind)
        for name in ticket.ends(offset, is_over=is_over, restarted=attempts > 1):
            ledger.remember(name, memory)
            told.append(remembered(offset, name, memory.at, memory.task))
    return told


def free_lane(ledger: Ledger, lane: Lane, *, at: float) -> list[Transition]:
    """Frees a held lane in the ledger. Returns the transitions to tell. ``at``: as in :func:`end`."""
    run, holder = ledger.holds[lane], ledger.holders[lane]
    ledger.free(lane)
    told = [freed(-1, lane, run)]
    if run.is_stop and holder >= 0:
        # The record that stops the lane may have been refused, and come later: it stops no lane if its task is over.
        ledger.remember(sent_by(holder), Memory(at))
        told.append(remembered(holder, sent_by(holder), at, ""))
    return told


def denied(ledger: Ledger, hold: Transition) -> list[Transition]:
    """The transitions by which an owner denies what another process has told: that a lane waits; none if it does.

    Two runs of a task may have ended before either worker knew of the other's end. The end by which the lane has gone on
    here may be the later one in the journal, where the first counts: a new owner would wait for the retry that the other
    run has sent.

    Args:
        hold: the transition of the other process, which the ledger has folded.
    """
    kind, name, *of_run = hold.about
    lane, run = lane_of(kind, name), run_of(*of_run)
    if ledger.holds.get(lane) == run:
        return []
    told = [freed(-1, lane, run)]
    if (memory := ledger.remembered.get(sent_by(hold.offset))) is not None:
        told.append(remembered(-1, sent_by(hold.offset), memory.at, memory.task))
    return told
