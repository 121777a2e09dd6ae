"""The choice of tasks by their messages, which are there for tasks without any state too."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from kafka_exec.core.message.envelope import CREATED, ORDERING_KEY, Message
from kafka_exec.core.overview.choosing.expressions import Predicate, parse
from kafka_exec.core.overview.choosing.filters import fits
from kafka_exec.core.record.fields import from_json
from kafka_exec.core.worker.versions import TASK_VERSION

#: The headers of a message by the names that they have in an expression.
_HEADERS = {
    "id": "id",
    "name": "task",
    "key": ORDERING_KEY,
    "version": TASK_VERSION,
    "created": CREATED,
    "parent": "parent_id",
    "root": "root_id",
    "group": "group",
}

#: The parts of a message with which a path of an expression may begin.
PARTS = frozenset({*_HEADERS, "args", "kwargs"})


@dataclass(frozen=True)
class MessageFilter:
    """A choice of messages. What is None does not matter. Names and keys are shell patterns.

    Attributes:
        where: an expression over :data:`PARTS`.
    """

    name: str | None = None
    key: str | None = None
    where: Predicate | None = None

    def matches(self, message: Message) -> bool:
        """True if it chooses the task of a message."""
        return (
            fits(self.name, message.task.get("task"))
            and fits(self.key, message.headers.get(ORDERING_KEY))
            and (self.where is None or self.where(parts(message)))
        )


def parts(message: Message) -> Mapping[str, Any]:
    """The parts of a task that its message tells, as an expression names them; its arguments only of plain JSON."""
    found = {name: message.task[header] for name, header in _HEADERS.items() if message.task.get(header) is not None}
    if message.content_type == "application/json" and not message.headers.get("compression"):
        with suppress(TypeError, ValueError):  # it is no task of Celery's protocol 2
            found["args"], found["kwargs"], _ = from_json(message.body)
    return found


def expression(text: str) -> Predicate:
    """The predicate of an expression over :data:`PARTS`.

    Raises:
        ConfigurationError: it is no expression.
    """
    return parse(text, PARTS)
