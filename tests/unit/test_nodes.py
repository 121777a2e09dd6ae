"""The roll of nodes: who is there, who is gone, and what each can do."""

from __future__ import annotations

import json

import pytest

from kafka_exec.core.nodes.heartbeat import (
    Heartbeat,
    Load,
    Name,
    Namesake,
    NodeState,
    Seen,
    judge,
    node_state,
    roll,
)

WORK = Load(slots=4, active=1, queues=("celery",), tasks=("add", "work"))


def seen(name: str, incarnation: str, at: float, *, tasks: bool = False, work: Load = WORK, left: bool = False) -> Seen:
    beat = Heartbeat(incarnation, "here", 1, left=left, since=float(incarnation.encode()[0]))
    return Seen(name, beat.telling(work, tasks=tasks), at)


def states(*heard: Seen, now: float = 10.0) -> list[tuple[str, str, NodeState]]:
    return [(found.name, found.beat.incarnation, state) for found, state in roll(heard, now=now, period=1.0)]


def test_a_heartbeat_comes_back_with_what_the_node_does() -> None:
    for tasks in (True, False):
        beat = seen("n", "a", 1.0, tasks=tasks).beat
        assert Heartbeat.decode(beat.encode()) == beat
        # As versions of this package wrote it that did not know all of today's fields.
        known = {
            name: value
            for name, value in json.loads(beat.encode()).items()
            if name in ("incarnation", "place", "pid", "left")
        }
        older = Heartbeat.decode(json.dumps(known).encode())
        assert older is not None
        assert (older.incarnation, older.kind, older.version) == (beat.incarnation, "", "")
        assert beat.known == 2
        assert beat.tasks == (("add", "work") if tasks else None)


@pytest.mark.parametrize(
    ("at", "left", "state"),
    [
        (9.0, False, NodeState.ALIVE),
        (7.0, False, NodeState.ALIVE),
        (6.9, False, NodeState.LOST),
        (9.0, True, NodeState.LEFT),
        (1.0, True, NodeState.LEFT),
    ],
)
def test_silence_and_goodbyes(at: float, left: bool, state: NodeState) -> None:
    assert node_state(Heartbeat("a", "here", 1, left=left), at, now=10.0, period=1.0) is state


def test_the_last_heartbeat_of_each_counts_by_name() -> None:
    heard = [seen("b", "x", 1.0), seen("a", "y", 9.0), seen("c", "z", 9.0), seen("c", "z", 9.5, left=True)]
    assert states(*heard) == [("a", "y", NodeState.ALIVE), ("b", "x", NodeState.LOST), ("c", "z", NodeState.LEFT)]


def test_who_has_come_again_is_there_once() -> None:
    assert states(seen("a", "1", 1.0), seen("a", "2", 9.5)) == [("a", "2", NodeState.ALIVE)]
    assert states(seen("a", "1", 1.0), seen("a", "2", 2.0)) == [("a", "2", NodeState.LOST)]
    assert states(seen("a", "1", 1.0, left=True), seen("a", "2", 2.0, left=True)) == [("a", "2", NodeState.LEFT)]


def test_two_living_nodes_of_one_name_are_both_there() -> None:
    both = [("a", "1", NodeState.ALIVE), ("a", "2", NodeState.ALIVE)]
    assert states(seen("a", "2", 9.0), seen("a", "1", 9.5)) == both


def test_task_names_are_those_last_told() -> None:
    more = WORK._replace(tasks=("new",))
    heard = [seen("a", "1", 1.0, tasks=True), seen("a", "1", 2.0), seen("a", "1", 3.0, tasks=True, work=more)]
    heard += [seen("a", "1", 9.0, work=more), seen("a", "2", 9.0)]
    found = {each.beat.incarnation: each.beat.tasks for each, _ in roll(heard, now=10.0, period=1.0)}
    assert found == {"1": ("new",), "2": None}


GONE = Namesake(is_gone=True, is_heard=False)
SAID_GOODBYE = Namesake(is_gone=True, is_heard=True)
SILENT = Namesake(is_gone=False, is_heard=False)
LIVES = Namesake(is_gone=False, is_heard=True)


@pytest.mark.parametrize(
    ("namesakes", "at_once", "after_a_while"),
    [
        ([], Name.FREE, Name.FREE),
        ([GONE, SAID_GOODBYE], Name.FREE, Name.FREE),
        ([SILENT], Name.UNSURE, Name.FREE),
        ([GONE, SILENT], Name.UNSURE, Name.FREE),
        ([LIVES], Name.TAKEN, Name.TAKEN),
        ([LIVES, SAID_GOODBYE], Name.TAKEN, Name.TAKEN),
        ([SILENT, LIVES], Name.TAKEN, Name.TAKEN),
    ],
)
def test_a_name_is_taken_only_by_who_is_heard(namesakes: list[Namesake], at_once: Name, after_a_while: Name) -> None:
    assert [judge(namesakes, waited=waited) for waited in (False, True)] == [at_once, after_a_while]
