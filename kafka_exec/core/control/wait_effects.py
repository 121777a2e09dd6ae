"""The effects of suspensions: a task continues, a caller is answered, a callback becomes a dead letter."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

from kafka_exec.core.control.reducers import Effect
from kafka_exec.core.control.wait_table import WaitOutcome
from kafka_exec.core.durable.continuation import FAILED


@dataclass(frozen=True)
class Refuse(Effect):
    """The effect that a suspended task continues with an error. ``page``: as in :class:`Continue`.

    Attributes:
        outcome: ``refused``: another task waits with the same id; ``failed``: Kafka refuses what the task would get.
    """

    task: str
    number: int
    page: tuple[int, int]
    outcome: str
    reason: str


@dataclass(frozen=True)
class Continue(Effect):
    """The effect that a suspended task continues.

    Attributes:
        number: the number of the durable call that is answered.
        page: the partition and the offset of the record with its message.
        outcome: ``answered`` or ``timed-out``.
        answers: the data of the callbacks, by their ids.
        again: it could not be carried out at first: the queue may be gone, and is made anew; or the message was too large
            with the page in it, and goes without.
    """

    task: str
    number: int
    page: tuple[int, int]
    outcome: str
    answers: Mapping[str, str]
    again: bool = False

    def failed(self, reason: str) -> Sequence[Effect]:
        if not self.again:
            return (replace(self, again=True),)
        return (Refuse(self.task, self.number, self.page, FAILED, reason),)


@dataclass(frozen=True)
class Reply(Effect):
    """The effect that the caller of a callback learns its outcome: ``got`` of ``expected`` callbacks have come.

    A caller who has no answer, since the control plane's owner was killed, asks the next one.
    """

    is_news: ClassVar[bool] = True

    reply: str
    outcome: WaitOutcome
    got: int
    expected: int


@dataclass(frozen=True)
class TellProgress(Effect):
    """The effect that the state of a suspended task tells which callbacks have come. ``page``: as in :class:`Continue`."""

    task: str
    page: tuple[int, int]
    got: tuple[str, ...]


@dataclass(frozen=True)
class BuryCallback(Effect):
    """The effect that a callback becomes a dead letter. ``error``: why no task gets it."""

    id: str
    callback: str
    data: str
    error: str


@dataclass(frozen=True)
class Watch(Effect):
    """The effect that the ends of tasks, also past ones, become callbacks of a suspension. Their messages do not name it.

    Attributes:
        id: the correlation id of the suspension. The callbacks have the ids of the tasks.
    """

    id: str
    tasks: tuple[str, ...]


@dataclass(frozen=True)
class Unwatch(Effect):
    """The effect that a suspension waits for the ends of tasks no more."""

    id: str
    tasks: tuple[str, ...]
