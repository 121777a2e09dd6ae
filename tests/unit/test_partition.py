"""A partition as its owner, a former owner, and a guest know it: which tasks may begin, and what is told of them."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from kafka_exec.core.queue import ledger
from kafka_exec.core.queue.lanes import STOPPED, Lane, Run, after_failure, after_retry
from kafka_exec.core.queue.ledger import Ledger
from kafka_exec.core.queue.partition.parking import PATIENCE
from kafka_exec.core.queue.partition.states import RecordState
from kafka_exec.core.queue.progress import Progress
from kafka_exec.core.queue.transitions import (
    ENDED,
    GRANTED,
    RELEASED,
    REMEMBERED,
    STARTED,
    Lease,
    Memory,
    Transition,
    freed,
    granted,
    held,
    parked,
    remembered,
)
from kafka_exec.errors import NotConfirmed
from tests.unit.play import PERIOD, SESSION, Play, accept, guest

KEY = Lane("key", "k")
# -- reading -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("told", "expected"),
    [
        ((), [True, False, False]),
        ((Transition(ENDED, 0),), [False, True, False]),
        ((Transition(ENDED, 0), Transition(ENDED, 1)), [False, False, True]),
        ((Transition(ENDED, 0), held(0, KEY, Run("t0", 1))), [False, False, True]),
    ],
)
def test_an_end_that_is_heard_of_before_its_record_is_read_lets_its_lane_go_on(
    told: tuple[Transition, ...], expected: list[bool]
) -> None:
    play = Play()
    play.hear(*told)
    records = [(0, {}), (1, {}), (2, {"id": "t0", "retries": 1})]
    assert [play.read(offset, ordering_key="k", **more) for offset, more in records] == expected


def test_what_a_lost_worker_ran_is_handed_out_as_it_was_read_and_not_looked_up_one_by_one() -> None:
    ledger = Ledger("q", Progress(0))
    leases = [ledger.start(offset, "lost") for offset in range(1000)]
    play = Play(ledger)
    assert not any(play.read(offset) for offset in range(1000))
    for offset, lease in enumerate(leases):
        play.core.reclaim(offset, lease, play.now)
    assert play.effects() == list(range(1000))
    assert play.core.wanted == set()


def test_a_keys_task_is_reserved_when_it_is_read_and_others_are_not() -> None:
    play = Play()
    assert play.read(0, ordering_key="k0")
    assert play.read(1, ordering_key="k1")
    assert play.read(2)
    assert [(each.kind, each.offset, each.about) for each in play.told] == [
        (GRANTED, 0, ("me",)),
        (GRANTED, 1, ("me",)),
    ]


def test_a_copy_is_dropped_when_its_turn_comes_and_what_waits_behind_it_goes_on() -> None:
    play = Play()
    assert play.read(0, deduplication_id="d", id="x", ordering_key="k")
    assert not play.read(1, deduplication_id="d", id="x", ordering_key="k")
    assert not play.read(2, ordering_key="k")
    assert play.run(0)
    assert play.end(0) == [2]
    assert play.states(0, 1, 2) == ["ENDED", "ENDED", "READY"]


def test_thousands_of_copies_in_one_lane_are_dropped_one_after_the_other() -> None:
    play = Play()
    for offset in range(3000):
        play.read(offset, deduplication_id="d", id="x")
    assert play.run(0)
    play.end(0)
    while play.core.wanted:
        play.found()
    assert play.core.ledger.progress.low == 3000
    assert play.is_empty()


# -- running -----------------------------------------------------------------------------------------------------------


def test_a_run_is_told_before_it_starts_and_only_some_begins_must_be_durable() -> None:
    play = Play()
    for offset, headers in enumerate([{}, {"ordering_key": "k"}]):
        play.read(offset, **headers)
    assert play.begin(0)
    assert play.begin(1)
    assert play.states(0, 1) == ["BEGINNING", "BEGINNING"]
    assert play.core.awaits(0, surely=True) == play.core.outbox.number > 0, "the caller says that it must be"
    assert [play.core.awaits(0), play.core.awaits(1)] == [None, 1], (
        "the reservation of the key's task is the first told"
    )
    assert play.core.confirm(0, play.core.term, play.now)
    assert play.core.confirm(1, play.core.term, play.now)
    assert play.states(0, 1) == ["RUNNING", "RUNNING"]
    assert not play.core.begin(0, 0, play.now), "it runs already"


def test_who_is_put_back_may_begin_again_also_when_the_partition_went_and_came_back() -> None:
    play = Play()
    play.read(0)
    assert play.run(0)
    play.core.lose(play.now)
    play.core.own(Ledger("q", Progress(0)), play.now)
    assert not play.read(0), "it runs"
    assert play.core.put_back(0, 0, play.now)
    assert play.run(0)
    play.end(0)
    assert play.is_empty()


def test_a_worker_that_was_stopped_for_long_asks_what_is_its_own_before_it_begins_or_gives_anything() -> None:
    play = Play()
    assert play.read(0)
    play.time += SESSION
    with pytest.raises(NotConfirmed, match="not known yet"):
        play.begin(0)
    assert play.core.give(0, 0, None, b"0", "other", play.now) is None
    assert not play.membership.renew(play.time)
    play.membership.open(play.time)
    assert play.begin(0)


def test_a_worker_that_was_stopped_for_long_begins_what_a_former_owner_may_have_ended_when_it_has_heard_all_till_now() -> (
    None
):
    play = Play()
    for offset in range(3):
        play.read(offset)
    play.core.reach(3)
    play.read(3)
    play.time += SESSION
    assert not play.membership.renew(play.time)
    play.membership.open(play.time)
    assert play.begin(0)
    assert play.begin(1)
    assert play.core.is_undecided(0)
    assert play.core.awaits(0) == 1, "its begin must be in the journal"
    play.hear(Transition(ENDED, 0), by="former")
    assert not play.core.confirm(0, play.core.term, play.now)
    play.hear(Transition(STARTED, 1, 1), by="me")
    assert play.core.confirm(1, play.core.term, play.now)
    assert play.run(2)
    play.end(1), play.end(2)
    play.time += SESSION
    assert not play.membership.renew(play.time)
    play.membership.open(play.time)
    assert play.run(3), "no former owner has had it"


def test_who_does_not_hear_the_journal_waits_for_no_own_begin_that_it_would_not_hear() -> None:
    play = Play()
    play.read(0)
    play.hears = False
    play.time += SESSION
    assert not play.membership.renew(play.time)
    play.membership.open(play.time)
    assert play.run(0)


@pytest.mark.parametrize("how", ["close", "lose"])
def test_a_task_whose_begin_is_not_confirmed_does_not_start_once_its_partition_is_lost(how: str) -> None:
    play = Play()
    play.read(0, ordering_key="k")
    assert play.begin(0)
    getattr(play.core, how)(play.now)
    play.effects()
    play.hear(Transition(STARTED, 0, 1), Transition(ENDED, 0))
    assert not play.core.confirm(0, play.core.term, play.now)
    assert play.kinds() == [(GRANTED, 0), (STARTED, 0), (RELEASED, 0)]


def test_what_was_reserved_and_has_not_begun_is_given_back_when_the_partition_goes() -> None:
    play = Play()
    assert play.read(0, ordering_key="k0")
    assert play.read(1, ordering_key="k1")
    assert play.run(0)
    play.kinds()
    play.core.close(play.now)
    play.effects()
    assert play.kinds() == [(RELEASED, 1)]


def test_what_is_told_while_the_journal_is_read_is_not_forgotten() -> None:
    play = Play()
    assert play.read(0, ordering_key="k0")
    assert play.run(0)
    play.core.lose(play.now)
    play.core.outbox.keep()
    play.core.will_end(0, after_retry)
    play.end(0)
    play.core.own(Ledger("q", Progress(0)), play.now)
    assert not play.read(0, ordering_key="k0")
    assert not play.read(1, ordering_key="k0")  # its key waits for the retry
    assert play.read(2, ordering_key="k0", id="t0", retries=1)


# -- what others tell --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("over", ["reclaimed", "released"])
@pytest.mark.parametrize("headers", [{}, {"ordering_key": "k"}], ids=["plain", "keyed"])
def test_a_start_that_a_stopped_worker_tells_late_takes_a_task_that_is_handed_out_and_leaves_it(
    headers: dict[str, object], over: str
) -> None:
    play = Play()
    assert play.read(0, **headers)
    play.hear(Transition(STARTED, 0, 1), by="zombie")
    assert play.core.deliver(0, 0, play.now) is None
    assert play.states(0) == ["ELSEWHERE"]
    if over == "reclaimed":
        [(offset, lease)] = play.core.leases_elsewhere()
        play.core.reclaim(offset, lease, play.now)
    else:
        play.hear(Transition(RELEASED, 0, 1), by="zombie")
    assert play.found() == [0], "its record is not in memory: it is read again"
    assert play.begin(0)


def test_the_end_of_a_task_that_is_handed_out_or_waits_frees_its_lane() -> None:
    play = Play()
    play.read(0, ordering_key="k"), play.read(1, ordering_key="k"), play.read(2, ordering_key="k")
    play.hear(Transition(ENDED, 1))
    assert play.hear(Transition(ENDED, 0)) == [2]
    assert play.core.outstanding == 1
    assert not play.begin(0)


def test_a_task_that_ended_elsewhere_while_it_ran_here_is_not_handed_out_again_when_it_is_put_back() -> None:
    play = Play()
    play.read(0)
    assert play.run(0)
    play.hear(Transition(ENDED, 0))
    assert play.states(0) == ["RUNNING"]
    assert not play.core.put_back(0, 0, play.now)
    assert play.is_empty()


# -- sharing: of two begins the first in the journal counts ------------------------------------------------------------


def test_what_was_granted_begins_within_a_heartbeat_of_its_log_time_or_goes_back() -> None:
    play = guest()
    assert play.out == [0]
    assert play.core.strays(play.now) == {0}
    play.time += 1.1 * PERIOD
    assert play.core.strays(play.now) == set()
    assert not play.begin(0)
    assert play.kinds() == [(RELEASED, 0)]
    assert play.is_empty()
    late = guest(at=1000.0)
    assert not late.begin(0), "however late it was read"


def test_a_granted_task_runs_when_its_begin_is_the_first_in_the_journal() -> None:
    play = guest()
    assert play.begin(0)
    assert play.core.awaits(0) == 1
    assert play.core.is_undecided(0)
    play.hear(Transition(STARTED, 0, 1), by="me")
    assert not play.core.is_undecided(0)
    play.hear(Transition(STARTED, 0, 1), by="owner")
    assert play.core.confirm(0, play.core.term, play.now)
    play.end(0)
    assert play.kinds() == [(STARTED, 0), (ENDED, 0)]
    assert play.is_empty()


@pytest.mark.parametrize(
    "told", [[Transition(STARTED, 0, 1)], [Transition(ENDED, 0)], [Transition(STARTED, 0, 1), Transition(ENDED, 0)]]
)
@pytest.mark.parametrize("begun", [False, True])
def test_a_granted_task_that_another_begins_first_does_not_run_here(told: Sequence[Transition], begun: bool) -> None:
    play = guest()
    assert not begun or play.begin(0)
    play.hear(*told, by="owner")
    assert not begun or not play.core.is_undecided(0)
    assert not play.core.confirm(0, play.core.term, play.now)
    assert not play.begin(0)
    assert play.states(0) == ["ENDED" if told[-1].kind == ENDED else "UNREAD"]


def test_of_many_tasks_of_another_owner_only_the_last_ends_are_known_here(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ledger, "_MOST_FOREIGN", 10)
    play = Play(owned=False)
    offsets = range(1, 301, 3)
    for offset in offsets:
        accept(play, play.now.log, offset=offset)
        assert play.begin(offset)
        play.hear(Transition(STARTED, offset, 1), by="me")
        assert play.core.confirm(offset, play.core.term, play.now)
        play.end(offset)
    ended = [offset for offset in offsets if play.states(offset) == ["ENDED"]]
    assert 10 <= len(ended) <= 20
    assert ended == list(offsets)[-len(ended) :]
    play.core.own(Ledger("q", Progress(0)), play.now)
    assert play.read(offsets[0]), "the journal tells whether it has ended"
    assert not play.read(offsets[-1])


def test_a_grant_that_the_journal_contradicts_is_not_accepted() -> None:
    play = Play(owned=False)
    play.hear(granted(0, Lease("me", 0)), granted(0, Lease("third", 0)), by="owner")
    accept(play, play.now.log)
    assert play.out == []


def test_a_lease_that_was_told_before_a_gap_in_what_was_heard_contradicts_no_grant() -> None:
    """The owner reserves the tasks of keys, and gives them away later."""
    play = guest()
    assert play.begin(0)
    play.hear(Transition(STARTED, 0, 1), by="me")
    assert play.core.confirm(0, play.core.term, play.now)
    play.hear(granted(1, Lease("owner", 0)), held(7, KEY, Run("t7", 1)), by="owner")
    play.core.miss_journal()
    accept(play, play.now.log, offset=1)
    assert play.out == [0, 1]
    assert play.core.attempts(0) == 1, "it runs here"
    assert play.core.ledger.holds == {}


def owner_that_reclaims() -> Play:
    """An owner that has granted task 0 and takes it back, since the guest is not heard."""
    play = Play()
    play.read(0)
    assert play.core.give(0, 0, None, b"0", "guest", play.now) == 0
    play.core.reclaim(0, Lease("guest", 0), play.now)
    assert play.effects() == [0]
    assert play.begin(0)
    assert play.core.awaits(0) is not None
    assert play.core.is_undecided(0)
    return play


def test_an_owner_runs_what_it_takes_back_if_its_begin_is_the_first() -> None:
    play = owner_that_reclaims()
    play.hear(Transition(STARTED, 0, 1), by="me")
    assert play.hear(Transition(STARTED, 0, 1), by="guest") == []
    assert play.core.confirm(0, play.core.term, play.now)
    assert play.core.ledger.leases[0] == Lease("me", 1)


def test_an_owner_leaves_what_it_takes_back_to_the_guest_that_has_begun_it_first() -> None:
    play = owner_that_reclaims()
    play.hear(Transition(STARTED, 0, 1), by="guest")
    play.hear(Transition(STARTED, 0, 1), by="me")
    assert not play.core.confirm(0, play.core.term, play.now)
    assert play.states(0) == ["ELSEWHERE"]
    assert play.core.leases_elsewhere() == [(0, Lease("guest", 1))]
    play.core.reclaim(0, Lease("guest", 1), play.now)
    assert play.found() == [0], "the guest is lost: its turn comes again"
    assert play.begin(0)
    assert play.core.attempts(0) == 2


def test_what_is_given_away_is_nobodys_to_give_again_and_comes_back_when_it_is_released() -> None:
    play = Play()
    play.read(0, ordering_key="k"), play.read(1, ordering_key="k")
    assert play.core.give(0, 0, None, b"0", "guest", play.now) == 0
    assert play.core.give(0, 0, None, b"0", "third", play.now) is None
    assert play.core.give(1, 0, None, b"1", "guest", play.now) is None, "another of its key comes first"
    assert play.hear(Transition(RELEASED, 0), by="guest") == [0]
    assert play.core.leases_elsewhere() == []


# -- lanes -------------------------------------------------------------------------------------------------------------


def test_a_key_waits_for_the_retry_and_stops_at_a_failure_that_stops_it() -> None:
    play = Play()
    play.read(0, ordering_key="k"), play.read(1, ordering_key="k")
    assert play.run(0)
    play.core.will_end(0, after_retry)
    assert play.end(0) == []
    assert play.read(2, ordering_key="k", id="t0", retries=1, retry_of="q.a/3/0")
    assert play.run(2)
    play.core.will_end(2, after_failure)
    assert play.end(2) == []
    assert play.core.ledger.holds == {KEY: Run("t0", STOPPED)}
    assert play.core.free(KEY, play.now)
    assert play.effects() == [1]
    assert not play.core.free(KEY, play.now)


def waiting(lanes: dict[str, int]) -> Play:
    """Of three keys one waits for a retry, which is there, one is stopped, one flows."""
    ledger = Ledger("q", Progress(0))
    ledger.hold(Lane("key", "a"), Run("a0", 1))
    ledger.hold(Lane("key", "b"), Run("b0", STOPPED))
    play = Play(ledger)
    for offset, (key, run) in enumerate([("a", "a1"), ("c", "c0"), ("b", "b1"), ("a", "a0"), ("c", "c1")]):
        play.read(offset, ordering_key=key, id=run, retries=1 if run == "a0" else 0)
    return play


def test_what_waits_for_a_run_is_parked_and_what_may_run_or_follows_what_runs_is_not() -> None:
    play = waiting({})
    play.core.park(play.now)
    assert play.kinds()[-1][0] == GRANTED, "nothing is parked before the commit has stood still for long"
    play.time += PATIENCE
    play.core.park(play.now)
    play.effects()
    assert play.told == [parked(Lane("key", "a"), [0]), parked(Lane("key", "b"), [2])]
    assert (play.core.ledger.progress.low, play.core.ledger.needed) == (1, 0)
    assert [offset for offset in range(5) if play.core.ledger.has_ended(offset)] == []
    play.core.ledger.end(0)
    assert (play.core.ledger.progress.low, play.core.ledger.needed) == (1, 1)


def test_what_is_parked_comes_before_what_is_read_later_in_its_lane() -> None:
    ledger = Ledger("q", Progress(0))
    ledger.park(KEY, [3, 7])
    ledger.progress.reach(8)
    play = Play(ledger)
    assert play.core.wanted == {3, 7}
    play.headers = {3: {"ordering_key": "k"}, 7: {"ordering_key": "k"}}
    assert not play.read(9, ordering_key="k")
    assert play.found() == [3]
    assert play.run(3)
    assert play.end(3) == [7]
    assert play.run(7)
    assert play.end(7) == [9]


def test_what_is_parked_and_was_purged_frees_its_lane() -> None:
    ledger = Ledger("q", Progress(0))
    ledger.park(KEY, [3, 7])
    ledger.progress.reach(8)
    play = Play(ledger)
    play.read(9, ordering_key="k")
    for offset in (3, 7):
        play.core.missing(offset, play.now)
    assert play.effects() == [9]


def test_what_waits_is_shown_with_the_number_of_those_before_it() -> None:
    play = Play()
    for offset in range(3):
        play.read(offset, ordering_key="k")
    assert play.core.places([0, 1, 2]) == {1: 1, 2: 2}
    [view] = play.core.views()
    assert (view.lane, view.waiting, view.hold, view.runs) == (KEY, 3, None, False)
    assert play.core.waiting({"t1", "t0"}) == ({1: b"1"}, set())


# -- commits -----------------------------------------------------------------------------------------------------------


def test_no_commit_is_ahead_of_what_was_told_of_lanes() -> None:
    play = Play()
    play.read(0, ordering_key="k"), play.read(1, ordering_key="k")
    assert play.run(0)
    play.core.will_end(0, after_retry)
    play.end(0)
    number = len({"reserved", "started", "ended and held"})
    assert play.core.commit(lambda told: told < number) is None
    assert play.core.uncommitted
    assert play.core.commit(lambda told: told <= number) == (1, "3 q 0 0 0")


def test_nothing_is_left_of_tasks_that_have_ended_wherever_they_ran() -> None:
    play = Play()
    for offset in range(40):
        play.read(offset, **({"ordering_key": f"k{offset % 7}"} if offset % 3 else {}))
    while play.out:
        offset = play.out.pop(0)
        if offset % 5 == 0 and play.core.give(offset, 0, None, b"%d" % offset, "guest", play.now) is not None:
            play.hear(Transition(STARTED, offset, 1), Transition(ENDED, offset), by="guest")
        else:
            assert play.run(offset)
            play.end(offset)
    assert play.core.ledger.progress.low == 40
    assert play.is_empty()
    assert play.core.state(7) is RecordState.ENDED


# -- logs that are not what they were ----------------------------------------------------------------------------------


def test_records_that_a_later_leader_has_written_over_truncated_ones_are_other_tasks() -> None:
    play = Play()

    def read(offset: int, epoch: int) -> bool:
        play.core.read(offset, None, b"%d" % offset, play.now, epoch)
        return offset in play.effects()

    assert all(read(offset, 1) for offset in range(6))
    for offset in (0, 1, 4):
        assert play.run(offset)
        play.end(offset)
    assert play.run(5)
    # The last three are lost with their leader; the log is read again from its beginning.
    assert [read(offset, 1) for offset in range(3)] == [False, False, False], "they are what they were"
    assert [read(offset, 2) for offset in range(3, 5)] == [True, True], "they are new, though 4 had ended"
    assert play.core.ledger.progress.low == 2
    assert play.states(2, 3, 4, 5) == ["READY", "READY", "READY", "RUNNING"]


def test_a_purge_ends_what_waits_and_what_is_handed_out_and_not_what_runs() -> None:
    play = Play()
    play.read(0, ordering_key="k")
    play.read(1, ordering_key="k")
    play.read(2)
    play.read(3)
    assert play.run(0)
    play.core.purge(play.now)
    play.effects()
    assert play.states(0, 1, 2, 3) == ["RUNNING", "ENDED", "ENDED", "ENDED"]
    assert play.end(0) == []
    assert play.is_empty()


@pytest.mark.parametrize(("paused", "starts"), [(0.0, True), (SESSION, False)])
def test_a_run_must_have_started_by_the_time_at_which_others_may_begin_it(paused: float, starts: bool) -> None:
    play = Play()
    play.read(0)
    assert play.run(0)
    start_by = play.core.start_by(0, play.now)
    play.time += paused
    assert (play.now.steady <= start_by) is starts


# -- found by the simulation -------------------------------------------------------------------------------------------


def test_a_former_owners_grant_to_the_process_that_is_the_owner_by_now_sticks_nowhere() -> None:
    ledger = Ledger("q", Progress(0))
    ledger.start(0, "former")
    play = Play(ledger)
    assert not play.read(0)
    assert play.hear(granted(0, Lease("me", 1)), by="former") == [0]


def test_a_key_that_a_former_owner_frees_late_goes_on() -> None:
    ledger = Ledger("q", Progress(0))
    ledger.hold(KEY, Run("t0", 1))
    play = Play(ledger)
    assert not play.read(1, ordering_key="k")
    assert play.hear(freed(-1, KEY, Run("t0", 1)), by="former") == [1]


def test_a_hold_that_comes_late_holds_nothing_once_the_run_that_it_waits_for_is_over() -> None:
    play = Play()
    play.core.ledger.remember("@0", Memory(1.0))
    play.hear(Transition(ENDED, 0), held(0, KEY, Run("t0", 1)), by="former")
    assert play.read(1, ordering_key="k")


def test_a_release_that_is_written_twice_frees_no_later_run() -> None:
    ledger = Ledger("q", Progress(0))
    for transition in (Transition(STARTED, 0, 1), Transition(RELEASED, 0, 1), Transition(STARTED, 0, 2)):
        ledger.fold([transition], "a")
    ledger.fold([Transition(RELEASED, 0, 1)], "a")
    assert ledger.leases[0] == Lease("a", 2)


def test_a_reservation_is_forgotten_with_its_task_wherever_that_ends() -> None:
    play = Play()
    play.read(0, ordering_key="k")
    play.hear(Transition(STARTED, 0, 1), Transition(ENDED, 0))
    assert play.is_empty()


def test_what_is_begun_and_undecided_is_decided_by_the_ledger_that_is_restored() -> None:
    for first, runs in (("me", True), ("owner", False)):
        play = guest()
        assert play.begin(0)
        restored = Ledger("q", Progress(0))
        restored.fold([Transition(STARTED, 0, 1)], first)
        play.core.own(restored, play.now)
        assert not play.core.is_undecided(0)
        assert play.core.confirm(0, play.core.term, play.now) is runs


def test_an_owner_listens_while_it_runs_a_task_of_which_a_lost_run_may_still_tell_the_end() -> None:
    ledger = Ledger("q", Progress(0))
    lease = ledger.start(0, "lost")
    play = Play(ledger)
    play.core.reach(0)
    assert not play.read(0, ordering_key="k")
    play.core.reclaim(0, lease, play.now)
    assert play.effects() == [0]
    assert play.begin(0)
    play.hear(Transition(STARTED, 0, 2), by="me")
    assert play.core.confirm(0, play.core.term, play.now)
    assert play.core.needs_journal()
    play.hear(Transition(ENDED, 0), held(0, KEY, Run("t0", 1)), by="lost")
    play.kinds()
    play.end(0)
    assert play.kinds() == [(ENDED, 0)], "the first end counts"
    assert play.core.ledger.holds == {KEY: Run("t0", 1)}
    assert not play.core.needs_journal()


def test_an_owner_listens_until_all_that_was_there_when_it_came_has_ended() -> None:
    play = Play()
    play.read(0)
    assert play.core.needs_journal()
    play.core.reach(1)
    assert play.core.needs_journal(), "a former owner may have begun it"
    assert play.run(0)
    play.end(0)
    assert not play.core.needs_journal()


def test_a_run_that_yields_to_one_that_has_ended_leaves_no_lease() -> None:
    ledger = Ledger("q", Progress(0))
    lease = ledger.start(0, "other")
    play = Play(ledger)
    play.read(0)
    play.core.reclaim(0, lease, play.now)
    assert play.begin(0)
    play.hear(Transition(STARTED, 0, 2), Transition(ENDED, 0))
    assert not play.core.confirm(0, play.core.term, play.now)
    assert play.core.leases_elsewhere() == []
    assert play.is_empty()


def test_a_parked_record_waits_for_one_before_it_of_which_the_journal_lacks_that_it_is_parked() -> None:
    ledger = Ledger("q", Progress(0))
    ledger.park(KEY, [1])
    play = Play(ledger)
    assert play.found() == []
    assert play.read(0, ordering_key="k")
    assert not play.read(1, ordering_key="k")
    assert play.run(0)
    assert play.end(0) == [1]


def test_a_record_that_a_former_owner_parks_late_is_read_in_its_order() -> None:
    play = Play()
    play.hear(parked(KEY, [0]), by="former")
    assert play.read(0, ordering_key="k")


def test_a_given_task_that_is_taken_back_is_told_to_nobody() -> None:
    play = Play()
    play.read(0)
    lease = Lease("other", play.core.give(0, play.core.term, None, b"0", "other", play.now))
    assert play.core.has_given(0, lease)
    play.core.reclaim(0, lease, play.now)
    assert not play.core.has_given(0, lease)


def test_what_a_lost_worker_ends_before_its_task_runs_again_does_not_run_again() -> None:
    play = Play()
    play.read(0, ordering_key="k")
    assert play.begin(0)
    play.hear(Transition(ENDED, 0), by="lost")
    assert not play.core.confirm(0, play.core.term, play.now)
    assert play.core.ledger.has_ended(0)
    assert play.is_empty()


def test_of_two_ends_of_a_task_the_first_decides_what_its_lane_waits_for() -> None:
    ledger = Ledger("q", Progress(0))
    ledger.fold([Transition(ENDED, 0), held(0, KEY, Run("t0", 1))], "owner")
    ledger.fold([Transition(ENDED, 0), held(0, KEY, Run("t0", STOPPED)), remembered(0, "@0", 1.0, "")], "lost")
    assert (ledger.holds, ledger.remembered) == ({KEY: Run("t0", 1)}, {})


def test_a_run_that_ends_after_another_one_of_its_task_changes_nothing_for_its_lane() -> None:
    play = Play()
    play.read(0, ordering_key="k")
    assert play.run(0)
    play.hear(Transition(ENDED, 0), held(0, KEY, Run("t0", 1)), by="lost")
    play.core.will_end(0, after_failure)
    play.end(0)
    assert play.core.ledger.holds == {KEY: Run("t0", 1)}


def test_what_has_run_is_remembered_although_the_guest_that_ran_it_takes_it_for_a_copy_by_now() -> None:
    play = guest(deduplication_id="d", id="d")
    assert play.run(0)
    # For the owner, which has heard more, this is the second end of task 7: it remembers nothing of it.
    play.hear(Transition(ENDED, 7), remembered(7, "d", play.now.log, ""), by="lost")
    play.kinds()
    play.end(0)
    assert play.kinds() == [(ENDED, 0), (REMEMBERED, 0)]


def test_a_guests_run_that_is_broken_off_when_it_is_the_owner_keeps_its_place() -> None:
    play = guest(ordering_key="k")
    assert play.run(0)
    play.core.own(Ledger("q", Progress(0)), play.now)
    assert play.core.put_back(0, play.core.term, play.now)
    assert play.run(0)
    play.core.will_end(0, after_retry)
    play.end(0)
    assert play.core.ledger.holds == {KEY: Run("t0", 1)}


def test_a_retry_that_a_lost_run_of_a_deleted_task_has_sent_is_no_copy() -> None:
    ledger = Ledger("q", Progress(0))
    ledger.start(0, "lost")
    ledger.release(0)
    ledger.start(0, "lost")
    ledger.release(0)
    ledger.park(KEY, [0])
    play = Play(ledger)
    play.core.missing(0, play.now)
    play.effects()
    assert play.core.ledger.has_ended(0)
    assert "@0" not in play.core.ledger.remembered


def test_a_parked_record_is_needed_until_it_is_durable_what_its_lane_waits_for_after_it() -> None:
    ledger = Ledger("q", Progress(0))
    ledger.park(KEY, [0])
    play = Play(ledger)
    play.headers = {0: {"ordering_key": "k"}}
    assert play.found() == [0]
    assert play.run(0)
    play.core.will_end(0, after_retry)
    play.end(0)
    assert play.core.commit(lambda number: False) is None
    assert play.core.outbox.needed == 0
    assert play.core.commit(lambda number: True) is not None
    assert play.core.outbox.needed == 1


def test_what_is_taken_back_before_it_is_read_is_contested_until_its_end() -> None:
    ledger = Ledger("q", Progress(0))
    lease = ledger.start(0, "other")
    play = Play(ledger)
    play.core.reclaim(0, lease, play.now)
    play.hear(Transition(ENDED, 0))
    assert play.core.leases_elsewhere() == []
    assert play.is_empty()


def test_a_checkpoint_that_this_process_made_before_it_lost_the_partition_is_not_named_when_it_comes_back() -> None:
    play = Play()
    play.core.ledger.progress.check_in(71, 8)
    play.core.lose(play.now)
    restored = Ledger("q", Progress(0))
    restored.progress.check_in(22, 19)
    play.core.own(restored, play.now)
    assert (play.core.ledger.progress.checkpoint, play.core.ledger.progress.folded) == (22, 19)


def test_what_is_given_back_late_and_was_given_to_the_same_worker_again_runs_once() -> None:
    play = Play()
    play.read(0)
    play.core.give(0, play.core.term, None, b"0", "other", play.now)
    play.core.reclaim(0, Lease("other", 0), play.now)
    play.core.give(0, play.core.term, None, b"0", "other", play.now)
    play.effects()
    assert play.hear(Transition(RELEASED, 0, 0)) == [0], "it is the first one that is given back"
    assert play.begin(0)
    assert play.core.is_undecided(0)
    play.hear(Transition(STARTED, 0, 1))
    assert not play.core.confirm(0, play.core.term, play.now)


def test_a_guest_whose_queue_is_gone_waits_for_no_journal() -> None:
    play = guest()
    assert play.begin(0)
    assert play.core.is_undecided(0)
    play.core.lose(play.now)
    assert not play.core.is_undecided(0)
    assert not play.core.confirm(0, play.core.term, play.now)
