"""A partition that goes and comes back, and its tasks that others run: what the simulation found."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from kafka_exec.core.queue import ledger
from kafka_exec.core.queue.checkpoints import add_checkpoint, encode_checkpoint
from kafka_exec.core.queue.lanes import STOPPED, Lane, Run, Ticket, after_failure, after_retry
from kafka_exec.core.queue.ledger import Ledger
from kafka_exec.core.queue.partition.parking import PATIENCE
from kafka_exec.core.queue.progress import Progress
from kafka_exec.core.queue.transitions import (
    ENDED,
    FREED,
    RELEASED,
    STARTED,
    Lease,
    Transition,
    granted,
    held,
    remembered,
)
from tests.unit.play import Play, accept, guest


def starts(play: Play) -> list[int]:
    return [each.attempt for each in play.told if each.kind == STARTED]


def test_a_former_owner_begins_what_it_is_granted_with_a_number_that_it_has_not_told_before() -> None:
    """Else what it has told of its former start, and what comes late, ends the new one."""
    play = Play()
    play.read(0, ordering_key="k")
    assert play.begin(0)
    assert play.core.put_back(0, play.core.term, play.now)
    assert play.begin(0)
    play.core.close(play.now)
    play.core.lose(play.now)
    play.core.miss_journal()
    ticket = play.ticket(0, ordering_key="k")
    play.core.accept(0, ticket, b"0", attempts=1, at=play.now.log, now=play.now)
    assert play.begin(0)
    assert starts(play) == [1, 2, 3]


def test_a_guest_remembers_the_last_of_its_starts_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ledger, "_MOST_FOREIGN", 10)
    play = Play(owned=False)
    for offset in range(100):
        accept(play, play.now.log, offset=offset)
        assert play.begin(offset)
        play.core.put_back(offset, play.core.term, play.now)
    accept(play, play.now.log, offset=100)
    assert play.begin(100)
    play.core.miss_journal()
    assert sorted(play.core.ledger.attempts) == [*range(90, 100), 100]


def test_what_a_former_owner_has_parked_waits_again_where_the_next_one_has_read_it_again() -> None:
    play = Play()
    play.read(0, ordering_key="k")
    assert play.run(0)
    play.core.will_end(0, after_retry)
    play.end(0)
    play.read(1, ordering_key="k")
    play.core.park(play.now)
    play.time += PATIENCE
    play.core.park(play.now)
    assert list(play.core.ledger.parked) == [1]
    play.core.lose(play.now)
    restored = Ledger("q", Progress(1))
    play.core.own(restored, play.now)
    assert not play.core.ledger.has_ended(1)
    assert play.core.ledger.progress.low == 1
    assert play.read(1, ordering_key="k")


def test_a_guest_yields_what_nobody_decides_since_the_journal_was_deleted_before_it_was_heard() -> None:
    play = guest()
    assert play.begin(0)
    play.core.miss_journal()
    assert not play.core.is_undecided(0)
    assert not play.core.confirm(0, play.core.term, play.now)
    play.effects()
    assert play.kinds() == [(STARTED, 0), (RELEASED, 0)]
    assert play.core.contested == {}


def retry_of(offset: int) -> Ticket:
    return Ticket(Lane("id", f"t{offset}"), Run(f"t{offset}", 1), origin=offset, task="t")


def first_of(offset: int) -> Ticket:
    return Ticket(Lane("id", f"t{offset}"), Run(f"t{offset}", 0), task="t")


def test_the_retry_that_a_lost_guest_has_sent_does_not_run_after_its_task_has_ended() -> None:
    play = Play()
    play.read(0)
    play.core.give(0, play.core.term, first_of(0), b"0", "guest", play.now)
    play.hear(Transition(STARTED, 0, 1), by="guest")
    play.core.read(1, retry_of(0), b"1", play.now)
    assert play.effects() == []
    play.core.reclaim(0, Lease("guest", 1), play.now)
    assert play.effects() == [0]
    assert play.begin(0)
    play.hear(Transition(STARTED, 0, 2), by="me")
    assert play.core.confirm(0, play.core.term, play.now)
    assert play.end(0) == []
    assert play.found() == []
    assert play.states(0, 1) == ["ENDED", "ENDED"]
    assert play.is_empty()


def test_the_retry_that_a_guest_has_sent_runs_when_its_task_has_ended_there() -> None:
    play = Play()
    play.read(0)
    play.core.give(0, play.core.term, first_of(0), b"0", "guest", play.now)
    play.core.read(1, retry_of(0), b"1", play.now)
    assert play.effects() == []
    assert play.hear(Transition(STARTED, 0, 1), Transition(ENDED, 0), by="guest") == [1]


def test_what_another_has_begun_since_it_was_read_has_a_place_when_it_is_read_again() -> None:
    play = Play()
    play.read(0)
    play.hear(granted(0, Lease("late", 0)), Transition(STARTED, 0, 1), by="late")
    play.core.reclaim(0, Lease("late", 1), play.now)
    assert play.core.wanted == {0}
    play.core.found(0, first_of(0), b"0", play.now)
    assert play.effects() == [0]
    play.core.read(1, retry_of(0), b"1", play.now)
    assert play.effects() == [], "the run that is lost may have sent it"


def test_a_later_checkpoint_has_folded_what_those_before_it_have() -> None:
    progress = Progress(0)
    progress.check_in(15, 4)
    progress.check_in(36, 3)
    assert (progress.checkpoint, progress.folded) == (36, 4)
    progress.check_in(36, 40)
    assert progress.folded == 36


@pytest.mark.parametrize("comes_by", ["its own end", "a checkpoint", "a guest"])
def test_what_has_stopped_a_key_and_comes_behind_what_frees_it_stops_it_no_more(comes_by: str) -> None:
    """The record of the stop was refused, and is sent again when that of the free is in the journal."""
    key = Lane("key", "k")
    stop = [Transition(ENDED, 0), held(0, key, Run("t0", STOPPED)), remembered(0, "unique", 1000.0, "")]
    play = Play()
    play.read(0, ordering_key="k")
    if comes_by == "its own end":
        assert play.run(0)
        play.core.will_end(0, after_failure)
        play.end(0)
    elif comes_by == "a guest":
        play.hear(*stop, by="guest")
    else:
        stopped = Ledger("q", Progress(0))
        stopped.fold(stop, "former")
        restored = Ledger("q", Progress(0))
        assert all(add_checkpoint(restored, part) for part in encode_checkpoint(stopped, "former"))
        play = Play(restored)
    play.told.clear()
    assert play.core.free(key, play.now)
    play.effects()
    new = Ledger("q", Progress(0))
    new.fold(play.told, "me")
    new.fold(stop, "me")
    assert (new.has_ended(0), new.holds) == (True, {})
    assert "unique" in new.remembered


@pytest.mark.parametrize("run", [Run("t0", 1), Run("t0", STOPPED)], ids=["waits", "stopped by an unknown record"])
def test_no_retry_counts_as_a_copy_since_its_key_was_freed_before_it_came(run: Run) -> None:
    of = Ledger("q", Progress(1))
    of.hold(Lane("key", "k"), run, -1 if run.is_stop else 0)
    play = Play(of)
    assert play.core.free(Lane("key", "k"), play.now)
    play.effects()
    assert play.kinds() == [(FREED, -1)]


@pytest.mark.parametrize("other", ["t0", "t2"], ids=["of the task that the key waits for", "of another one"])
@pytest.mark.parametrize(
    ("awaits", "parked"), [(after_retry, [1]), (after_failure, [1, 2, 3])], ids=["waits", "stopped"]
)
def test_no_retry_is_parked_but_in_a_key_that_was_stopped(
    other: str, awaits: Callable[[Ticket], Run], parked: list[int]
) -> None:
    """The key waits for it as soon as the end of the run is told that has sent it; a new owner knows only its lane."""
    play = Play()
    for offset, (task, retries) in enumerate((("t0", 0), ("t1", 0), ("t0", 1), (other, 2))):
        play.read(offset, ordering_key="k", id=task, retries=retries)
        if not offset:
            assert play.run(0)
            play.core.will_end(0, awaits)
            play.end(0)
    play.core.park(play.now)
    play.time += PATIENCE
    play.core.park(play.now)
    assert list(play.core.ledger.parked) == parked


def test_a_start_counts_whose_worker_did_not_know_of_all_starts_before_it() -> None:
    """A former owner has told two starts, and given both back, after the new owner had read the journal."""
    journal = Ledger("q", Progress(0))
    for transition in (Transition(STARTED, 0, 2), Transition(RELEASED, 0, 2)):
        journal.fold([transition], "former")
    journal.fold([Transition(STARTED, 0, 1)], "owner")
    assert (journal.leases, journal.attempts) == ({0: Lease("owner", 1)}, {0: 2})
    journal.fold([Transition(RELEASED, 0, 1)], "owner")
    journal.end(0)
    journal.fold([Transition(STARTED, 0, 3)], "lost")
    assert (journal.leases, journal.attempts) == ({}, {})


def test_a_run_that_waited_for_its_begin_while_the_partition_went_and_came_does_not_run_beside_the_next_one() -> None:
    """Kafka did not take its begin down meanwhile: the record was read and begun again, and both were confirmed."""
    play = Play()
    assert play.read(0)
    assert play.begin(0)
    before = play.core.term
    play.core.lose(play.now)
    play.core.own(Ledger("q", Progress(0)), play.now)
    assert not play.core.confirm(0, before, play.now)
    assert play.read(0)
    assert play.begin(0)
    assert not play.core.confirm(0, before, play.now)
    assert play.core.confirm(0, play.core.term, play.now)
    assert not play.core.confirm(0, before, play.now)
    play.end(0)
