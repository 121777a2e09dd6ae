"""Lanes: beside a dumb twin, and how the ledger remembers what they wait for."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kafka_exec.core.message.envelope import Message, encode, ticket_of
from kafka_exec.core.queue.checkpoints import add_checkpoint, encode_checkpoint
from kafka_exec.core.queue.lanes import STOPPED, Lane, Lanes, Run, Ticket
from kafka_exec.core.queue.ledger import Ledger
from kafka_exec.core.queue.partition.ends import end
from kafka_exec.core.queue.progress import Progress
from kafka_exec.core.queue.transitions import ENDED, MOST_REMEMBERED, Memory, Transition, freed, held, remembered
from kafka_exec.core.queue.transitions import encode as encode_transitions
from tests.unit.twins.lanes import PlainLanes

#: What happens: a record comes to a lane; or the n-th of those that may run ends, for good (0) or to be retried (1).
EVENTS = st.lists(
    st.one_of(st.tuples(st.just("come"), st.sampled_from("ab")), st.tuples(st.integers(0, 5), st.integers(0, 1))),
    max_size=60,
)
KEY = Lane("key", "k")


@given(EVENTS)
def test_lanes_agree_with_their_twin(events: list[tuple[str | int, str | int]]) -> None:
    lanes, holds, twin, offset = Lanes(), dict[Lane, Run](), PlainLanes(), 0

    def come(name: str, run: Run) -> None:
        nonlocal offset
        lanes.enter(offset, Ticket(Lane("key", name), run))
        twin.records.append((offset, name, *run))
        offset += 1

    for what, more in events:
        if what == "come":
            come(str(more), Run(f"task-{offset}", 0))
            continue
        able = [record for record in twin.records if twin.may_run(record[0])]
        if not able:
            continue
        at, name, task, retries = able[int(what) % len(able)]
        ticket = lanes.ticket(at)
        assert ticket == Ticket(Lane("key", name), Run(task, retries))
        twin.end(at)
        if holds.get(ticket.lane) == ticket.run:
            del holds[ticket.lane]
        lanes.leave(at)
        if more:
            holds[ticket.lane] = ticket.run.next
            twin.holds[name] = (task, retries + 1)
            come(name, ticket.run.next)
        for record in twin.records:
            assert lanes.may_run(record[0], holds) == twin.may_run(record[0])
    assert {view.lane: view.waiting for view in lanes.views({}, ())} == {
        Lane("key", name): count for name in "ab" if (count := sum(record[1] == name for record in twin.records))
    }


def test_a_retry_keeps_its_tasks_place() -> None:
    lanes = Lanes()
    for offset in range(3):
        lanes.enter(offset, Ticket(KEY, Run(f"t{offset}", 0)))
    lanes.leave(0)
    holds = {KEY: Run("t0", 1)}
    assert lanes.next(KEY, holds) is None
    lanes.enter(3, Ticket(KEY, Run("t0", 1)))
    assert lanes.next(KEY, holds) == 3
    assert [offset for offset in (1, 2, 3) if lanes.may_run(offset, holds)] == [3]
    lanes.leave(3)
    assert lanes.next(KEY, {}) == 1


def test_how_many_come_before_a_record() -> None:
    lanes = Lanes()
    for offset in range(3):
        lanes.enter(offset, Ticket(KEY, Run(f"t{offset}", 0)))
    assert lanes.places(KEY, {}) == {0: 0, 1: 1, 2: 2}
    lanes.leave(0)
    assert lanes.places(KEY, {KEY: Run("t0", 1)}) == {1: 1, 2: 2}
    lanes.enter(9, Ticket(KEY, Run("t0", 1)))
    assert lanes.places(KEY, {KEY: Run("t0", 1)}) == {9: 0, 1: 1, 2: 2}


def test_a_stopped_lane_waits_for_nobodys_record() -> None:
    lanes = Lanes()
    lanes.enter(0, Ticket(KEY, Run("t0", 0)))
    lanes.enter(1, Ticket(KEY, Run("t0", 1)))
    assert lanes.next(KEY, {KEY: Run("t0", STOPPED)}) is None


def told(ledger: Ledger, *transitions: Transition) -> None:
    ledger.apply(encode_transitions("a", "q", transitions))


def test_a_new_owner_knows_what_lanes_wait_for_and_what_must_not_run_again() -> None:
    ledger = Ledger("q", Progress(0))
    told(ledger, Transition(ENDED, 0), held(0, KEY, Run("t0", 1)), remembered(0, "d", 50.0, "t"))
    restored = Ledger("q", Progress(0))
    assert all(add_checkpoint(restored, part) for part in encode_checkpoint(ledger, "a"))
    for each in (ledger, restored):
        assert each.holds == {KEY: Run("t0", 1)}
        assert each.recall("d", since=50.0) == Memory(50.0, "t")
        assert each.recall("d", since=51.0) is None
        assert each.recall("e", since=0.0) is None
    told(restored, Transition(ENDED, 5), freed(5, KEY, Run("t0", 2)))
    assert restored.holds == {KEY: Run("t0", 1)}
    told(restored, Transition(ENDED, 6), freed(6, KEY, Run("t0", 1)))
    assert restored.holds == {}
    told(restored, held(7, KEY, Run("t1", STOPPED)), freed(-1, KEY))
    assert restored.holds == {}


def test_who_runs_anothers_retry_tells_that_its_lane_goes_on_without_knowing_that_it_waits() -> None:
    owner, guest = Ledger("q", Progress(0)), Ledger("q", Progress(0))
    owner.hold(KEY, Run("t0", 1))
    retry = Ticket(KEY, Run("t0", 1), origin=3)
    told(owner, *end(guest, 5, retry, None, at=1.0, is_copy=False))
    assert owner.holds == {}
    assert owner.recall("@3", since=0.0)


def test_what_is_remembered_is_bounded() -> None:
    ledger = Ledger("q", Progress(0))
    for number in range(MOST_REMEMBERED + 5):
        ledger.remember(str(number), Memory(float(number)))
    assert len(ledger.remembered) == MOST_REMEMBERED
    assert ledger.recall("4", since=0.0) is None
    assert ledger.recall("5", since=0.0)


def ticket(restarted: bool = False, **headers: object) -> Ticket | None:
    message = Message(b"", "application/json", "utf-8", {"task": "t", **headers}, {})  # type: ignore[arg-type]
    return ticket_of(encode(message), message.body, "q.a", 3, restarted=restarted)


def test_a_records_place_is_in_its_headers() -> None:
    assert ticket(id="1") is None
    assert ticket(id="1", ordering_key="k", retries=2) == Ticket(KEY, Run("1", 2), task="t")
    assert ticket(id="1", deduplication_id="d") == Ticket(Lane("id", "1"), Run("1", 0), is_unique=True, task="t")
    assert ticket(id="1", deduplication_id="d", ordering_key="k") == Ticket(KEY, Run("1", 0), is_unique=True, task="t")
    assert ticket_of([("ordering-key", b"k"), ("headers", b"no json")], None, "q.a", 3) is None
    assert ticket_of([("ordering-key", b"k")], None, "q.a", 3) is None


@pytest.mark.parametrize(
    ("retry_of", "origin"),
    [("q.a/3/12", 12), ("q.a/4/12", None), ("q.b/3/12", None), ("q.a/3/x", None), ("q.a/3/-1", None), ("12", None)],
)
def test_a_retry_names_the_record_that_has_sent_it(retry_of: str, origin: int | None) -> None:
    assert ticket(id="1", retries=1, retry_of=retry_of) == Ticket(Lane("id", "1"), Run("1", 1), origin=origin, task="t")


def test_a_task_that_was_begun_before_has_a_lane() -> None:
    assert ticket(id="1", restarted=True) == Ticket(Lane("id", "1"), Run("1", 0), task="t")
    assert ticket(restarted=True) is None


def test_what_is_dropped_when_its_like_has_ended() -> None:
    assert Ticket(KEY, Run("1", 0), is_unique=True).once == "1"
    assert Ticket(KEY, Run("1", 1), is_unique=True).once is None
    assert Ticket(KEY, Run("1", 0)).once is None
    assert Ticket(KEY, Run("1", 1), origin=7).once == "@7"
    assert Ticket(KEY, Run("1", 1), is_unique=True, origin=7).once == "@7"


@pytest.mark.parametrize(
    ("ticket", "is_over", "restarted", "expected"),
    [
        (Ticket(KEY, Run("1", 0)), True, False, []),
        (Ticket(KEY, Run("1", 0)), True, True, ["@9"]),
        (Ticket(KEY, Run("1", 0)), False, True, []),
        (Ticket(KEY, Run("1", 1), origin=7), False, False, ["@7"]),
        (Ticket(KEY, Run("1", 1), origin=7), True, True, ["@7", "@9"]),
        (Ticket(KEY, Run("1", 0), is_unique=True), True, False, ["1"]),
        (Ticket(KEY, Run("1", 0), is_unique=True), False, False, []),
        (Ticket(KEY, Run("1", 1), is_unique=True, origin=7), True, False, ["@7", "1"]),
    ],
)
def test_what_an_end_makes_superfluous(ticket: Ticket, is_over: bool, restarted: bool, expected: list[str]) -> None:
    assert ticket.ends(9, is_over=is_over, restarted=restarted) == expected


def test_of_two_records_of_one_retry_the_first_is_its_lanes_next() -> None:
    lanes, holds = Lanes(), {KEY: Run("t0", 1)}
    lanes.enter(3, Ticket(KEY, Run("t0", 1)))
    lanes.enter(4, Ticket(KEY, Run("t0", 1)))
    assert lanes.next(KEY, holds) == 3
    lanes.leave(4)
    assert lanes.next(KEY, holds) == 3
