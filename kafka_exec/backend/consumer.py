"""The consumer of results: the process's one reader of the state records pushes them to the threads that wait."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterable
from typing import Any, Protocol

from celery import states
from celery.backends.asynchronous import BaseResultConsumer
from confluent_kafka import Message as Record

from kafka_exec.core.results.lifecycle import Rank, split_key
from kafka_exec.core.results.state_record import StateRecord
from kafka_exec.kafka.client import native
from kafka_exec.kafka.results.states import StateReader


class ConsumersBackend(Protocol):
    """The part of a result back end that its consumer needs."""

    READY_STATES: frozenset[str]

    @property
    def reader(self) -> StateReader:
        """The back end's reader of the state records."""

    def meta_of(self, record: StateRecord) -> dict[str, Any]:
        """Celery's meta-data of a state record."""


class _News:
    """Wakes the threads that wait: all of them, or one of the greenlets.

    Celery intends that one greenlet drains for all others, but it begins several if several wait for their first result at
    once; and a socket serves only one greenlet at a time.
    """

    def __init__(self) -> None:
        self._waker = native.Waker() if native.is_green() else None
        self._turn = threading.Lock()
        self._condition = None if self._waker else threading.Condition()

    def tell(self) -> None:
        if self._waker is not None:
            self._waker.wake()
        elif self._condition is not None:
            with self._condition:
                self._condition.notify_all()

    def wait(self, arrived: deque[Any], timeout: float | None) -> None:
        """Waits until :meth:`tell` is called, ``timeout`` seconds at most; not at all if ``arrived`` is not empty."""
        if self._waker is not None:
            if not self._turn.acquire(timeout=-1 if timeout is None else timeout):
                return
            try:
                self._waker.clear()
                if not arrived:
                    self._waker.wait(timeout)
            finally:
                self._turn.release()
        elif self._condition is not None:
            with self._condition:
                if not arrived:
                    self._condition.wait(timeout)


class ResultConsumer(BaseResultConsumer):
    """The consumer on which Celery's result objects wait. Thread-safe.

    It sees all records of a task that this process has sent, from before it was sent until its result object is dropped:
    so the state of such a task needs no look-up.
    """

    backend: ConsumersBackend

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.on_after_fork()

    def on_after_fork(self) -> None:
        """Begins empty: a forked child inherits nothing. The constructor calls it too."""
        self._reader: StateReader | None = None
        self._news = _News()
        self._arrived: deque[Record] = deque()
        self._awaited: set[str] = set()
        self._sent: set[str] = set()
        self._latest: dict[str, tuple[Rank, Record]] = {}

    def _watch(self, task_ids: Iterable[str]) -> None:
        reader = self.backend.reader
        if reader is not self._reader:  # the first one, or that of a forked child
            if self._reader is not None:
                self.on_after_fork()
            self._reader = reader
            reader.add_sink(self._sink)
        reader.watch(task_ids)

    def _sink(self, records: list[Record]) -> None:
        """Takes state records; the reader's thread calls it."""
        for record in records:
            task_id, rank = split_key(record.key().decode())
            if record.value() is None:
                self._latest.pop(task_id, None)
                continue
            known = self._latest.get(task_id)
            if known is not None and known[0] > rank:
                continue
            self._latest[task_id] = (rank, record)
            if task_id in self._awaited:
                self._arrived.append(record)
        self._news.tell()

    def note_sent(self, task_id: str) -> None:
        """Notes that this process is about to send a task."""
        self._watch([task_id])
        self._sent.add(task_id)

    def known(self, task_id: str) -> tuple[bool, StateRecord | None]:
        """A pair: True if the task's state is known without a look-up, and its state record (None: it has none)."""
        found = self._latest.get(task_id)
        if found is not None and (task_id in self._sent or found[0] is Rank.DONE):
            return True, StateRecord.decode(found[1].value())
        return task_id in self._sent, None

    # -- called by Celery ----------------------------------------------------------------------------------------------

    def start(self, initial_task_id: str, **kwargs: Any) -> None:
        self.consume_from(initial_task_id)

    def consume_from(self, task_id: str) -> None:
        """Watches a task for a result object that waits for it."""
        self._awaited.add(task_id)
        self._watch([task_id])
        if (found := self._latest.get(task_id)) is not None:
            self._arrived.append(found[1])
            self._news.tell()

    def cancel_for(self, task_id: str) -> None:
        """Watches a task no more. A garbage collection may call this at any point, so it takes no lock."""
        self._awaited.discard(task_id)
        self._sent.discard(task_id)
        if self._reader is not None:
            self._reader.unwatch([task_id])
        self._latest.pop(task_id, None)

    def on_wait_for_pending(self, result: Any, **kwargs: Any) -> None:
        """Looks up the results that had come before they were watched."""
        for meta in result._iter_meta(**kwargs):
            if meta is not None:
                self.on_state_change(meta, None)
        # Celery drains only for results that are not there yet, so the records that have arrived would be kept for ever.
        self._deliver()

    def on_state_change(self, meta: dict[str, Any], message: Any) -> None:
        """Hands a state to the result objects that wait. Unlike Celery's method it keeps none for later: they look it up."""
        if meta["status"] in self.backend.READY_STATES and meta["task_id"] not in self._awaited:
            if self.on_message:
                self.on_message(meta)
            return
        super().on_state_change(meta, message)

    def drain_events(self, timeout: float | None = None) -> None:
        """Hands over the records that have arrived, or waits for one.

        Raises:
            socket.timeout: no record has arrived within ``timeout`` seconds.
        """
        if not self._deliver():
            self._news.wait(self._arrived, timeout)
            if not self._deliver():
                raise TimeoutError

    def _deliver(self) -> bool:
        delivered = False
        while self._arrived:
            try:
                record = self._arrived.popleft()
            except IndexError:
                break  # another thread was quicker
            self.on_state_change(self._meta(record), None)
            delivered = True
        if delivered:
            self._news.tell()  # a result for which another thread waits may have been among them
        return delivered

    def _meta(self, record: Record) -> dict[str, Any]:
        """Celery's meta-data of a record. A record that cannot be read here becomes an error of its own result only."""
        try:
            return self.backend.meta_of(StateRecord.decode(record.value()))
        except Exception as error:
            task_id, rank = split_key(record.key().decode())
            status = states.PENDING if rank is Rank.PROGRESS else states.FAILURE
            return {"task_id": task_id, "status": status, "result": error, "traceback": None, "children": []}
