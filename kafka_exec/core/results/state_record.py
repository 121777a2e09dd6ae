"""The state record: what is publicly known of a task, as JSON. ``docs/state.schema.json`` is its schema."""

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

#: The version of the schema. A reader refuses any other; new optional fields do not change it.
SCHEMA = 1

#: Of a task's errors the last ones are shown, each with the beginning of its message and the end of its traceback.
MOST_ERRORS = 10
LONGEST_MESSAGE = 4000  # characters
LONGEST_TRACEBACK = 4000  # characters

JSON_TYPE = "application/json"


class _Absent:
    def __repr__(self) -> str:
        return "ABSENT"


#: No result yet; None is a result.
ABSENT: Final = _Absent()


@dataclass(frozen=True)
class Encoded:
    """A result that is no JSON value: as bytes, with what a reader must know to decode it.

    Attributes:
        content_type: of the serializer, such as ``application/x-python-serialize``.
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
    """What somebody noted. ``at``: epoch seconds."""

    at: float
    by: str
    id: str
    text: str


@dataclass(frozen=True)
class Note:
    """An error or a remark, as it is written beside the states of a task: nothing that comes later overwrites it."""

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
        """Reads a note; fields that are unknown are ignored.

        Raises:
            Undecodable: it is no note, or one of another version.
        """
        note: Note = _read(cls, _object(value))
        return note


@dataclass(frozen=True)
class Raised:
    """The exception that a task ended with. ``message``: its arguments, as Celery writes them (any JSON value)."""

    type: str
    message: Any = None
    module: str | None = None


@dataclass(frozen=True)
class StateRecord:
    """One state of one task. Times are epoch seconds; what is None, empty or absent is not written.

    Attributes:
        status: Celery's word for the state, or the application's own.
        version: of the task's code.
        previous: what was told of the task before, as far as the writer knows.
        created: when it was first sent: no retry changes it, no delay, and no replay of its dead letter.
        due: when a delayed task goes on.
        attempts: starts so far.
        position: how many tasks of its ordering key were before it when that was told.
        step: the application's name of where in a task it is.
        topic, partition, offset: where the task's message is.
        result: a JSON value, :class:`Encoded`, or :data:`ABSENT`.
        children: Celery's nested tuples, as lists.
        retries: Celery's count.
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
        """The same with the errors and remarks that were noted of the task, in their order; of the errors the last.

        Celery publishes a retry before it tells the error, so that of an attempt may be noted after that of the next one.
        """
        noted = list(notes)
        errors = sorted((note.error for note in noted if note.error is not None), key=lambda error: error.at)
        return replace(
            self,
            errors=tuple(errors[-MOST_ERRORS:]),
            remarks=tuple(note.remark for note in noted if note.remark is not None),
        )

    def ends_run_of(self, place: tuple[Any, Any, Any], *, also_failed: bool) -> bool:
        """Whether this is the end of the run of one message.

        Args:
            place: of the message: topic, partition, offset. A retry, or a replay, is another message of the task.
            also_failed: whether a failure counts. It does not where something follows from it, which may not be sent yet.
        """
        if (self.topic, self.partition, self.offset) != place or self.state not in TERMINAL:
            return False
        return also_failed or self.state is not State.FAILED

    def sound(self) -> StateRecord:
        """The same, of which all can be written and read again: no field is of another type.

        The requests of tasks are made of what others have sent.
        """
        values = {name: _sound(name, getattr(self, name)) for name in _FORMS[StateRecord] if name not in _SOUND}
        return replace(self, **values)

    def encode(self) -> bytes:
        """The record's value in the topic: JSON.

        Raises:
            ValueError, TypeError: it is not :meth:`sound`, or its result is no JSON value.
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
        """Reads a record; fields that are unknown are ignored.

        Raises:
            Undecodable: it is no state record, or one of another version.
        """
        found = _object(value)
        result = found.get("result", ABSENT)
        if "content_type" in found:
            result = _encoded(found)
        record: StateRecord = _read(cls, {**found, "result": result})
        return record


def as_result(content_type: str, content_encoding: str, data: str | bytes) -> Any:
    """A serialized result as it is put into a record: the JSON value itself, or :class:`Encoded`.

    JSON is embedded unless it has numbers that only Python knows (NaN, Infinity), or is very deep.
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
    """Whatever people may read: also what is no UTF-8, such as names of files."""
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


#: How the fields of each kind of object are read, by name.
_FORMS: dict[type[Any], dict[str, Callable[[Any], Any]]] = {
    kind: {each.name: _READERS.get(each.name, lambda value: value) for each in fields(kind)}
    for kind in (StateRecord, TaskError, Remark, Raised, Note)
}
# Of what a task ended with, the message is what it was raised with, any JSON value; of an attempt's error it is a text.
_FORMS[TaskError]["message"] = _text


#: The fields that are what they should be, or JSON values, whoever makes the record.
_SOUND = frozenset({"state", "previous", "errors", "remarks", "result", "args", "kwargs"})

#: Numbers are less than this, as they are for readers in other languages.
_WHOLE = 2**63


def _sound(name: str, value: Any) -> Any:
    """A field's value that can be written and read again; None instead of one that cannot."""
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
    """Makes a dataclass of a JSON object, with every field checked that has a form of its own."""
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
