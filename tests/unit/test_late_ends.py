"""Ends that lost workers tell late: the keys of their tasks, which run again, and an owner that was stopped itself."""

from __future__ import annotations

import pytest

from kafka_exec.core.queue.checkpoints import add_checkpoint, encode_checkpoint
from kafka_exec.core.queue.lanes import Lane, Run, after_retry, sent_by
from kafka_exec.core.queue.ledger import Ledger
from kafka_exec.core.queue.progress import Progress
from kafka_exec.core.queue.transitions import (
    ENDED,
    RELEASED,
    STARTED,
    Lease,
    Transition,
    freed,
    granted,
    held,
    remembered,
)
from tests.unit.play import PERIOD, SESSION, Play, guest

KEY = Lane("key", "k")
RETRY = Run("t0", 1)
LATE_END = Transition(ENDED, 0), held(0, KEY, RETRY)


def read_retry(play: Play) -> bool:
    return play.read(2, ordering_key="k", id="t0", retries=1, retry_of="q.a/3/0")


def play_of_second_run(*, with_retry: bool = True) -> Play:
    """Task 0 of a key begins here for the second time, as its first worker is lost; its retry and the next task wait."""
    ledger = Ledger("q", Progress(0))
    lease = ledger.start(0, "lost")
    play = Play(ledger)
    assert not play.read(0, ordering_key="k")
    assert not play.read(1, ordering_key="k")
    assert not with_retry or not read_retry(play)
    play.core.reclaim(0, lease, play.now)
    assert play.effects() == [0]
    assert play.begin(0)
    play.hear(Transition(STARTED, 0, 2), by="me")
    return play


def test_the_retry_that_a_lost_run_has_sent_waits_for_the_run_of_its_task_that_was_confirmed_here() -> None:
    play = play_of_second_run(with_retry=False)
    assert play.core.confirm(0, play.core.term, play.now)
    play.hear(*LATE_END, by="lost")
    assert not read_retry(play)
    assert play.end(0) == [2]
    assert play.run(2)
    assert play.end(2) == [1]


def test_a_retry_that_a_lost_worker_reserves_and_gives_back_late_waits_too() -> None:
    """The simulator's seed 421615."""
    play = play_of_second_run()
    assert play.core.confirm(0, play.core.term, play.now)
    play.hear(granted(2, Lease("lost", 0)), by="lost")
    assert play.states(2) == ["ELSEWHERE"]
    play.hear(*LATE_END, by="lost")
    assert play.hear(Transition(RELEASED, 2), by="lost") == []
    assert play.states(2) == ["WAITING"]
    assert play.end(0) == [2]


def test_a_second_run_must_start_soon_since_the_lost_worker_may_tell_its_end_meanwhile() -> None:
    """The simulator's seed 811706: the owner is stopped between the confirmation and the start."""
    play = play_of_second_run()
    assert play.core.confirm(0, play.core.term, play.now)
    assert play.core.start_by(0, play.now) == play.time + PERIOD
    first = Play()
    first.core.reach(0)
    assert first.read(0)
    assert first.run(0)
    assert first.core.start_by(0, first.now) > first.time + PERIOD


def test_the_retry_goes_on_when_the_second_run_is_broken_off() -> None:
    play = play_of_second_run()
    assert play.core.confirm(0, play.core.term, play.now)
    play.hear(*LATE_END, by="lost")
    assert not play.core.put_back(0, play.core.term, play.now)
    assert play.effects() == [2]


def test_the_retry_goes_on_at_once_when_the_end_comes_before_the_second_run() -> None:
    play = play_of_second_run()
    assert play.hear(*LATE_END, by="lost") == []
    assert not play.core.confirm(0, play.core.term, play.now)
    assert play.effects() == [2]


def test_the_retry_waits_also_when_the_partition_went_and_came_back_meanwhile() -> None:
    play = play_of_second_run()
    assert play.core.confirm(0, play.core.term, play.now)
    play.core.lose(play.now)
    restored = Ledger("q", Progress(0))
    restored.fold(LATE_END, "lost")
    play.core.own(restored, play.now)
    assert not play.read(0, ordering_key="k")
    assert not read_retry(play)
    assert play.end(0) == [2]


def test_a_key_that_a_former_owner_frees_late_waits_for_the_retry_that_runs() -> None:
    play = play_of_second_run()
    play.hear(*LATE_END, by="lost")
    play.core.confirm(0, play.core.term, play.now)
    assert play.run(2)
    assert play.hear(freed(-1, KEY, RETRY), by="former") == []
    assert play.end(2) == [1]


@pytest.mark.parametrize("is_heard_first", [True, False])
def test_a_key_that_has_gone_on_waits_for_no_retry_of_a_lost_run_whose_end_is_first_in_the_journal(
    is_heard_first: bool,
) -> None:
    """The simulator's seed 635389: the lost run is a retry, record 2, and the next task of its key is record 1."""
    ledger, restored = Ledger("q", Progress(0)), Ledger("q", Progress(0))
    for each in (ledger, restored):
        each.fold(LATE_END, "former")
    lease = ledger.start(2, "lost")
    play = Play(ledger)
    assert not play.read(1, ordering_key="k")
    assert not read_retry(play)
    play.core.reclaim(2, lease, play.now)
    assert play.run(2)
    play.hear(Transition(STARTED, 2, 2), by="me")
    assert play.end(2) == [1]
    late_end = Transition(ENDED, 2), held(2, KEY, RETRY.next)
    assert not is_heard_first or play.hear(*late_end, by="lost") == []
    assert play.run(1)
    play.core.will_end(1, after_retry)
    play.end(1)
    assert is_heard_first or play.hear(*late_end, by="lost") == []
    restored.fold(late_end, "lost")
    restored.fold(play.told, "me")
    assert restored.holds == {KEY: Run("t1", 1)}
    assert restored.recall(sent_by(2), since=0) is not None, "the retry that the lost run has sent is a copy"


@pytest.mark.parametrize("is_heard", [False, True])
def test_of_the_own_end_and_one_that_is_before_it_in_the_journal_the_other_one_says_what_is_a_copy(
    is_heard: bool,
) -> None:
    """The simulator's seed 721440: the own run is retried, and the other one was the last."""
    play = Play()
    play.read(0)
    assert play.run(0)
    play.core.lose(play.now)
    play.core.will_end(0, after_retry)
    play.end(0)
    play.core.outbox.keep(play.told)
    restored = Ledger("q", Progress(0))
    restored.fold([Transition(STARTED, 0, 2)], "other")
    play.core.own(restored, play.now)
    assert play.core.needs_journal()
    if is_heard:
        play.hear(Transition(ENDED, 0, 1), by="me")
    play.hear(Transition(ENDED, 0, 2), remembered(0, sent_by(0), play.now.log, ""), by="other")
    play.core.reach(1)
    assert not play.core.needs_journal()
    assert play.read(1, id="t0", retries=1, retry_of="q.a/3/0") is is_heard


def test_who_takes_over_waits_for_a_run_by_a_reservation_though_a_lost_worker_has_told_its_own_late() -> None:
    """The run starts when its reservation is durable, before its begin is."""
    ledger = Ledger("q", Progress(0))
    ledger.fold([granted(0, Lease("runs", 0))], "runs")
    ledger.fold([granted(0, Lease("lost", 0)), Transition(STARTED, 0, 1)], "lost")
    play = Play(ledger)
    assert not play.read(0, ordering_key="k")
    play.core.reclaim(0, Lease("lost", 1), play.now)
    assert play.effects() == []
    assert play.core.leases_elsewhere() == [(0, Lease("runs", 0))]
    play.core.reclaim(0, Lease("runs", 0), play.now)
    assert play.effects() == [0]


def test_a_retry_has_its_tasks_place_in_a_lane_that_has_gone_on_with_the_next_task() -> None:
    """The run that has held the lane for record 9, a retry of task 3, was lost; its repetition has ended the task."""
    ledger = Ledger("q", Progress(0))
    ledger.hold(KEY, Run("t3", 1), 3)
    ledger.hold(KEY, Run("t3", 2), 9)
    [checkpoint] = encode_checkpoint(ledger, "owner")
    restored = Ledger("q", Progress(0))
    assert add_checkpoint(restored, checkpoint) == 1
    for each in (ledger, restored):
        each.hold(KEY, Run("t2", 1), 2)
        assert (each.holds, each.holders) == ({KEY: Run("t3", 2)}, {KEY: 9}), "task 2 was deleted while it ran"
        each.hold(KEY, Run("t3", 1), 3)
        assert each.holds == {KEY: Run("t3", 2)}, "that run is over"
        each.hold(KEY, Run("t4", 1), 4)
        assert (each.holds, each.holders, each.places) == ({KEY: Run("t4", 1)}, {KEY: 4}, {KEY: 4})
        each.free(KEY)
        assert (each.holds, each.holders, each.places) == ({}, {}, {})


def test_an_owner_says_nothing_to_the_end_by_which_its_key_waits_nor_does_a_guest() -> None:
    play = play_of_second_run()
    play.kinds()
    play.hear(*LATE_END, by="lost")
    visitor = Play(owned=False)
    visitor.core.ledger.end(0)
    visitor.hear(*LATE_END, by="lost")
    assert play.kinds() == visitor.kinds() == []


@pytest.mark.parametrize("far", ["handed out", "running", "elsewhere"])
def test_a_key_whose_retry_is_under_way_is_freed_by_its_end_and_by_nobody_else(far: str) -> None:
    play = Play()
    play.read(0, ordering_key="k")
    play.read(1, ordering_key="k")
    assert play.run(0)
    play.core.will_end(0, after_retry)
    assert play.end(0) == []
    assert play.read(2, ordering_key="k", id="t0", retries=1)
    if far == "running":
        assert play.run(2)
    elif far == "elsewhere":
        assert play.core.give(2, play.core.term, None, b"2", "guest", play.now) is not None
    assert not play.core.free(KEY, play.now)
    assert play.effects() == []
    assert play.core.ledger.holds == {KEY: RETRY}


# -- an owner that was stopped itself ----------------------------------------------------------------------------------


def stop(play: Play) -> None:
    """Stops the process for long; its group says that it owns the partition still."""
    play.time += SESSION
    assert not play.membership.renew(play.time)
    play.membership.open(play.time)


def test_what_was_begun_before_the_owner_was_stopped_runs_when_a_begin_since_is_heard_and_nobody_has_ended_it() -> None:
    play = play_of_second_run()
    stop(play)
    assert play.core.confirm(0, play.core.term, play.now) is None
    play.effects()
    assert play.kinds()[-1] == (STARTED, 0)
    assert play.core.awaits(0) == play.core.outbox.number
    assert play.core.is_undecided(0)
    play.hear(Transition(STARTED, 0, 2), by="me")
    assert play.core.is_undecided(0), "that one was told before"
    play.hear(Transition(STARTED, 0, 3), by="me")
    assert play.core.confirm(0, play.core.term, play.now)
    play.end(0)
    assert play.core.ledger.has_ended(0)


def test_what_was_begun_before_the_owner_was_stopped_does_not_run_if_its_lost_run_has_ended_meanwhile() -> None:
    play = play_of_second_run()
    stop(play)
    assert play.core.confirm(0, play.core.term, play.now) is None
    play.hear(*LATE_END, by="lost")
    assert play.core.confirm(0, play.core.term, play.now) is False
    assert play.effects() == [2]


def test_a_begin_that_was_told_before_the_owner_was_stopped_and_is_heard_since_does_not_vouch_for_the_next() -> None:
    play = Play()
    play.read(0)
    play.read(1)
    play.core.reach(2)
    stop(play)
    assert play.begin(0)
    stop(play)
    play.hear(Transition(STARTED, 0, 1), by="me")
    assert play.begin(1)
    assert play.core.is_undecided(1)


def test_what_was_begun_before_the_owner_was_stopped_may_have_ended_in_the_guest_that_it_took_for_lost() -> None:
    play = Play()
    play.core.reach(0)
    play.read(0)
    assert play.core.give(0, play.core.term, None, b"0", "guest", play.now) == 0
    play.hear(Transition(STARTED, 0, 1), by="guest")
    play.core.reclaim(0, Lease("guest", 1), play.now)
    assert play.begin(0)
    play.hear(Transition(STARTED, 0, 2), by="me")
    stop(play)
    assert play.core.confirm(0, play.core.term, play.now) is None
    play.hear(Transition(ENDED, 0), by="guest")
    assert play.core.confirm(0, play.core.term, play.now) is False
    assert play.is_empty()


def test_what_only_this_owner_has_begun_runs_also_if_it_was_stopped() -> None:
    play = Play()
    play.core.reach(0)
    play.read(0)
    assert play.begin(0)
    stop(play)
    assert play.core.confirm(0, play.core.term, play.now)


def test_a_run_that_is_broken_off_is_left_to_who_has_begun_its_task_while_this_process_was_taken_for_lost() -> None:
    play = Play()
    play.read(0, ordering_key="k")
    assert play.run(0)
    play.core.lose(play.now)
    restored = Ledger("q", Progress(0))
    restored.fold([Transition(STARTED, 0, 1)], "me")
    restored.fold([granted(0, Lease("other", 1)), Transition(STARTED, 0, 2)], "other")
    play.core.own(restored, play.now)
    play.kinds()
    assert not play.core.put_back(0, play.core.term, play.now)
    assert play.states(0) == ["ELSEWHERE"]
    assert play.core.leases_elsewhere() == [(0, Lease("other", 2))]
    play.core.reclaim(0, Lease("other", 2), play.now)
    assert play.found() == [0], "that one is lost too, and this process has told that it runs the task no more"
    assert (RELEASED, 0) in play.kinds()


@pytest.mark.parametrize("is_stopped", [True, False])
def test_a_task_that_was_deleted_since_it_has_begun_as_another_owners_does_not_run(*, is_stopped: bool) -> None:
    """The simulator's seed 720181."""
    play = guest()
    assert play.begin(0)
    restored = Ledger("q", Progress(0))
    restored.fold([granted(0, Lease("me", 0))], "other")
    restored.fold([Transition(STARTED, 0, 1)], "me")
    play.core.own(restored, play.now)
    assert play.read(1), "Kafka has record 0 no more"
    assert play.core.leases_elsewhere() == []
    if is_stopped:
        stop(play)
    assert play.core.confirm(0, play.core.term, play.now) is False
    play.end(1)
    assert play.is_empty()
