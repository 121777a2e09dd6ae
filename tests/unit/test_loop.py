"""No thread of kafka_exec is ended by an error: each runs in a loop, which tells the error, counts it and goes on."""

from __future__ import annotations

import ast
import logging
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import kafka_exec
from kafka_exec.core.nodes.faults import AGAIN, Faults, Told
from kafka_exec.errors import ConnectionFailed, Forbidden
from kafka_exec.kafka.client import complaints, loop
from kafka_exec.kafka.client.complaints import Complaints, Setback, faults
from kafka_exec.kafka.client.loop import Loop, run_once

#: How long a thread may take that is late, seconds.
PATIENCE = 30.0


@pytest.fixture(autouse=True)
def _nothing_before() -> Iterator[None]:
    """The counts are of the process."""
    complaints._after_fork_in_child()
    yield
    complaints._after_fork_in_child()


class Unspeakable(Exception):
    """An error that cannot be shown."""

    def __repr__(self) -> str:
        raise RuntimeError

    __str__ = __repr__


ERRORS = [RuntimeError("broken"), Setback("as may happen"), Forbidden("not allowed"), Unspeakable()]


@pytest.mark.parametrize("cooperative", [False, True])
@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
def test_a_loop_goes_on_after_an_error(error: Exception, cooperative: bool, caplog: pytest.LogCaptureFixture) -> None:
    outcomes: list[Exception | None] = [None, error, None, error, None]
    over = threading.Event()

    def turn() -> None:
        if not outcomes:
            over.set()
            found.pause(PATIENCE)
        elif (raised := outcomes.pop()) is not None:
            raise raised

    found = Loop("test", turn, complaints=Complaints("testing"), cooperative=cooperative)
    found.start()
    assert over.wait(PATIENCE)
    found.stop()
    assert found.join(PATIENCE)
    assert faults().facts()["testing"]["times"] == 2
    told = [each for each in caplog.records if each.levelno == logging.WARNING]
    assert len(told) == 1
    assert told[0].getMessage().startswith("testing: ")
    assert told[0].getMessage().endswith("; starting over")
    # What the code is to blame for, comes with the place.
    assert (told[0].exc_info is not None) == isinstance(error, (RuntimeError, Unspeakable))


def test_not_even_what_ends_a_process_ends_a_native_thread() -> None:
    raised: list[BaseException] = [SystemExit(3), KeyboardInterrupt()]
    found = Loop("test", lambda: _raise(raised.pop()) if raised else found.stop())
    found.start()
    assert found.join(PATIENCE)
    assert faults().total == 2


def _raise(error: BaseException) -> None:
    raise error


def test_the_pauses_grow_to_the_longest_and_a_stop_ends_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loop, "FIRST_PAUSE", 0.01)
    monkeypatch.setattr(loop, "LONGEST_PAUSE", 0.04)
    pauses: list[float] = []

    class Watched(Loop):
        def pause(self, seconds: float) -> None:
            pauses.append(seconds)
            if len(pauses) == 5:
                seconds = PATIENCE
                paused.set()
            super().pause(seconds)

    paused = threading.Event()
    found = Watched("test", lambda: _raise(RuntimeError()))
    found.start()
    assert paused.wait(PATIENCE)
    began = time.monotonic()
    found.stop()
    assert found.join(PATIENCE)
    assert time.monotonic() - began < PATIENCE / 2
    assert pauses == [0.01, 0.02, 0.04, 0.04, 0.04]


def test_the_end_comes_once_in_the_thread_also_if_it_fails() -> None:
    ended: list[int] = []

    def end() -> None:
        ended.append(threading.get_ident())
        raise RuntimeError

    found = Loop("test", lambda: None, end=end)
    assert not found.is_started
    assert found.join(0)
    found.start()
    found.start()
    assert not found.is_stopping
    found.stop()
    assert found.join(PATIENCE)
    assert len(ended) == 1
    assert ended != [threading.get_ident()]
    assert faults().total == 1


@pytest.mark.parametrize("cooperative", [False, True])
def test_what_runs_once_tells_its_error_too(cooperative: bool, caplog: pytest.LogCaptureFixture) -> None:
    monkeyed = f"once-{cooperative}"
    for _ in range(2):
        run_once(monkeyed, lambda: _raise(RuntimeError("broken")), after=0.001, cooperative=cooperative)
    _until(lambda: faults().total == 2)
    assert faults().facts()[f"kafka-exec-{monkeyed}"]["last"] == "RuntimeError: broken"
    assert [each.levelname for each in caplog.records].count("WARNING") == 1


def _until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def test_an_outage_is_left_to_the_health_of_the_cluster(caplog: pytest.LogCaptureFixture) -> None:
    lost = Setback("it is not known what became of it")
    lost.__cause__ = ConnectionFailed()
    for error in (ConnectionFailed(), lost):
        Complaints("testing").tell(error)
    assert not [each for each in caplog.records if each.levelno > logging.DEBUG]
    assert faults().total == 0


def test_a_line_is_news_again_after_a_while() -> None:
    told = Told()
    assert [told.is_news(*each) for each in [("a", 0.0), ("b", 1.0), ("a", 2.0), ("b", 3.0)]] == [
        True,
        True,
        False,
        False,
    ]
    assert not told.is_news("a", AGAIN - 1)
    assert told.is_news("a", AGAIN)
    assert not told.is_news("b", AGAIN)
    assert told.is_news("b", AGAIN + 1)


def test_errors_are_counted_by_what_was_done() -> None:
    found = Faults()
    for number, doing in enumerate(["moving", "counting", "moving"]):
        found.note(doing, f"error {number}" * 1000, 10.0 + number)
    assert found.total == 3
    facts = found.facts()
    assert {doing: (fact["times"], fact["at"]) for doing, fact in facts.items()} == {
        "moving": (2, 12.0),
        "counting": (1, 11.0),
    }
    assert facts["moving"]["last"].startswith("error 2")
    assert len(facts["moving"]["last"]) == 500


_BEGINNERS = {"Thread", "Timer", "start_new_thread", "spawn", "spawn_n"}


def test_every_thread_runs_in_a_loop() -> None:
    """A thread is begun in ``loop.py`` only; :func:`native.call` hands its error to the one who waits."""
    begun = [
        f"{path.name}: {ast.unparse(node)}"
        for path in Path(kafka_exec.__file__).parent.rglob("*.py")
        if any(name in (text := path.read_text(encoding="utf-8")) for name in _BEGINNERS)
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.Call) and _begins_a_thread(node)
    ]
    assert sorted(begun) == [
        "loop.py: native.Thread(target, name)",
        "loop.py: threading.Thread(target=target, name=name, daemon=True)",
        "native.py: Thread(run, 'kafka-exec-call')",
        "native.py: _original('_thread', 'start_new_thread')",
    ]


def _begins_a_thread(call: ast.Call) -> bool:
    name = call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")
    if name == "_original":
        return "start_new_thread" in ast.unparse(call)
    return name in _BEGINNERS
