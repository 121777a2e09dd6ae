"""Pauses of queues and of ordering keys: their tasks begin in no worker until they are resumed, or the pause's time is over.

They are rows of the table of bindings, which all processes share.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from kafka_exec.core.record.fields import an_object, from_json, moment, optional, text, texts

#: The first name of a pause's row; the others are the queue's, and the ordering key's if only that is paused.
_PAUSED = "paused"


class Pause(NamedTuple):
    """A pause of a queue, or of one ordering key of it.

    Attributes:
        by: the name of the one who has paused it.
        at: since when, epoch seconds.
        reason: a text for people.
        until: the time at which it ends by itself, epoch seconds of the log's clock; None: it must be resumed.
    """

    by: str
    at: float
    reason: str = ""
    until: float | None = None

    @classmethod
    def read(cls, row: Any) -> Pause:
        """The pause of a row.

        Raises:
            ValueError: the row is no pause.
        """
        found = an_object(row)
        return cls(
            text(found.get("by")),
            moment(found.get("at")),
            optional(found, "reason", text, ""),
            optional(found, "until", moment),
        )

    def holds(self, now: float) -> bool:
        """True if the pause is not over. ``now``: epoch seconds of the log's clock."""
        return self.until is None or now < self.until


@dataclass(frozen=True)
class QueuePauses:
    """The pauses of one queue.

    Attributes:
        whole: that of the whole queue.
        keys: those of single ordering keys.
    """

    whole: Pause | None = None
    keys: Mapping[str, Pause] = field(default_factory=dict)

    def of(self, key: str | None, now: float) -> Pause | None:
        """The pause that keeps a task from beginning now. ``key``: its ordering key; None: it has none."""
        if self.whole is not None and self.whole.holds(now):
            return self.whole
        found = None if key is None else self.keys.get(key)
        return found if found is not None and found.holds(now) else None

    def in_force(self, now: float) -> QueuePauses:
        """The pauses that are not over."""
        whole = self.whole if self.whole is not None and self.whole.holds(now) else None
        return QueuePauses(whole, {key: pause for key, pause in self.keys.items() if pause.holds(now)})

    def changes(self, before: QueuePauses) -> Iterator[tuple[str | None, Pause | None]]:
        """The pauses that are others than before, by ordering key, with None for the whole queue; None: that one is over."""
        if self.whole != before.whole:
            yield None, self.whole
        for key in sorted({*self.keys, *before.keys}):
            if (pause := self.keys.get(key)) != before.keys.get(key):
                yield key, pause


#: No pauses, of a queue of which nothing is paused.
NO_PAUSES = QueuePauses()


def row_names(queue: str, key: str | None) -> list[str]:
    """The names that together are the key of a pause's row. ``key``: the ordering key; None: the whole queue is paused."""
    return [_PAUSED, queue] if key is None else [_PAUSED, queue, key]


def pauses_in(rows: Iterable[tuple[str, Any]]) -> dict[str, QueuePauses]:
    """The pauses in the table of bindings, by queue. Rows of other kinds, and those that cannot be read, are passed over."""
    whole: dict[str, Pause] = {}
    keys: dict[str, dict[str, Pause]] = {}
    for name, row in rows:
        try:
            kind, queue, *key = texts(from_json(name))
            pause = Pause.read(row) if kind == _PAUSED else None
        except ValueError:
            continue
        if pause is not None and not key:
            whole[queue] = pause
        elif pause is not None and len(key) == 1:
            keys.setdefault(queue, {})[key[0]] = pause
    return {queue: QueuePauses(whole.get(queue), keys.get(queue, {})) for queue in {*whole, *keys}}
