"""WaitingReducer: every cell of its table, readable scenarios, a dumb twin, and what an id costs."""

from __future__ import annotations

import json
import tracemalloc
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kafka_exec.core.control import waiting
from kafka_exec.core.control.reducers import Command
from kafka_exec.core.control.wait_effects import BuryCallback, Continue, Refuse, Reply, TellProgress, Unwatch, Watch
from kafka_exec.core.control.wait_table import TABLE, WaitEvent, WaitOutcome, WaitPhase, document
from kafka_exec.core.control.waiters import Waiter, Waiters
from kafka_exec.core.control.waiting import WaitingReducer
from kafka_exec.errors import Undecodable
from tests.unit.twins.waiting import PlainWaits
from tests.unit.waiting_plane import DEADLINE, EARLY, REMEMBERED, Plane, call, suspend

P, E = WaitPhase, WaitEvent
Cell = tuple[WaitPhase, WaitEvent]
Step = Callable[[Plane], list[Any]]

HEAD = ("head", "x")


def told(command: Command) -> Step:
    return lambda plane: plane.take(command)


def refused(command: Command) -> Step:
    return lambda plane: plane.refuse(command)


def later(seconds: float) -> Step:
    return lambda plane: plane.wait(seconds)


def continues(outcome: str, number: int = 1, **answers: str) -> Continue:
    return Continue("t", number, (0, number), outcome, answers)


def reply(outcome: str, got: int, expected: int) -> Reply:
    return Reply("r", WaitOutcome(outcome), got, expected)


def in_use(task: str = "u", number: int = 1) -> Refuse:
    reason = "task t waits with the correlation id 'x' already: it must be another one"
    return Refuse(task, number, (0, number), "refused", reason)


def unknown(callback: str) -> BuryCallback:
    error = "no task was suspended with the correlation id 'x' in time"
    return BuryCallback("x", callback, f"data of {callback}", error)


def unexpected(callback: str) -> BuryCallback:
    error = "the suspension with the correlation id 'x' that came after it does not expect it"
    return BuryCallback("x", callback, f"data of {callback}", error)


WAITS, KEEPS_A = [told(suspend())], [told(call("a"))]
CONTINUED, OVER = [*WAITS, told(call("a"))], [*WAITS, later(DEADLINE)]
A = ("callback", "x", "a")

#: Each cell: what comes before, the event, its effects, and what the changelog holds after it.
CELLS: dict[Cell, tuple[list[Step], Step, list[Any], dict[tuple[str, ...], Any]]] = {
    (P.UNKNOWN, E.SUSPEND): ([], told(suspend()), [], {HEAD: "WAITING"}),
    (P.UNKNOWN, E.CALLBACK): ([], told(call("a")), [reply("kept", 1, 0)], {HEAD: "EARLY", A: "data of a"}),
    (P.EARLY, E.SUSPEND): (KEEPS_A, told(suspend(expected=2)), [], {HEAD: "WAITING", A: "data of a"}),
    (P.EARLY, E.CALLBACK): (
        KEEPS_A,
        told(call("b")),
        [reply("kept", 2, 0)],
        {HEAD: "EARLY", A: "data of a", ("callback", "x", "b"): "data of b"},
    ),
    (P.EARLY, E.COPY): (KEEPS_A, told(call("a")), [reply("already", 1, 0)], {HEAD: "EARLY", A: "data of a"}),
    (P.EARLY, E.TOO_LARGE): (
        KEEPS_A,
        refused(call("b")),
        [BuryCallback("x", "b", "data of b", "too large")],
        {HEAD: "EARLY", A: "data of a"},
    ),
    (P.EARLY, E.FORGET): (KEEPS_A, later(EARLY), [unknown("a")], {}),
    (P.WAITING, E.AGAIN): (WAITS, told(suspend(page=[0, 9])), [], {HEAD: "WAITING"}),
    (P.WAITING, E.OTHER): (WAITS, told(suspend("u")), [in_use()], {HEAD: "WAITING"}),
    (P.WAITING, E.CALLBACK): (
        [told(suspend(expected=2))],
        told(call("a")),
        [reply("counted", 1, 2)],
        {HEAD: "WAITING", A: "data of a"},
    ),
    (P.WAITING, E.LAST): (
        [told(suspend(expected=2)), told(call("b"))],
        told(call("a")),
        [continues("answered", a="data of a", b="data of b"), reply("continued", 2, 2)],
        {HEAD: "CONTINUED"},
    ),
    (P.WAITING, E.COPY): (
        [told(suspend(expected=2)), told(call("a"))],
        told(call("a", data="other")),
        [reply("already", 1, 2)],
        {HEAD: "WAITING", A: "data of a"},
    ),
    (P.WAITING, E.STRANGER): (
        [told(suspend(expected=["b"]))],
        told(call("a")),
        [reply("unexpected", 0, 1)],
        {HEAD: "WAITING"},
    ),
    (P.WAITING, E.TOO_LARGE): (
        [told(suspend(expected=3)), told(call("a"))],
        refused(call("b")),
        [Refuse("t", 1, (0, 1), "failed", "too large")],
        {HEAD: "CONTINUED"},
    ),
    (P.WAITING, E.REVOKE): (
        WAITS,
        told(Command("wait.revoke", {"tasks": ["other", "t"]})),
        [Refuse("t", 1, (0, 1), "failed", "it was revoked")],
        {HEAD: "CONTINUED"},
    ),
    (P.WAITING, E.DEADLINE): (
        [told(suspend(expected=2)), told(call("a"))],
        later(DEADLINE),
        [continues("timed-out", a="data of a")],
        {HEAD: "OVER"},
    ),
    (P.CONTINUED, E.SUSPEND): (CONTINUED, told(suspend(number=2)), [], {HEAD: "WAITING"}),
    (P.CONTINUED, E.AGAIN): (CONTINUED, told(suspend()), [], {HEAD: "CONTINUED"}),
    (P.CONTINUED, E.COPY): (CONTINUED, told(call("b")), [reply("already", 0, 1)], {HEAD: "CONTINUED"}),
    (P.CONTINUED, E.FORGET): (CONTINUED, later(REMEMBERED), [], {}),
    (P.OVER, E.SUSPEND): (OVER, told(suspend(number=2)), [], {HEAD: "WAITING"}),
    (P.OVER, E.AGAIN): (OVER, told(suspend()), [], {HEAD: "OVER"}),
    (P.OVER, E.COPY): (OVER, told(call("a")), [reply("too late", 0, 1)], {HEAD: "OVER"}),
    (P.OVER, E.FORGET): (OVER, later(REMEMBERED), [], {}),
}


class Recorded(dict[Cell, Any]):
    """The table, with the cells that were looked up."""

    def __init__(self) -> None:
        super().__init__(TABLE)
        self.seen: list[Cell] = []

    def __getitem__(self, cell: Cell) -> Any:
        self.seen.append(cell)
        return super().__getitem__(cell)


@pytest.fixture
def table(monkeypatch: pytest.MonkeyPatch) -> Recorded:
    recorded = Recorded()
    monkeypatch.setattr(waiting, "TABLE", recorded)
    return recorded


def test_each_cell_of_the_table_has_a_test() -> None:
    assert set(CELLS) == set(TABLE)


@pytest.mark.parametrize("owner", ["same owner", "new owner"])
@pytest.mark.parametrize("cell", TABLE, ids=lambda cell: "-".join(part.name for part in cell))
def test_a_cell(cell: Cell, owner: str, table: Recorded) -> None:
    before, event, effects, kept = CELLS[cell]
    plane = Plane()
    for step in before:
        step(plane)
    if owner == "new owner":
        plane.restart()
    table.seen.clear()
    assert event(plane) == effects
    assert cell in table.seen
    assert plane.kept == kept


def test_no_other_event_happens_in_a_phase_whatever_comes(table: Recorded) -> None:
    commands = [suspend(), suspend(number=2), suspend("u"), suspend("v", expected=["a", "b"], deadline=None)]
    commands += [call("a"), call("b"), call("c"), Command("wait.revoke", {"tasks": ["t"]})]
    steps = [*map(told, commands), refused(suspend("v", number=3)), refused(call("b")), later(EARLY), later(REMEMBERED)]
    for played in product(steps, repeat=3):
        plane = Plane()
        for step in played:
            step(plane)
    assert set(table.seen) == set(TABLE)


def test_the_documents_table_is_this_one() -> None:
    path = Path(__file__).parents[2] / "docs" / "suspensions.md"
    assert path.read_text(encoding="utf-8") == document()


def test_a_callback_before_its_suspension_continues_it_at_once() -> None:
    plane = Plane()
    assert plane.take(call("a")) == [reply("kept", 1, 0)]
    assert plane.take(suspend()) == [continues("answered", a="data of a")]
    assert plane.take(suspend()) == []
    assert plane.kept == {HEAD: "CONTINUED"}


def test_kept_callbacks_that_a_suspension_does_not_expect_are_dead_letters() -> None:
    plane = Plane()
    for callback in "abc":
        plane.take(call(callback))
    assert plane.take(suspend(expected=["b", "d"])) == [unexpected("a"), unexpected("c")]
    assert plane.kept == {HEAD: "WAITING", ("callback", "x", "b"): "data of b"}
    assert plane.take(call("d")) == [
        continues("answered", b="data of b", d="data of d"),
        reply("continued", 2, 2),
    ]


def test_kept_callbacks_beyond_the_last_one_are_dead_letters() -> None:
    plane = Plane()
    for callback in "abc":
        plane.take(call(callback))
    assert plane.take(suspend(expected=2)) == [
        continues("answered", a="data of a", b="data of b"),
        unexpected("c"),
    ]
    assert plane.kept == {HEAD: "CONTINUED"}


def test_a_sleep_takes_no_callback_and_ends_at_its_deadline() -> None:
    plane = Plane()
    plane.take(call("a"))
    assert plane.take(suspend(expected=0)) == [unexpected("a")]
    assert plane.take(call("b")) == [reply("unexpected", 0, 0)]
    assert plane.waits.next_timer == DEADLINE
    assert plane.wait(DEADLINE) == [continues("timed-out")]


def test_parallel_callbacks_are_counted_by_their_ids() -> None:
    plane = Plane()
    plane.take(suspend(expected=3))
    assert plane.take(call("a")) == [reply("counted", 1, 3)]
    assert plane.take(call("b")) == [reply("counted", 2, 3)]
    assert plane.take(call("a")) == [reply("already", 2, 3)]
    plane.restart()
    assert plane.take(call("b")) == [reply("already", 2, 3)]
    answers = {each: f"data of {each}" for each in "abc"}
    assert plane.take(call("c")) == [Continue("t", 1, (0, 1), "answered", answers), reply("continued", 3, 3)]
    assert plane.take(call("d")) == [reply("already", 0, 3)]


def test_an_expected_id_that_is_named_twice_is_one() -> None:
    plane = Plane()
    plane.take(suspend(expected=["a", "a"]))
    assert plane.take(call("a")) == [continues("answered", a="data of a"), reply("continued", 1, 1)]


def test_at_the_same_instant_the_deadline_is_first() -> None:
    plane = Plane()
    plane.take(suspend())
    plane.now = DEADLINE
    assert plane.take(call("a")) == [continues("timed-out"), reply("too late", 0, 1)]


def test_a_moment_before_the_deadline_the_callback_is_first() -> None:
    plane = Plane()
    plane.take(suspend())
    plane.now = DEADLINE - 0.001
    assert plane.take(call("a")) == [continues("answered", a="data of a"), reply("continued", 1, 1)]
    assert plane.wait(1.0) == []


def test_a_loop_may_use_one_id_again_and_again() -> None:
    plane = Plane()
    for number in range(3):
        assert plane.take(suspend(number=number)) == []
        assert plane.take(call("a")) == [
            continues("answered", number=number, a="data of a"),
            reply("continued", 1, 1),
        ]
        assert plane.take(suspend(number=number)) == []  # a repeated run tells it again
    assert plane.take(suspend(number=0)) == []
    assert plane.wait(DEADLINE) == []


def test_a_second_task_is_refused_once() -> None:
    plane = Plane()
    plane.take(suspend("t"))
    assert plane.take(suspend("u")) == [in_use()]
    plane.restart()
    assert plane.take(suspend("u")) == []  # a repeated run of the refused task
    assert plane.take(suspend("u", number=2)) == [in_use(number=2)]  # it has caught the error, and asks again
    plane.take(call("a"))
    assert plane.take(suspend("u", number=2)) == []
    assert plane.take(suspend("u", number=3)) == []
    assert plane.kept == {HEAD: "WAITING"}


def test_a_task_that_was_continued_is_not_refused_by_its_successor() -> None:
    plane = Plane()
    plane.take(suspend("t"))
    plane.take(call("a"))
    plane.take(suspend("u"))
    plane.restart()
    assert plane.take(suspend("t")) == []  # a repeated run of the first task
    plane.take(call("a"))
    assert plane.take(suspend("t")) == []
    assert plane.kept == {HEAD: "CONTINUED"}


def test_of_a_tasks_refused_suspensions_the_newest_counts_whatever_it_was_continued_from() -> None:
    plane = Plane()
    plane.take(suspend("t", number=1))
    assert plane.take(suspend("t", number=2)) == [in_use("t", 2)]
    plane.take(call("a"))
    plane.take(suspend("u"))
    assert plane.take(suspend("t", number=2)) == []


def test_so_many_refused_tasks_are_remembered() -> None:
    plane = Plane()
    plane.take(suspend("t"))
    for number in range(100):
        assert len(plane.take(suspend(f"u{number}"))) == 1
    assert [plane.take(suspend(f"u{number}")) for number in range(92, 100)] == [[]] * 8
    (head,) = plane.log.values()
    assert len(head or b"") < 1000


def test_a_task_that_is_sent_again_under_its_id_is_another_one() -> None:
    plane = Plane()
    plane.take(suspend("t", created=1.0))
    assert plane.take(suspend("t", created=2.0)) == [in_use("t")]
    plane.take(call("a"))
    assert plane.take(suspend("t", created=3.0)) == []
    assert plane.take(call("b")) == [continues("answered", b="data of b"), reply("continued", 1, 1)]


def test_a_wait_without_a_deadline_stays() -> None:
    plane = Plane()
    plane.take(suspend(deadline=None))
    assert plane.waits.next_timer is None
    assert plane.wait(1e9) == []
    assert plane.take(call("a")) == [continues("answered", a="data of a"), reply("continued", 1, 1)]


def test_ends_are_looked_for_from_the_suspension_to_its_end_and_by_each_new_owner() -> None:
    plane = Plane()
    plane.take(call("b", reply=None))
    watch = Watch("x", ("a", "c"))
    assert plane.take(suspend(expected=["a", "b", "c"], watched=["a", "c"])) == [watch]
    assert plane.take(suspend(expected=["a", "b", "c"], watched=["a", "c"])) == []
    plane.restart()
    assert plane.waits.next_timer == 0.0, "no other command need come"
    assert plane.wait(0) == [watch]
    assert plane.waits.next_timer == DEADLINE
    assert plane.take(call("c", reply=None)) == []
    ended = {"a": "data of a", "b": "data of b", "c": "data of c"}
    assert plane.take(call("a", reply=None)) == [continues("answered", **ended), Unwatch("x", ("a", "c"))]
    plane.restart()
    assert plane.wait(0) == []


@pytest.mark.parametrize("end", [later(DEADLINE), told(Command("wait.revoke", {"tasks": ["t"]}))])
def test_ends_are_looked_for_no_more_when_the_wait_is_over_otherwise(end: Step) -> None:
    plane = Plane()
    plane.take(suspend(expected=["a"], watched=["a"]))
    assert Unwatch("x", ("a",)) in end(plane)
    assert plane.take(call("a", reply=None)) == []


def test_a_state_tells_which_callbacks_have_come() -> None:
    plane = Plane()
    plane.take(call("a", reply=None))
    tells = suspend(expected=4, tells=True)
    assert plane.take(tells) == [TellProgress("t", (0, 1), ("a",))], "early ones too"
    assert plane.take(call("b")) == [TellProgress("t", (0, 1), ("a", "b")), reply("counted", 2, 4)]
    assert plane.take(call("b")) == [reply("already", 2, 4)]
    plane.restart()
    assert plane.take(tells) == [TellProgress("t", (0, 1), ("a", "b"))], "a repeated run has told the state anew"
    plane.take(call("c"))
    assert [type(each) for each in plane.take(call("d"))] == [Continue, Reply]


def test_a_suspension_that_is_refused_watches_nothing() -> None:
    plane = Plane()
    plane.take(suspend())
    assert [type(each) for each in plane.take(suspend("u", expected=["a"], watched=["a"]))] == [Refuse]


def test_a_callback_without_a_reply_is_as_good() -> None:
    plane = Plane()
    plane.take(suspend(expected=2))
    assert plane.take(call("a", reply=None)) == []
    assert plane.take(call("a", reply=None)) == []
    assert plane.take(call("b", reply=None)) == [continues("answered", a="data of a", b="data of b")]


def test_what_a_task_cannot_get_fails_it() -> None:
    first = continues("answered", a="data of a")
    (second,) = first.failed("too large")
    assert second == replace(first, again=True), "its queue may only be gone"
    (instead,) = second.failed("too large")
    assert instead == Refuse("t", 1, (0, 1), "failed", "too large")
    assert list(instead.failed("this too")) == []


@pytest.mark.parametrize("early", [[], [call("a")]], ids=["none early", "one early"])
def test_a_suspension_that_kafka_refuses_fails_its_task_once(early: list[Command]) -> None:
    plane = Plane()
    for command in early:
        plane.take(command)
    assert plane.refuse(suspend(expected=["a", "b"])) == [Refuse("t", 1, (0, 1), "failed", "too large")]
    assert plane.kept == {HEAD: "CONTINUED"}
    plane.restart()
    assert plane.take(suspend(expected=["a", "b"])) == []
    assert plane.wait(DEADLINE) == []
    assert plane.take(call("b")) == [reply("already", 0, 2)]


def test_an_early_callback_that_a_refused_suspension_does_not_expect_becomes_a_dead_letter() -> None:
    plane = Plane()
    for callback in "za":
        plane.take(call(callback))
    error = Refuse("t", 1, (0, 1), "failed", "too large")
    assert plane.refuse(suspend(expected=["a", "b"])) == [unexpected("z"), error]
    assert plane.kept == {HEAD: "CONTINUED"}
    plane.restart()
    assert plane.take(suspend("u", 1, created=2.0)) == []
    assert plane.take(call("c")) == [Continue("u", 1, (0, 1), "answered", {"c": "data of c"}), reply("continued", 1, 1)]


def test_a_second_task_is_refused_also_if_kafka_does_not_keep_that() -> None:
    plane = Plane()
    plane.take(suspend())
    assert plane.refuse(suspend("u")) == [in_use()]
    assert plane.take(call("a")) == [continues("answered", a="data of a"), reply("continued", 1, 1)]


def test_a_refusal_that_comes_after_the_end_of_the_wait_changes_nothing() -> None:
    plane = Plane()
    first = suspend(expected=2)
    for command in (first, call("a"), call("b")):
        plane.take(command)
    assert (
        plane.waits.refused(first, [], "too large", 0.0) == plane.waits.refused(call("a"), [], "too large", 0.0) == []
    )
    assert plane.waits.refused(suspend(id="y"), [], "too large", 0.0) == []


def test_a_refusal_of_a_suspension_does_not_concern_the_next_one() -> None:
    plane = Plane()
    for command in (suspend(number=1), call("a"), suspend(number=2)):
        plane.take(command)
    assert plane.waits.refused(suspend(number=1), [], "too large", 0.0) == []
    assert plane.take(call("b")) == [continues("answered", 2, b="data of b"), reply("continued", 1, 1)]


def test_what_comes_behind_a_refused_callback_in_one_transaction_is_kept() -> None:
    plane = Plane()
    plane.waits.take(call("a"), 0.0)
    behind = plane.waits.take(call("b"), 0.0)
    plane.play(plane.waits.refused(call("a"), [], "too large", 0.0))
    plane.play(behind)
    plane.restart()
    assert plane.take(suspend()) == [continues("answered", b="data of b")]


def test_of_a_suspension_that_is_over_little_is_kept() -> None:
    plane = Plane()
    ids = [f"{number:036}" for number in range(100)]
    plane.take(suspend(expected=ids))
    for each in ids:
        plane.take(call(each))
    (head,) = [value for value in plane.log.values() if value is not None]
    assert len(head) < 100
    assert plane.take(call("a")) == [reply("already", 0, 100)]


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        ("suspend", {"id": 1}),
        ("suspend", {"id": "\ud800"}),
        ("suspend", {"task": None}),
        ("suspend", {"task": ""}),
        ("suspend", {"created": None}),
        ("suspend", {"number": -1}),
        ("suspend", {"page": 3}),
        ("suspend", {"page": [1]}),
        ("suspend", {"expected": None}),
        ("suspend", {"expected": -1}),
        ("suspend", {"expected": [1]}),
        ("suspend", {"deadline": "soon"}),
        ("suspend", {"watched": [1]}),
        ("suspend", {"tells": 1}),
        ("callback", {"id": None}),
        ("callback", {"id": "\ud800"}),
        ("callback", {"callback": None}),
        ("callback", {"data": {}}),
        ("callback", {"reply": 1}),
        ("callback", {"reply": "\ud800"}),
        ("nothing", {}),
    ],
)
def test_a_malformed_command_changes_nothing(kind: str, body: dict[str, Any]) -> None:
    plane = Plane()
    whole = {**suspend().body, **call().body, **body}
    with pytest.raises(Undecodable):
        plane.take(Command(f"wait.{kind}", whole))
    assert (len(plane.waits), plane.log, plane.waits.next_timer) == (0, {}, None)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("", b"1"),
        ("[]", b"1"),
        ('["head"]', b"1"),
        ('["callback", "x"]', b'"d"'),
        ('["callback", "x", "a"]', b"1"),
        ('["head", "x"]', b"[]"),
        ('["head", "x"]', b'["WAITING", []]'),
        ('["head", "x"]', b'["NONE", "t", 1, 1, [0, 1], 1, null, [], [], false]'),
        ('["head", "x"]', b'["WAITING", "t", 1, 1, [0], 1, null, [], [], false]'),
        ('["head", "x"]', b'["WAITING", "t", 1, 1, [0, 1], 1, null, [1], [], false]'),
        ('["head", "x"]', b'["WAITING", "t", 1, 1, [0, 1], 1, null, [], [1], false]'),
        ('["head", "x"]', b'["WAITING", "t", 1, 1, [0, 1], 1, null, [], [], 1]'),
        ('["head", "x"]', b"{"),
    ],
)
def test_an_item_that_cannot_be_read_is_said_to_be_so(key: str, value: bytes) -> None:
    waits = WaitingReducer(early=EARLY, remembered=REMEMBERED)
    with pytest.raises(Undecodable):
        waits.restore(key, value)
    assert len(waits) == 0


TASKS = st.tuples(st.sampled_from("tuv"), st.sampled_from([1.0, 2.0]))
EXPECTED = st.integers(0, 3) | st.lists(st.sampled_from("abc"), min_size=1, max_size=3)
SUSPENSIONS = st.builds(
    lambda task, id, **more: suspend(task[0], created=task[1], id=id, **more),
    TASKS,
    id=st.sampled_from("xy"),
    number=st.integers(0, 2),
    expected=EXPECTED,
    deadline=st.none() | st.integers(0, 2000).map(float),
)
CALLBACKS = st.builds(call, st.sampled_from("abcd"), st.none(), st.sampled_from("xy"), st.sampled_from(["1", "2"]))
WAITING_STEPS = st.one_of(SUSPENSIONS, CALLBACKS, CALLBACKS, st.sampled_from(["restart", 1.0, 25.0, 300.0, 1000.0]))


def in_words(effects: list[Any]) -> Iterator[tuple[Any, ...]]:
    """Effects as the twin says them."""
    for effect in effects:
        if isinstance(effect, Continue):
            yield (effect.outcome, effect.task, effect.number, effect.page, dict(effect.answers))
        elif isinstance(effect, Refuse):
            yield (effect.outcome, effect.task, effect.number, effect.page)
        elif isinstance(effect, Reply):
            yield ("reply", effect.reply, effect.outcome.value, effect.got, effect.expected)
        else:
            yield ("buried", effect.id, effect.callback, effect.data)


@given(steps=st.lists(WAITING_STEPS, max_size=50))
def test_it_agrees_with_a_dumb_twin_whoever_owns_it(steps: list[Any]) -> None:
    plane, twin = Plane(), PlainWaits(EARLY, REMEMBERED)
    for place, step in enumerate(steps):
        if step == "restart":
            plane.restart()
            continue
        if isinstance(step, float):
            effects, expected = plane.wait(step), twin.pass_time(plane.now)
        else:
            # Each callback has a caller of its own, and each telling of a suspension a page of its own.
            own = {"reply": f"r{place}"} if step.kind == "wait.callback" else {"page": [0, place]}
            body = {**step.body, **own}
            effects, expected = plane.take(Command(step.kind, body)), twin.take(step.kind, body, plane.now)
        assert sorted(in_words(effects), key=repr) == sorted(expected, key=repr)
        assert len(plane.waits) == len(twin.ids)


@given(steps=st.lists(WAITING_STEPS, max_size=50))
def test_each_suspension_goes_on_once_and_each_callback_is_told_and_counted_once(steps: list[Any]) -> None:
    """All times together are shorter than an id is remembered."""
    plane, told_of = Plane(), dict[int, Command]()
    effects: list[Any] = []
    for place, step in enumerate(steps):
        if step == "restart":
            plane.restart()
        elif isinstance(step, float):
            effects += plane.wait(step / 100_000)
        elif step.kind == "wait.callback":
            # What comes has data of its own, so that the data tell what has become of it.
            told_of[place] = Command(step.kind, {**step.body, "reply": f"r{place}", "data": f"d{place}"})
            effects += plane.take(told_of[place])
        else:
            told_of[place] = Command(step.kind, {**step.body, "page": [0, place]})
            effects += plane.take(told_of[place])
    end = 3000.0
    effects += plane.wait(end)  # all deadlines, and the time of early callbacks
    ends = [each for each in effects if isinstance(each, (Continue, Refuse))]
    suspensions = [told_of[each.page[1]].body for each in ends]
    places = Counter((s["id"], s["task"], s["created"], s["number"]) for s in suspensions)
    assert set(places.values()) <= {1}, "a suspension goes on once"

    callbacks = {place: each for place, each in told_of.items() if each.kind == "wait.callback"}
    outcomes = {each.reply: each.outcome.value for each in effects if isinstance(each, Reply)}
    assert len([each for each in effects if isinstance(each, Reply)]) == len(outcomes) == len(callbacks)
    delivered = [data for each in ends if isinstance(each, Continue) for data in each.answers.values()]
    buried = [each.data for each in effects if isinstance(each, BuryCallback)]
    pending = [data for key, data in plane.kept.items() if key[0] == "callback"]  # their suspension has no deadline
    accepted = {f"d{place}" for place in callbacks if outcomes[f"r{place}"] in ("kept", "counted", "continued")}
    assert Counter([*delivered, *buried, *pending]) == Counter(accepted)
    kept = {f"d{place}" for place in callbacks if outcomes[f"r{place}"] == "kept"}
    assert set(buried) <= kept, "a callback whose caller was told that it counts is no dead letter"
    for each in ends:
        if isinstance(each, Continue) and each.outcome == "answered":
            expected = told_of[each.page[1]].body["expected"]
            assert len(each.answers) == expected if isinstance(expected, int) else set(each.answers) == set(expected)


@given(steps=st.lists(WAITING_STEPS, max_size=50))
def test_nothing_stays_of_ids_that_are_forgotten(steps: list[Any]) -> None:
    plane = Plane()
    for step in steps:
        if step == "restart":
            plane.restart()
        elif isinstance(step, float):
            plane.wait(step)
        elif step.body.get("deadline", 0.0) is not None:
            plane.take(step)
    plane.wait(2000.0)
    plane.wait(REMEMBERED)
    assert (len(plane.waits), plane.kept, plane.waits.next_timer) == (0, {}, None)


def test_a_deadline_that_is_years_away_does_not_outlive_its_suspension() -> None:
    plane = Plane()
    for number in range(100):
        plane.take(suspend(id=f"x{number}", deadline=1e9))
        plane.take(call(id=f"x{number}"))
    plane.wait(REMEMBERED)
    assert (len(plane.waits), plane.kept, plane.waits.next_timer) == (0, {}, None)


IDS = st.uuids().map(str) | st.text(st.characters(exclude_categories=["Cs"]), max_size=40)
NUMBERS = st.integers(0, 5) | st.integers(0, 2**63 - 1)


@given(
    st.builds(
        Waiter,
        st.sampled_from(WaitPhase),
        IDS,
        st.floats(-1e9, 1e11),
        NUMBERS,
        NUMBERS,
        NUMBERS,
        NUMBERS | st.frozensets(IDS),
        st.none() | st.floats(-1e9, 1e11),
        st.dictionaries(IDS, IDS, max_size=1),
        st.lists(st.tuples(IDS, st.floats(0, 1e9), NUMBERS), max_size=1).map(tuple),
        st.lists(IDS, max_size=1).map(tuple),
        st.booleans(),
    )
)
def test_a_short_form_is_the_same_id(waiter: Waiter) -> None:
    waiters = Waiters()
    waiters.put("x", waiter)
    is_known = waiter.phase is not WaitPhase.UNKNOWN or bool(waiter.got)
    assert (waiters.get("x"), len(waiters)) == ((waiter if is_known else Waiter()), int(is_known))
    assert waiters.of_tasks({waiter.task, "other"}) == ["x"] * is_known
    assert waiters.of_tasks({"other"}) == []
    assert Waiter.of_head(json.loads(json.dumps(waiter.head()))) == replace(waiter, got={})


def test_the_cost_of_a_suspension() -> None:
    number = 1_500
    waits = WaitingReducer(early=EARLY, remembered=REMEMBERED)
    ids = (len(f"approve-{0:028}") + len(f"{0:036}")) + 2 * 49  # two texts, as Python holds them
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    for n in range(number):
        body = {
            **suspend(str(UUID(int=n)), id=f"approve-{n:028}", created=1e9 + n, deadline=2e9 + n).body,
            "page": [7, 1000 + n],
        }
        waits.take(Command("wait.suspend", json.loads(json.dumps(body))), 1e9)
    grown = (tracemalloc.get_traced_memory()[0] - before) / number - ids
    tracemalloc.stop()
    print(f"{grown:.0f} bytes of a suspension beside {ids} of its ids")
    assert grown < 60
