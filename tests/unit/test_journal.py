"""The commits of a partition: readable scenarios, a dumb twin, and the bounds of size and work."""

from __future__ import annotations

import itertools
import sys
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kafka_exec.core.queue import progress as journal
from kafka_exec.core.queue.progress import Progress
from tests.unit.scenario import assert_played
from tests.unit.twins.progress import PlainProgress

SCENARIOS = sorted((Path(__file__).parent / "scenarios").glob("*.txt"))


class Play:
    """Plays a scenario's lines: ``restore`` is a new owner that knows only the last ``commit``."""

    def __init__(self) -> None:
        self.progress = Progress(0)
        self.committed = (0, "")

    def answer(self, command: str, *words: str) -> str:
        if command == "start":
            self.progress = Progress(int(words[0]))
        elif command == "receive":
            return "run" if self.progress.receive(int(words[0])) else "skip"
        elif command == "deliver":
            return "again" if self.progress.deliver(int(words[0])) else "new"
        elif command == "end":
            self.progress.end(int(words[0]))
        elif command == "commit":
            self.committed = (self.progress.low, self.progress.metadata())
            return f"low={self.committed[0]} metadata={self.committed[1]}"
        elif command == "restore":
            self.progress = Progress.restore(*self.committed)
        elif command == "restore_from":
            self.progress = Progress.restore(int(words[0]), " ".join(words[1:]))
        else:
            raise ValueError(f"a scenario knows no {command!r}")
        return ""


@pytest.mark.parametrize("path", SCENARIOS, ids=lambda path: path.stem)
def test_scenario(path: Path) -> None:
    assert_played(path, Play().answer)


# Beside the twin

STEPS = st.lists(
    st.tuples(
        st.sampled_from(["receive", "receive", "deliver", "end", "end", "end", "reach", "restore"]),
        st.integers(-3, 6),
    ),
    max_size=80,
)


@given(start=st.integers(0, 5), steps=STEPS)
def test_it_agrees_with_plain_sets(start: int, steps: list[tuple[str, int]]) -> None:
    progress, twin = Progress(start), PlainProgress(start)
    for step, distance in steps:
        if step == "receive":  # mostly the next one, sometimes after a gap or once more
            offset = max(0, twin.high + (distance if distance in (-1, 2, 5) else 0))
            assert progress.receive(offset) == twin.receive(offset)
        elif step == "deliver":
            offset = max(0, twin.high + distance - 4)
            assert progress.deliver(offset) == twin.deliver(offset)
        elif step == "reach":
            end = max(0, twin.high + distance - 3)
            assert progress.reach(end) == twin.reach(end)
        elif step == "end":
            offset = max(0, twin.low + distance)
            progress.end(offset)
            twin.end(offset)
        else:
            progress = Progress.restore(progress.low, progress.metadata())
            twin.restore()
        assert (progress.low, progress.high) == (twin.low, twin.high)


RECORDS = st.lists(st.tuples(st.sampled_from(["receive", "deliver", "end"]), st.integers(0, 30)), max_size=40)


@given(starts=st.tuples(st.integers(0, 9), st.integers(0, 9)), mine=RECORDS, others=RECORDS)
def test_what_two_owners_saw_is_put_together(
    starts: tuple[int, int], mine: list[tuple[str, int]], others: list[tuple[str, int]]
) -> None:
    folds = []
    for start, records in zip(starts, (mine, others), strict=True):
        fold = Progress(start), PlainProgress(start)
        for (name, offset), each in itertools.product(records, fold):
            getattr(each, name)(offset)
        folds.append(fold)
    (progress, twin), (other, other_twin) = folds
    progress.merge(other)
    twin.merge(other_twin)
    assert (progress.low, progress.high) == (twin.low, twin.high)
    for offset in range(progress.high):
        assert progress.receive(offset) == (offset not in twin.ended)


@given(order=st.permutations(range(10, 30)), repeated=st.lists(st.integers(0, 29)))
def test_any_order_of_ends_leads_to_the_same_place(order: list[int], repeated: list[int]) -> None:
    progress = Progress(10)
    assert all(progress.receive(offset) for offset in range(10, 30))
    for n, offset in enumerate(order):
        progress.end(offset)
        progress.end(order[n // 2])
        assert progress.low == min(set(range(10, 31)) - set(order[: n + 1]))
    for offset in repeated:
        progress.end(offset)
    assert (progress.low, progress.metadata()) == (30, "3 - 0 0 0")


@given(
    offset=st.integers(0, 2**62),
    ended=st.sets(st.integers(1, 60)),
    delivered=st.integers(0, 60),
    later=st.lists(st.integers(0, 60)),
)
def test_a_restored_progress_gives_the_same_answers(
    offset: int, ended: set[int], delivered: int, later: list[int]
) -> None:
    first = Progress(offset)
    for n in range(61):
        first.receive(offset + n)
    if delivered:
        first.deliver(offset + delivered - 1)
    for n in ended:
        first.end(offset + n)
    second = Progress.restore(first.low, first.metadata())

    assert (second.low, second.delivered, second.metadata()) == (first.low, first.delivered, first.metadata())
    assert [second.receive(offset + n) for n in range(61)] == [n not in ended for n in range(61)]
    for n in later:
        first.end(offset + n)
        second.end(offset + n)
        assert (second.low, second.metadata()) == (first.low, first.metadata())


@given(
    text=st.text()
    | st.text("0123456789- ", max_size=30).map("2 ".__add__)
    | st.text("0123456789- ", max_size=30).map("3 - ".__add__)
)
def test_any_metadata_is_read_without_an_error_and_never_ends_the_lowest(text: str) -> None:
    progress = Progress.restore(50, text)
    assert progress.low == 50
    assert progress.receive(50)


# Bounds of size and work


@pytest.mark.parametrize("every", [2, 3, 7])
@pytest.mark.parametrize("low", [0, 2**40])
def test_metadata_beyond_its_limit_loses_only_repeated_runs(low: int, every: int) -> None:
    progress = Progress(low)
    ended = {low + n for n in range(1, 20_000) if n % every}
    for n in range(20_000):
        progress.receive(low + n)
    for offset in ended:
        progress.end(offset)
    text = progress.metadata()

    assert journal.LONGEST_METADATA - 20 < len(text.encode()) <= journal.LONGEST_METADATA
    restored = Progress.restore(progress.low, text)
    run_again = {low + n for n in range(20_000) if restored.receive(low + n)}
    unfinished = {low + n for n in range(20_000)} - ended
    assert run_again >= unfinished
    cut = min(run_again - unfinished)
    assert ended - run_again == {offset for offset in ended if offset < cut}


def lines_executed(function: Callable[[], None]) -> int:
    """The number of lines of the journal's code that a call runs."""
    count = 0

    def local(frame: FrameType, event: str, arg: Any) -> Any:
        nonlocal count
        count += event == "line"
        return local

    def trace(frame: FrameType, event: str, arg: Any) -> Any:
        return local if frame.f_code.co_filename == journal.__file__ else None

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        function()
    finally:
        sys.settrace(before)
    return count


class Counted(int):
    """An offset that counts how often it is compared."""

    comparisons = 0

    def __lt__(self, other: int) -> bool:
        Counted.comparisons += 1
        return int.__lt__(self, other)

    def __gt__(self, other: int) -> bool:
        Counted.comparisons += 1
        return int.__gt__(self, other)


def reversed_ends(number: int) -> list[int]:
    return list(range(number - 1, -1, -1))


def every_other_end_reversed(number: int) -> list[int]:
    return [*range(number - 1, 0, -2), *range(number - 2, -1, -2)]


@pytest.mark.parametrize("order", [reversed_ends, every_other_end_reversed])
def test_the_work_of_an_end_does_not_grow_with_what_is_unfinished(order: Callable[[int], list[int]]) -> None:
    number = 20_000

    def end_all() -> None:
        for offset in order(number):
            progress.end(offset)

    progress = Progress(0)
    for n in range(number):
        progress.receive(n)
    assert lines_executed(end_all) < 20 * number
    assert progress.low == number


def test_the_comparisons_of_an_end_grow_with_the_logarithm() -> None:
    number = 20_000
    progress = Progress(0)
    for n in range(number):
        progress.receive(n)
    offsets = [Counted(offset) for offset in every_other_end_reversed(number)]
    Counted.comparisons = 0
    for offset in offsets:
        progress.end(offset)
    assert progress.low == number
    assert Counted.comparisons < 60 * number


@pytest.mark.parametrize("gap", [10**6, 10**15])
def test_a_gap_costs_the_same_whatever_its_length(gap: int) -> None:
    progress = Progress(0)
    progress.receive(0)

    def leap() -> None:
        assert progress.receive(gap)
        progress.metadata()
        Progress.restore(progress.low, progress.metadata()).receive(gap)

    assert lines_executed(leap) < 200
    assert progress.metadata() == f"3 - 0 0 0 1-{gap - 1}"
    assert sum(len(value) for value in vars(progress).values() if isinstance(value, (list, set, dict))) < 10


def test_the_committed_text_stays_short_while_one_task_hangs() -> None:
    progress = Progress(0)
    for n in range(10_000):
        progress.receive(n)
        progress.deliver(n)
        if n:
            progress.end(n)
    assert (progress.low, progress.metadata()) == (0, "3 - 0 0 10000 1-9999")
