"""Ends of tasks whose messages do not name who waits for them: they are looked for in the state records."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Iterable, Sequence

from confluent_kafka import Message as Record

from kafka_exec.core.control.wait_effects import Unwatch, Watch
from kafka_exec.core.results.lifecycle import TERMINAL, task_id_of
from kafka_exec.core.results.state_record import StateRecord
from kafka_exec.errors import ConnectionFailed, NotConfirmed
from kafka_exec.kafka.client import native
from kafka_exec.kafka.client.loop import run_once
from kafka_exec.kafka.publish.scopes import Outgoing
from kafka_exec.kafka.results.states import StateReader

logger = logging.getLogger("kafka_exec")

#: After an error the next look comes so many seconds later.
_PAUSE = 1.0

#: The errors after which another look may succeed.
_PASSING = (ConnectionFailed, NotConfirmed)


class Ends:
    """Tells suspended tasks of the ends of other tasks, also of those that have ended before. Thread-safe.

    An end may be told twice: after another node has taken the suspension over.

    Args:
        reader: a view of the state records that nobody else uses.
        tell: tells a wait, by its correlation id, of an end. If the cluster does not answer, it is called again.
    """

    def __init__(self, reader: StateReader, tell: Callable[[str, StateRecord], None]) -> None:
        self._reader = reader
        self._tell = tell
        self._lock = native.lock()
        self._waiting: dict[str, set[str]] = {}
        # The tasks to look at, each with the record that has come, or None: then it is looked for.
        self._news: deque[tuple[str, Record | None]] = deque()
        self._is_looking = False
        reader.add_sink(self._take)

    def watch(self, effect: Watch) -> Sequence[Outgoing]:
        """Watches the tasks for which a suspension waits, and looks if they have ended. It does not wait for that."""
        with self._lock:
            for task in effect.tasks:
                self._waiting.setdefault(task, set()).add(effect.id)
            self._look((task, None) for task in effect.tasks)
        return ()

    def forget(self, effect: Unwatch) -> Sequence[Outgoing]:
        """Forgets a suspension that is over."""
        with self._lock:
            for task in effect.tasks:
                self._drop(task, effect.id)
        return ()

    def _take(self, records: list[Record]) -> None:
        with self._lock:
            self._look((task_id_of(record.key().decode()), record) for record in records if record.value() is not None)

    def _look(self, news: Iterable[tuple[str, Record | None]]) -> None:
        """Has a thread look at tasks. The lock is held."""
        self._news.extend(news)
        if self._news and not self._is_looking:
            self._is_looking = True
            run_once("ends", self._run)

    def _run(self) -> None:
        while True:
            with self._lock:
                self._is_looking = bool(self._news)
                if not self._is_looking:
                    return
                task, record = self._news.popleft()
            try:
                self._look_at(task, record)
            except _PASSING as error:
                logger.warning("the end of task %s is not told yet: %s", task, error)
                self._news.append((task, record))
                native.sleep(_PAUSE)
            except Exception:
                logger.exception("the end of task %s is not told", task)

    def _look_at(self, task: str, record: Record | None) -> None:
        if task not in self._waiting:
            return
        if record is None:
            self._reader.watch([task])  # from now on no record is missed
            found = self._reader.find(task)
        else:
            found = StateRecord.decode(record.value())
        if found is None or found.state not in TERMINAL:
            return
        with self._lock:
            waiting = list(self._waiting.get(task, ()))
        for id in waiting:
            self._tell(id, found)
            with self._lock:
                self._drop(task, id)

    def _drop(self, task: str, id: str) -> None:
        waiting = self._waiting.get(task, set())
        waiting.discard(id)
        if not waiting:
            self._waiting.pop(task, None)
            self._reader.unwatch([task])
