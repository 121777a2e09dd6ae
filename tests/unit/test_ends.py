"""The ends of tasks that were sent before: told to each who waits, again after an error, and to nobody who waits no more."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from typing import Any

import pytest

from kafka_exec.backend.control import ends
from kafka_exec.backend.control.ends import Ends
from kafka_exec.core.control.wait_effects import Unwatch, Watch
from kafka_exec.core.results.lifecycle import State, record_key
from kafka_exec.core.results.state_record import StateRecord
from kafka_exec.errors import NotConfirmed


class Record:
    """A record of the topic of states."""

    def __init__(self, state: StateRecord) -> None:
        self._state = state

    def key(self) -> bytes:
        return record_key(self._state.id, self._state.state).encode()

    def value(self) -> bytes:
        return self._state.encode()


class States:
    """A view of the states, as the process's reader gives it."""

    def __init__(self, **known: State) -> None:
        self.known = {name: StateRecord(name, state, state.value) for name, state in known.items()}
        self.watched: set[str] = set()
        self._sink: Callable[[list[Any]], None] = lambda records: None

    def add_sink(self, sink: Callable[[list[Any]], None]) -> None:
        self._sink = sink

    def watch(self, tasks: Iterable[str]) -> None:
        self.watched.update(tasks)

    def unwatch(self, tasks: Iterable[str]) -> None:
        self.watched.difference_update(tasks)

    def find(self, task: str) -> StateRecord | None:
        assert task in self.watched, "else a record might be missed"
        return self.known.get(task)

    def write(self, task: str, state: State) -> None:
        self._sink([Record(StateRecord(task, state, state.value))])


class Told:
    """Those who were told of an end."""

    def __init__(self, errors: int = 0) -> None:
        self.all: list[tuple[str, str, State]] = []
        self._errors = errors
        self._news = threading.Condition()

    def __call__(self, waiter: str, end: StateRecord) -> None:
        with self._news:
            self._errors -= 1
            if self._errors >= 0:
                raise NotConfirmed("no answer")
            self.all.append((waiter, end.id, end.state))
            self._news.notify_all()

    def wait_for(self, *wanted: tuple[str, str, State]) -> None:
        with self._news:
            assert self._news.wait_for(lambda: len(self.all) >= len(wanted), timeout=30)
        assert sorted(self.all) == sorted(wanted)


def ends_of(states: States, told: Told) -> Ends:
    return Ends(states, told)  # type: ignore[arg-type]


def test_an_end_is_told_to_each_who_waits_whether_it_was_there_before_or_comes() -> None:
    states, told = States(past=State.DONE, runs=State.RUNNING), Told()
    found = ends_of(states, told)
    assert found.watch(Watch("x", ("past", "runs", "nobody"))) == ()
    found.watch(Watch("y", ("runs",)))
    told.wait_for(("x", "past", State.DONE))
    states.write("runs", State.SUSPENDED)
    states.write("runs", State.FAILED)
    told.wait_for(("x", "past", State.DONE), ("x", "runs", State.FAILED), ("y", "runs", State.FAILED))
    found.forget(Unwatch("x", ("past", "runs", "nobody")))
    assert states.watched == set()


def test_who_waits_no_more_is_not_told() -> None:
    states, told = States(), Told()
    found = ends_of(states, told)
    found.watch(Watch("x", ("a",)))
    found.watch(Watch("y", ("a",)))
    found.forget(Unwatch("x", ("a",)))
    states.write("a", State.REVOKED)
    told.wait_for(("y", "a", State.REVOKED))


def test_who_could_not_be_told_is_told_later(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ends, "_PAUSE", 0.01)
    states, told = States(past=State.DONE), Told(errors=2)
    ends_of(states, told).watch(Watch("x", ("past",)))
    told.wait_for(("x", "past", State.DONE))
