"""The task in a message, in either of Celery's protocols: its facts, and the checks of them.

Protocol 2 has a task's facts in the message's headers, protocol 1 in its body. Only a body in JSON is read before Celery
decodes it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any

from kafka_exec.core.record.fields import from_json, moment, number, shown, text, whole
from kafka_exec.errors import Undecodable

#: The reason of a message that is no task.
NOT_A_TASK = "not-a-task"

#: The reason of a task that no worker can run.
BAD_TASK = "bad-task"

#: The options in a task's body that are lists of signatures.
_SIGNATURES = ("callbacks", "errbacks", "chain")


def facts(headers: Mapping[str, Any], body: bytes | None, content_type: str) -> Mapping[str, Any]:
    """A task's facts, under the names of protocol 2's headers; empty if the message is no task."""
    if "task" in headers:
        return headers
    if content_type == "application/json" and body and b'"task"' in body:
        try:
            found = from_json(body)
        except ValueError:
            return {}
        if isinstance(found, dict) and "task" in found:
            return found
    return {}


def as_task(headers: Mapping[str, Any], payload: Any) -> dict[str, Any]:
    """The headers of a task as protocol 2 has them.

    Args:
        headers: the message's headers.
        payload: the message's body, decoded.

    Raises:
        Undecodable: the message is no task, or one that no worker can run.
    """
    embed: Any
    if isinstance(payload, Mapping) and ("task" in payload or "task" in headers):
        told = {name: payload[name] for name in _FIELDS if name in payload}
        if told.get("group") is None and "taskset" in payload:
            told["group"] = payload["taskset"]
        told.update(headers)
        args, kwargs, embed = payload.get("args", ()), payload.get("kwargs", {}), payload
    elif "task" not in headers:
        raise Undecodable(NOT_A_TASK, "neither its headers nor its body name a task")
    elif isinstance(payload, (list, tuple)) and len(payload) == 3:
        told = dict(headers)
        args, kwargs, embed = payload
    else:
        raise Undecodable(BAD_TASK, "its body is no list of arguments, named arguments and options")
    check(told)
    try:
        if not isinstance(args, (list, tuple)):
            raise ValueError(f"its arguments are no list, but {shown(args)}")
        if not isinstance(kwargs, Mapping):
            raise ValueError(f"its named arguments are no object, but {shown(kwargs)}")
        if embed is not None:
            _check_embed(embed)
    except ValueError as error:
        raise Undecodable(BAD_TASK, str(error)) from None
    return told


def check(headers: Mapping[str, Any]) -> None:
    """Checks a task's headers, as protocol 2 has them.

    Raises:
        Undecodable: the task has no name or no id, or a header has a type with which no worker can run it.
    """
    if not isinstance(headers.get("task"), str) or not headers["task"]:
        raise Undecodable(NOT_A_TASK, f"its task's name is no text, but {shown(headers.get('task'))}")
    if headers.get("id") in (None, ""):
        raise Undecodable(BAD_TASK, "it has no id")
    check_types(headers)


def check_types(headers: Mapping[str, Any]) -> None:
    """Checks the headers of a task that Celery or kafka_exec reads.

    Raises:
        Undecodable: a header has a type with which no worker can run the task.
    """
    for name, read in _FIELDS.items():
        if (value := headers.get(name)) is not None:
            try:
                read(value)
            except ValueError as error:
                raise Undecodable(BAD_TASK, f"its header {name}: {error}") from None


def _check_embed(embed: Any) -> None:
    if not isinstance(embed, Mapping):
        raise ValueError(f"its options are no object, but {shown(embed)}")
    for name in _SIGNATURES:
        found = embed.get(name)
        if found is not None and not (
            isinstance(found, (list, tuple)) and all(isinstance(each, Mapping) for each in found)
        ):
            raise ValueError(f"its {name} are no list of signatures, but {shown(found)}")
    if not isinstance(embed.get("chord"), (Mapping, type(None))):
        raise ValueError(f"its chord is no signature, but {shown(embed['chord'])}")


def _time(value: Any) -> Any:
    return value if isinstance(value, datetime) else text(value)


def _limits(value: Any) -> Any:
    if not isinstance(value, (list, tuple)) or len(value) != 2:
        raise ValueError(f"two time limits are expected, not {shown(value)}")
    return [each if each is None else number(each) for each in value]


def _shown_value(value: Any) -> Any:
    """The ``repr`` of arguments: a text, which may hold any characters."""
    if not isinstance(value, str):
        raise ValueError(f"a text is expected, not {shown(value)}")
    return value


def _version(value: Any) -> Any:
    return value if type(value) is int else text(value)


def _names(value: Any) -> Any:
    if not isinstance(value, (list, tuple)):
        raise ValueError(f"a list is expected, not {shown(value)}")
    return [text(each) for each in value]


def _mapping(value: Any) -> Any:
    if not isinstance(value, Mapping):
        raise ValueError(f"an object is expected, not {shown(value)}")
    return value


#: The reader of each header of a task that is not null; all other headers are the application's.
_FIELDS: Mapping[str, Callable[[Any], Any]] = {
    **dict.fromkeys(("task", "id", "root_id", "parent_id", "group", "shadow"), text),
    **dict.fromkeys(("argsrepr", "kwargsrepr"), _shown_value),
    **dict.fromkeys(("ordering_key", "deduplication_id", "retry_of"), text),
    **dict.fromkeys(("retries", "group_index", "replaced_task_nesting"), whole),
    **dict.fromkeys(("eta", "expires"), _time),
    **dict.fromkeys(("stamps", "headers"), _mapping),
    "stamped_headers": _names,
    "timelimit": _limits,
    "task_version": _version,
    **dict.fromkeys(("kafka_continued", "kafka_replay_of"), _mapping),
    "kafka_continuations": whole,
    "kafka_waited_for": text,
    **dict.fromkeys(("kafka_created", "kafka_repeated"), moment),
}
