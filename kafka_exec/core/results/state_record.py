"""The state record: the public facts of a task, as JSON. ``docs/state.schema.json`` is its schema."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any, Final
from uuid import UUID

from kafka_exec.core.record.fields import a_list, from_json, moment, shown, text, whole
from kafka_exec.core.record.plain import DEEPEST, cut, is_deep, plain
from kafka_exec.core.results.lifecycle import TERMINAL, State
from kafka_exec.errors import Undecodable

#: The version of the schema. A reader refuses another version. New optional fields do not change it.
SCHEMA = 1

#: A record shows the last errors of a task, each with the beginning of its message and the end of its traceback.
MOST_ERRORS = 10
LONGEST_MESSAGE = 4000  # characters
LONGEST_TRACEBACK = 4000  # characters

JSON_TYPE = "application/json"


class _Absent:
    def __repr__(self) -> str:
        return "ABSENT"


#: Says that there is no result yet, since None is a result.
ABSENT: Final = _Absent()


@dataclass(frozen=True)
class Encoded:
    """A result that is no JSON value: its bytes, and the two names that a reader needs to decode them.

    Attributes:
        content_type: the serializer's content type, such as ``application/x-python-serialize``.
        content_encoding: a character set, ``binary``, or the name of a compression.
    """

    content_type: str
    content_encoding: str
    data: bytes


@dataclass(frozen=True)
class TaskError:
    """An error of one attempt. ``at``: epoch seconds."""

    at: float
    type: str
    message: str
    worker: str | None = None
    attempt: int | None = None
    traceback: str | None = None


@dataclass(frozen=True)
class Remark:
    """A remark on a task. ``at``: epoch seconds; ``by``: its author."""

    at: float
    by: str
    id: str
    text: str


@dataclass(frozen=True)
class Note:
    """An error or a remark of a task, in a topic beside the states, where no later record overwrites it."""

    id: str
    error: TaskError | None = None
    remark: Remark | None = None

    def encode(self) -> bytes:
        """The note's value in its topic: JSON."""
        error = self.error
        if error is not None:
            error = replace(
                error,
                type=cut(error.type, LONGEST_MESSAGE),
                message=cut(error.message, LONGEST_MESSAGE),
                traceback=None if error.traceback is None else error.traceback[-LONGEST_TRACEBACK:],
            )
        kinds = {"error": error, "remark": self.remark}
        told = {name: _written(item) for name, item in kinds.items() if item is not None}
        return json.dumps({"schema": SCHEMA, "id": self.id, **told}, separators=(",", ":")).encode()

    @classmethod
    def decode(cls, value: bytes | None) -> Note:
        """The note in a record's value. Unknown fields are ignored.

        Raises:
            Undecodable: the value is no note, or one of another version.
        """
        note: Note = _read(cls, _object(value))
        return note


@dataclass(frozen=True)
class Raised:
    """The exception with which a task ended. ``message``: its arguments, as Celery writes them (any JSON value)."""

    type: str
    message: Any = None
    module: str | None = None


@dataclass(frozen=True)
class StateRecord:
    """One state of one task. Times are epoch seconds. Fields that are None, empty or absent are not written.

    Attributes:
        status: Celery's name of the state, or the application's own.
        version: the version of the task's code.
        previous: the state before this one, as far as the writer knows.
        created: when the task was first sent; no retry, delay or replay of a dead letter changes it.
        due: when a delayed task goes on.
        attempts: the number of starts so far.
        position: the number of tasks of its ordering key that were before it when the record was written.
        step: the application's name of a step within the task.
        topic, partition, offset: the place of the task's message.
        result: a JSON value, :class:`Encoded`, or :data:`ABSENT`.
        children: Celery's nested tuples, as lists.
        retries: Celery's number of retries.
    """

    id: str
    state: State
    status: str
    name: str | None = None
    version: str | None = None
    previous: State | None = None
    created: float | None = None
    due: float | None = None
    started: float | None = None
    finished: float | None = None
    attempts: int | None = None
    step: str | None = None
    worker: str | None = None
    queue: str | None = None
    topic: str | None = None
    partition: int | None = None
    offset: int | None = None
    ordering_key: str | None = None
    position: int | None = None
    deduplication_id: str | None = None
    errors: tuple[TaskError, ...] = ()
    remarks: tuple[Remark, ...] = ()
    result: Any = field(default=ABSENT)
    exception: Raised | None = None
    traceback: str | None = None
    children: list[Any] | None = None
    parent: str | None = None
    root: str | None = None
    group: str | None = None
    args: Any = None
    kwargs: Any = None
    retries: int | None = None

    def with_notes(self, notes: Iterable[Note]) -> StateRecord:
        """A copy with all remarks of the task, and with its last errors in the order of their times.

        Celery publishes a retry before it reports the error, so an attempt's error may be noted after that of the next one.
        """
        noted = list(notes)
        errors = sorted((note.error for note in noted if note.error is not None), key=lambda error: error.at)
        return replace(
            self,
            errors=tuple(errors[-MOST_ERRORS:]),
            remarks=tuple(note.remark for note in noted if note.remark is not None),
        )

    def ends_run_of(self, place: tuple[Any, Any, Any], *, also_failed: bool) -> bool:
        """True if this is the end of the run of one message.

        Args:
            place: the message's topic, partition and offset. A retry or a replay is another message of the task.
            also_failed: a failure counts too. It must not count if something follows from it that may not be sent yet.
        """
        if (self.topic, self.partition, self.offset) != place or self.state not in TERMINAL:
            return False
        return also_failed or self.state is not State.FAILED

    def ends_copy(self, *, parent: str | None, created: float | None, since: float) -> bool:
        """True if this is the end of a task that a lost run had sent before a repeated run sent a copy of it.

        Nothing is lost with such a copy. What follows from DONE was sent before DONE was stored. What follows from another
        end may not be sent yet, but then the message of that end has not ended, and begins again itself. This does not hold
        for the end of the very task that was repeated, and sends itself anew as its retry or its replacement. Of those ends
        only DONE counts. An end from before ``since`` is that of another task with the same id, or from before a replay.

        Args:
            parent: the task whose run has sent the copy; for a retry or a replacement, what that task's message says.
            created: when the copy was first sent, epoch seconds. A retry keeps the time of its task.
            since: the time before which no run can have sent the same task, epoch seconds.
        """
        if self.state not in TERMINAL or self.created is None:
            return False
        is_later = self.created >= since
        if self.state is State.DONE:
            return self.parent in (parent, self.id) and (is_later or self.created == created)
        return is_later and self.parent == parent != self.id and self.created != created

    def sound(self) -> StateRecord:
        """A copy that can be written and read again: a field of a wrong type is converted, or left out.

        Fields may be wrong because the requests of tasks come from other programs.
        """
        values = {name: _sound(name, getattr(self, name)) for name in _FORMS[StateRecord] if name not in _SOUND}
        return replace(self, **values)

    def encode(self) -> bytes:
        """The record's value in the topic: JSON.

        Raises:
            ValueError, TypeError: the record is not :meth:`sound`, or its result is no JSON value.
        """
        return json.dumps(self.as_json(), allow_nan=False, separators=(",", ":")).encode()

    def as_json(self) -> dict[str, Any]:
        """The record as a JSON object."""
        made = {"schema": SCHEMA, **_written(self)}
        made["state"] = self.state.value
        if self.previous is not None:
            made["previous"] = self.previous.value
        for name in ("errors", "remarks"):
            if name in made:
                made[name] = [_written(item) for item in made[name]]
        if self.exception is not None:
            made["exception"] = _written(self.exception)
        if isinstance(self.result, Encoded):
            made["result"] = base64.b64encode(self.result.data).decode("ascii")
            made["content_type"] = self.result.content_type
            made["content_encoding"] = self.result.content_encoding
        elif self.result is not ABSENT:
            made["result"] = self.result
        return made

    @classmethod
    def decode(cls, value: bytes | None) -> StateRecord:
        """The state record in a record's value. Unknown fields are ignored.

        Raises:
            Undecodable: the value is no state record, or one of another version.
        """
        found = _object(value)
        result = found.get("result", ABSENT)
        if "content_type" in found:
            result = _encoded(found)
        record: StateRecord = _read(cls, {**found, "result": result})
        return record


def as_result(content_type: str, content_encoding: str, data: str | bytes) -> Any:
    """A serialized result as a record holds it: the JSON value itself, or :class:`Encoded`.

    A JSON value with numbers that only Python knows (NaN, Infinity), or with very deep nesting, is encoded too.
    """
    encoded = data.encode(errors="surrogatepass") if isinstance(data, str) else data
    if content_type == JSON_TYPE and content_encoding.lower() == "utf-8":
        try:
            found = json.loads(encoded, parse_constant=_refuse)
        except (ValueError, RecursionError):
            pass
        else:
            if encoded.count(b"[") + encoded.count(b"{") <= DEEPEST or not is_deep(found):
                return found
    return Encoded(content_type, content_encoding, encoded)


def _refuse(constant: str) -> Any:
    raise ValueError(f"{constant} is no JSON")


def _written(item: Any) -> dict[str, Any]:
    values = ((name, getattr(item, name)) for name in _FORMS[type(item)])
    return {name: value for name, value in values if value is not None and value != () and name != "result"}


def _encoded(found: Mapping[str, Any]) -> Encoded:
    parts = [found["content_type"], found.get("content_encoding"), found.get("result")]
    if all(isinstance(part, str) for part in parts):
        try:
            return Encoded(parts[0], parts[1], base64.b64decode(parts[2], validate=True))
        except ValueError:
            pass
    raise Undecodable("no-state-record", "the encoded result of a state record is not base64")


# Reading


def _object(value: bytes | None) -> dict[str, Any]:
    try:
        found = from_json(value)
    except ValueError:
        raise Undecodable("no-state-record", "a state record is not JSON") from None
    if not isinstance(found, dict) or "schema" not in found:
        raise Undecodable("no-state-record", "a state record is no JSON object with a schema version")
    if found["schema"] != SCHEMA:
        raise Undecodable(
            "unknown-schema",
            f"a state record is of schema version {shown(found['schema'])}, this reader knows {SCHEMA}: update it",
        )
    return found


def _text(value: Any) -> str:
    """The value as a text for people, which need not be valid UTF-8: file names may not be."""
    if not isinstance(value, str):
        raise ValueError
    return value


def _tuple_of(kind: type) -> Callable[[Any], Any]:
    return lambda value: tuple(_read(kind, item) for item in a_list(value))


def _state(value: Any) -> State:
    return State(text(value))


_READERS: Mapping[str, Callable[[Any], Any]] = {
    **dict.fromkeys(("id", "topic"), text),
    **dict.fromkeys(("status", "name", "version", "step", "worker", "queue"), _text),
    **dict.fromkeys(("ordering_key", "deduplication_id", "traceback", "parent", "root", "group", "by", "text"), _text),
    **dict.fromkeys(("type", "module"), _text),
    **dict.fromkeys(("created", "due", "started", "finished", "at"), moment),
    **dict.fromkeys(("attempts", "partition", "offset", "position", "retries", "attempt"), whole),
    "children": a_list,
    "state": _state,
    "previous": _state,
    "errors": _tuple_of(TaskError),
    "remarks": _tuple_of(Remark),
    "exception": lambda value: _read(Raised, value),
    "error": lambda value: _read(TaskError, value),
    "remark": lambda value: _read(Remark, value),
}


#: The reader of each field, by the kind of object.
_FORMS: dict[type[Any], dict[str, Callable[[Any], Any]]] = {
    kind: {each.name: _READERS.get(each.name, lambda value: value) for each in fields(kind)}
    for kind in (StateRecord, TaskError, Remark, Raised, Note)
}
# The message of an attempt's error is a text; that of the exception with which a task ended is any JSON value.
_FORMS[TaskError]["message"] = _text


#: The fields that have the right type, or are JSON values, whichever code makes the record.
_SOUND = frozenset({"state", "previous", "errors", "remarks", "result", "args", "kwargs"})

#: All numbers are less than this, for readers in other languages.
_WHOLE = 2**63


def _sound(name: str, value: Any) -> Any:
    """The value of a field, if it can be written and read again; else None."""
    if value is None:
        return None
    if name in ("id", "status") or (isinstance(value, UUID) and _READERS.get(name) is _text):
        return str(value)
    if name == "exception":
        return Raised(str(value.type), plain(value.message), value.module if isinstance(value.module, str) else None)
    if name not in _READERS:
        return plain(value)
    try:
        value = _READERS[name](value)
    except ValueError:
        return None
    if isinstance(value, (int, float)):
        return value if abs(value) < _WHOLE else None
    return plain(value) if isinstance(value, list) else value


def _read(kind: type[Any], found: Any) -> Any:
    """An object of the dataclass ``kind``, made of a JSON object. Each field is checked that has a reader."""
    if not isinstance(found, dict):
        raise Undecodable("no-state-record", f"a state record has {shown(found)} where an object should be")
    readers = _FORMS[kind]
    values = {}
    for name, value in found.items():
        if name in readers:
            try:
                values[name] = readers[name](value)
            except ValueError:
                raise Undecodable("no-state-record", f"a state record has a wrong {name} {shown(value)}") from None
    try:
        return kind(**values)
    except TypeError:
        raise Undecodable("no-state-record", f"a state record lacks a field of its {kind.__name__}") from None
