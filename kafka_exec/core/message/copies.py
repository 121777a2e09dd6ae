"""Copies of tasks that a replay sends to another queue: the same work under new ids, apart from all that the originals did.

A copy has the name, arguments, ordering key, priority and time limits of its original. Nothing of it leads back: no caller
waits for it, nothing follows its end, and it belongs to no group and no parent.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from kafka_exec.core.message.dead import REPLAYED_FROM
from kafka_exec.core.message.envelope import (
    CONTINUATIONS,
    CONTINUED,
    CREATED,
    DEDUPLICATION_ID,
    REPEATED,
    RETRY_OF,
    WAITED_FOR,
    Headers,
    Message,
)
from kafka_exec.core.record.fields import from_json
from kafka_exec.errors import NotReplayable

#: The header of a copy: an object with the ``id`` of its original, the place of that one's record (``from``), and the name
#: of the ``replay``.
REPLAY_OF = "kafka_replay_of"

#: The namespace of the ids of copies (RFC 9562, version 5).
_NAMESPACE = uuid.UUID("0d9a3c5e-7f0b-5c53-8f7e-2b6f5b1f3f0a")

#: The headers by which a task belongs to others, or to a time that is over. The id of a copy makes it unique.
_LEFT_OUT = frozenset(
    {
        "parent_id",
        "group",
        "group_index",
        "eta",
        "expires",
        DEDUPLICATION_ID,
        RETRY_OF,
        REPEATED,
        CREATED,
        CONTINUED,
        CONTINUATIONS,
        WAITED_FOR,
    }
)

#: The options in a body by which something follows the end of a task.
_FOLLOWS: Mapping[str, None] = dict.fromkeys(("callbacks", "errbacks", "chain", "chord"))


def is_first(headers: Headers | None, message: Message) -> bool:
    """True if a record is the first one of its task: no retry, no continuation, and no dead letter that was replayed."""
    task = message.task
    return not (task.get("retries") or task.get(CONTINUATIONS) or REPLAYED_FROM in dict(headers or ()))


@dataclass(frozen=True)
class Replay:
    """A replay: its name, and the queue to which it sends copies. It sends one copy of each task."""

    name: str
    queue: str

    def id_of(self, original: str) -> str:
        """The id of the copy of a task, always the same one."""
        return str(uuid.uuid5(_NAMESPACE, json.dumps([self.queue, self.name, original])))

    def has_sent(self, message: Message) -> bool:
        """True if a message is a copy that this replay has sent, or a retry of one."""
        found = message.headers.get(REPLAY_OF)
        return (
            isinstance(found, Mapping)
            and found.get("replay") == self.name
            and message.headers.get("id") == self.id_of(str(found.get("id")))
        )

    def copy(self, message: Message, place: str) -> Message:
        """The copy of a task's message. ``place``: the name of the message's record.

        Raises:
            NotReplayable: the message is no task of Celery's protocol 2 in plain JSON, so that what follows its end cannot
                be left out.
        """
        original, body = message.headers.get("id"), _without_followers(message)
        if not (message.headers.get("task") and isinstance(original, str) and original):
            raise NotReplayable("it is no task of Celery's protocol 2")
        task_id = self.id_of(original)
        headers = {name: value for name, value in message.headers.items() if name not in _LEFT_OUT}
        own = {"id": task_id, "root_id": task_id, REPLAY_OF: {"id": original, "from": place, "replay": self.name}}
        properties = {name: value for name, value in message.properties.items() if name != "reply_to"}
        return message._replace(
            body=body,
            headers={**headers, **own},
            properties={**properties, **_known(properties, correlation_id=task_id, delivery_info=self._delivery)},
            exchange="",
            routing_key=self.queue,
        )

    @property
    def _delivery(self) -> dict[str, str]:
        return {"exchange": "", "routing_key": self.queue}


def _known(properties: Mapping[str, Any], **values: Any) -> dict[str, Any]:
    """Those values whose names are properties already."""
    return {name: value for name, value in values.items() if name in properties}


def _without_followers(message: Message) -> bytes:
    """The body of a task's message without what follows its end; as it is, if nothing does."""
    if message.content_type != "application/json" or message.headers.get("compression"):
        kind = "compressed" if message.headers.get("compression") else message.content_type
        raise NotReplayable(
            f"its body is {kind}, and what follows its end can be left out of plain application/json only"
        )
    try:
        args, kwargs, embed = from_json(message.body)
        follows = embed and any(embed.get(name) for name in _FOLLOWS)
    except (AttributeError, TypeError, ValueError):
        raise NotReplayable("its body is no task of Celery's protocol 2") from None
    return json.dumps([args, kwargs, {**embed, **_FOLLOWS}]).encode() if follows else message.body
