"""ChordReducer: readable scenarios, a dumb twin, restarts from the compacted changelog, and what a part costs."""

from __future__ import annotations

import json
import tracemalloc
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kafka_exec.core.control.chord import ChordReducer, FailChord, Fire
from kafka_exec.core.control.reducers import Change, Command, Output, Reducers
from kafka_exec.errors import Undecodable
from tests.unit.twins.chord import PlainChords

UNFINISHED, FIRED = 1000.0, 100.0


class Plane:
    """A reducer with its changelog, compacted at every moment."""

    def __init__(self) -> None:
        self.chords = ChordReducer(unfinished=UNFINISHED, fired=FIRED)
        self.log: dict[str, bytes | None] = {}
        self.now = 0.0

    def play(self, outputs: list[Output]) -> list[Any]:
        """Stores the changes; the effects."""
        for output in outputs:
            if isinstance(output, Change):
                self.log.pop(output.key, None)  # compaction leaves the last record, where it is
                self.log[output.key] = output.value
        return [output for output in outputs if not isinstance(output, Change)]

    def take(self, kind: str, **body: Any) -> list[Any]:
        due = self.play(self.chords.due(self.now))
        return due + self.play(self.chords.take(Command(f"chord.{kind}", body), self.now))

    def part(self, task: str, index: int | None = None, group: str = "g", run: str | None = None) -> list[Any]:
        return self.take(
            "part", group=group, task=task, index=index, ok=True, payload=f"result of {task}", body="b", run=run
        )

    def size(self, size: int, run: str = "1", group: str = "g") -> list[Any]:
        return self.take("size", group=group, size=size, header=["h"], run=run)

    def restart(self) -> None:
        """A new owner, which knows only the changelog, and may read records that it knows."""
        chords = ChordReducer(unfinished=UNFINISHED, fired=FIRED)
        for _ in range(2):
            for key, value in self.log.items():
                chords.restore(key, value)
        self.chords = chords

    @property
    def kept(self) -> list[list[str]]:
        """The keys of the items that are stored."""
        return [json.loads(key) for key, value in self.log.items() if value is not None]


def tasks(effects: list[Any]) -> list[str]:
    (fire,) = effects
    assert isinstance(fire, Fire)
    return [part.task for part in fire.parts]


def test_the_last_part_fires_the_body_on_the_parts_in_order() -> None:
    plane = Plane()
    plane.size(3)
    assert plane.part("c", 2) == plane.part("a", 0) == []
    (fire,) = plane.part("b", 1)
    assert (fire.group, fire.body, fire.header) == ("g", "b", ["h"])
    assert [part.payload for part in fire.parts] == ["result of a", "result of b", "result of c"]


@pytest.mark.parametrize("before", [0, 1, 2, 3])
def test_the_size_may_come_at_any_time(before: int) -> None:
    plane, effects = Plane(), []
    for number in range(4):
        if number == before:
            effects += plane.size(3)
        if number < 3:
            effects += plane.part(f"t{number}", number)
    assert tasks(effects) == ["t0", "t1", "t2"]


def test_parts_without_a_place_come_last_as_they_came() -> None:
    plane = Plane()
    plane.part("y")
    plane.part("x")
    plane.part("a", 0)
    assert tasks(plane.size(3)) == ["a", "y", "x"]


def test_a_part_counts_once() -> None:
    plane = Plane()
    plane.size(2)
    for _ in range(3):
        assert plane.part("a", 0) == []
    assert tasks(plane.part("b", 1)) == ["a", "b"]


def test_an_added_task_makes_the_chord_longer_once() -> None:
    plane = Plane()
    plane.size(1)
    for _ in range(2):
        assert plane.take("more", group="g", task="added") == []
    assert plane.part("a", 0) == []
    assert tasks(plane.part("added")) == ["a", "added"]


def test_tasks_may_share_a_place() -> None:
    plane = Plane()
    plane.size(3)
    assert plane.part("nested", 0) == plane.part("too", 0) == []
    plane.restart()
    assert tasks(plane.part("b", 1)) == ["nested", "too", "b"]


def test_a_task_may_stand_at_several_places() -> None:
    plane = Plane()
    plane.size(2)
    assert plane.part("a", 0) == plane.part("a", 0) == []
    plane.restart()
    assert tasks(plane.part("a", 1)) == ["a", "a"]


def test_an_empty_header_fires_at_once() -> None:
    (fire,) = Plane().take("size", group="g", size=0, header=None, body="b", run="1")
    assert (fire.body, fire.parts) == ("b", ())


def test_after_the_body_only_a_mark_stays_and_copies_change_nothing() -> None:
    plane = Plane()
    plane.size(2)
    plane.part("a", 0)
    plane.take("more", group="g", task="c")
    plane.part("b", 1)
    assert tasks(plane.part("c")) == ["a", "b", "c"]
    assert plane.kept == [["fired", "g"]]
    assert plane.part("a", 0) == plane.part("c") == plane.size(2) == plane.take("more", group="g", task="c") == []
    assert plane.kept == [["fired", "g"]]
    assert len(plane.chords) == 0


def test_a_group_id_that_is_used_again_is_a_run_of_its_own() -> None:
    plane = Plane()
    plane.size(1, run="1")
    assert tasks(plane.part("a", 0)) == ["a"]
    assert plane.size(1, run="2") == []
    assert plane.size(1, run="1") == []  # a copy of the first run's
    assert tasks(plane.part("a", 0)) == ["a"]
    assert plane.size(1, run="2") == []


def test_a_part_that_names_a_new_run_may_come_before_its_size() -> None:
    plane = Plane()
    plane.size(1, run="1")
    assert tasks(plane.part("a", 0, run="1")) == ["a"]
    assert plane.part("a", 0, run="1") == plane.part("a", 0, run="2") == []
    assert tasks(plane.size(1, run="2")) == ["a"]


def test_what_is_never_complete_is_forgotten() -> None:
    plane = Plane()
    plane.size(2)
    plane.part("a", 0)
    assert plane.chords.next_timer == UNFINISHED
    assert plane.play(plane.chords.due(UNFINISHED - 1)) == []
    assert len(plane.chords) == 1
    plane.play(plane.chords.due(UNFINISHED))
    assert (len(plane.chords), plane.kept, plane.chords.next_timer) == (0, [], None)


def test_the_mark_of_a_fired_group_goes_too() -> None:
    plane = Plane()
    plane.size(1)
    plane.part("a", 0)
    plane.play(plane.chords.due(FIRED))
    assert plane.kept == []


def test_a_body_that_cannot_be_sent_fails_the_chord_once() -> None:
    plane = Plane()
    plane.size(1)
    (fire,) = plane.part("a", 0)
    (fail,) = fire.failed("too large")
    assert (fail.group, fail.body, fail.reason, fail.parts) == ("g", "b", "too large", fire.parts)
    assert fail.failed("this too") == ()


def test_a_part_that_cannot_be_stored_fails_its_chord() -> None:
    plane = Plane()
    plane.size(2)
    body = {"group": "g", "task": "a", "index": 0, "ok": True, "payload": "x", "body": "b"}
    plane.take("part", **body)
    (fail,) = plane.play(plane.chords.refused(Command("chord.part", body), [], "too large", 0.0))
    assert isinstance(fail, FailChord)
    assert (fail.reason, [part.task for part in fail.parts]) == ("too large", ["a"])
    assert plane.kept == [["fired", "g"]]
    assert plane.part("b", 1) == []


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        ("part", {"group": 1, "task": "a", "ok": True}),
        ("part", {"group": "g", "task": None, "ok": True}),
        ("part", {"group": "g", "task": "a", "ok": 1}),
        ("part", {"group": "g", "task": "a", "ok": True, "index": True}),
        ("size", {"group": "g", "size": "3", "run": "1"}),
        ("size", {"group": "g", "size": 3}),
        ("more", {"group": "g"}),
        ("less", {"group": "g"}),
    ],
)
def test_a_malformed_command_changes_nothing(kind: str, body: dict[str, Any]) -> None:
    plane = Plane()
    with pytest.raises(Undecodable):
        plane.take(kind, **body)
    assert (len(plane.chords), plane.log) == (0, {})


@pytest.mark.parametrize("value", [None, b"", b"{", b"[]", b"3", b'{"kind": 1}', b"\xff"])
def test_what_is_no_command_is_said_to_be_none(value: bytes | None) -> None:
    with pytest.raises(Undecodable):
        Command.decode(value)


def test_reducers_are_found_by_the_name_before_the_dot() -> None:
    reducers = Reducers({"chord": lambda: ChordReducer(unfinished=1, fired=1)})
    change, *_ = reducers.take(Command("chord.size", {"group": "g", "size": 1, "run": "1"}), 0.0)
    assert isinstance(change, Change)
    assert change.key.startswith("chord:")
    reducers.restore(change.key, change.value)
    reducers.restore("gone:x", b"1")
    assert reducers.next_timer == 1
    with pytest.raises(Undecodable):
        reducers.take(Command("other.thing", {}), 0.0)


GROUPS = st.sampled_from(["g", "h"])
NAMES = st.sampled_from(["a", "b", "c", "d"])
RUNS = st.sampled_from(["1", "2", "3"])
STEPS = st.one_of(
    st.fixed_dictionaries(
        {
            "kind": st.just("chord.part"),
            "group": GROUPS,
            "task": NAMES,
            "index": st.none() | st.integers(0, 3),
            "ok": st.booleans(),
            "run": st.none() | RUNS,
        }
    ),
    st.fixed_dictionaries({"kind": st.just("chord.size"), "group": GROUPS, "size": st.integers(0, 4), "run": RUNS}),
    st.fixed_dictionaries({"kind": st.just("chord.more"), "group": GROUPS, "task": NAMES}),
    st.sampled_from(["restart", "wait", "wait long"]),
)


@given(steps=st.lists(STEPS, max_size=60))
def test_it_agrees_with_counting_all_commands_anew_whoever_owns_it(steps: list[Any]) -> None:
    plane, twin = Plane(), PlainChords(UNFINISHED, FIRED)
    for step in steps:
        if step == "restart":
            plane.restart()
        elif isinstance(step, str):
            plane.now += 60.0 if step == "wait" else 600.0
        else:
            effects = plane.take(step["kind"].partition(".")[2], **{k: v for k, v in step.items() if k != "kind"})
            assert [[part.task for part in fire.parts] for fire in effects] == [
                fired for fired in [twin.take(step, plane.now)] if fired is not None
            ]
        assert len(plane.chords) == len(twin.commands) or isinstance(step, str)


@given(order=st.permutations([*range(12), *range(12), "size", "size"]))
def test_any_order_of_copies_fires_once(order: list[Any]) -> None:
    plane, fired = Plane(), []
    for step in order:
        fired += plane.size(12) if step == "size" else plane.part(f"t{step}", step)
        plane.restart()
    assert tasks(fired) == [f"t{number}" for number in range(12)]


def test_the_cost_of_a_part() -> None:
    number = 3_000
    chords = ChordReducer(unfinished=UNFINISHED, fired=FIRED)
    body = json.dumps({"group": "g", "index": 0, "ok": True, "payload": "x" * 100, "body": "b"})
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    for n in range(number):
        fields = json.loads(body) | {"task": f"{n:036}", "index": n}
        chords.take(Command("chord.part", fields), 0.0)
    grown = tracemalloc.get_traced_memory()[0] - before
    tracemalloc.stop()
    print(f"{grown / number:.0f} bytes per part beside 100 of its payload")
    assert grown / number < 100 + 600
