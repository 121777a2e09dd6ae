"""The trail of a task: what its messages, the journal, its steps and its notes say that has happened, in order of time."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from kafka_exec.core.message.envelope import CONTINUATIONS, Message
from kafka_exec.core.queue.transitions import ENDED, FREED, GRANTED, HELD, PARKED, RELEASED, STARTED, Transition
from kafka_exec.core.results.lifecycle import State
from kafka_exec.core.results.state_record import Note, StateRecord

_SAID = {
    STARTED: "started",
    ENDED: "ended",
    RELEASED: "released",
    GRANTED: "granted",
    HELD: "key held",
    FREED: "key freed",
}


class Happening(NamedTuple):
    """An event of a task. ``at``: epoch seconds; topic, partition and offset: the place of the record that tells it."""

    at: float
    what: str
    topic: str
    partition: int
    offset: int
    attempt: int | None = None
    worker: str = ""
    detail: str = ""

    def as_json(self) -> dict[str, Any]:
        """The event as a JSON object."""
        return {name: value for name, value in self._asdict().items() if value not in (None, "")}


def of_message(message: Message, at: float, place: tuple[str, int, int], *, replayed: bool) -> Happening:
    """The event that a message of the task is in its queue: it was sent, retried, continued, or replayed."""
    task = message.task
    retries, continuations = task.get("retries") or 0, task.get(CONTINUATIONS) or 0
    if replayed:
        return Happening(at, "replayed", *place)
    if continuations:
        return Happening(at, "continued", *place, detail=f"continuation {continuations}")
    if retries:
        return Happening(at, "retried", *place, detail=f"retry {retries}")
    return Happening(at, "sent", *place, detail=str(task.get("origin") or ""))


def of_transition(transition: Transition, incarnation: str, at: float, place: tuple[str, int, int]) -> Happening | None:
    """The event that a transition of the journal tells; None if it is of no interest."""
    if transition.kind not in _SAID:
        return None
    detail = f"record {transition.offset}"
    if transition.kind == GRANTED:
        detail += f" to {transition.about[0]}"
    return Happening(at, _SAID[transition.kind], *place, transition.attempt or None, incarnation, detail)


def concerns(transition: Transition, offsets: Iterable[int]) -> bool:
    """True if a transition is of one of these records of the queue."""
    return transition.kind != PARKED and transition.offset in set(offsets)


def of_step(found: Mapping[str, Any], at: float, place: tuple[str, int, int]) -> Happening:
    """The event that a record of the topic of steps tells: a step was done, or the task was suspended."""
    if "entries" not in found:
        return Happening(at, "step", *place, worker=str(found.get("worker") or ""), detail=str(found.get("name") or ""))
    if found.get("message") is None:
        return Happening(at, "steps kept", *place, detail=f"{len(found['entries'])} steps for the next run")
    return Happening(at, "suspended", *place)


def of_note(note: Note) -> Happening:
    """The event that a note tells: an attempt has failed, or somebody has made a remark."""
    if (error := note.error) is not None:
        detail = f"{error.type}: {error.message}"
        return Happening(error.at, "failed", "", -1, -1, error.attempt, error.worker or "", detail)
    remark = note.remark
    return Happening(0.0 if remark is None else remark.at, "remark", "", -1, -1, detail=remark.text if remark else "")


def of_progress(record: StateRecord, at: float, place: tuple[str, int, int]) -> Happening | None:
    """The event that a state record tells of callbacks of a suspension which needs further ones; None if it tells none."""
    told = record.result if record.state is State.SUSPENDED and isinstance(record.result, Mapping) else {}
    got, callbacks = told.get("got"), told.get("callbacks")
    if not isinstance(got, list) or not got:
        return None
    wanted = len(callbacks) if isinstance(callbacks, list) else callbacks
    return Happening(at, "called back", *place, detail=f"{len(got)} of {wanted}: {', '.join(map(str, got))}")


def of_state(record: StateRecord) -> Happening | None:
    """The event of the task's end; None if it has not ended."""
    if record.finished is None:
        return None
    partition, offset = (-1 if each is None else each for each in (record.partition, record.offset))
    place = (record.topic or "", partition, offset)
    return Happening(record.finished, record.state.value, *place, record.attempts, record.worker or "", record.status)
