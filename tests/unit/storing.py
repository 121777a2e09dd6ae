"""The result back end without a cluster: its records are kept in this process."""

from __future__ import annotations

from collections.abc import Iterable
from types import SimpleNamespace
from typing import Any

from celery import Celery

from kafka_exec.backend import KafkaBackend
from kafka_exec.core.results.state_record import Note, StateRecord
from kafka_exec.errors import MessageTooLarge


class Topic(KafkaBackend):
    """Ours, with the records of its topics in a list."""

    def __init__(self, app: Celery, limit: int = 10**9) -> None:
        super().__init__(app, url="kafka-exec://127.0.0.1:9/nothing")
        self.limit = limit
        self.values: list[bytes] = []
        self.noted: list[Note] = []

    space = SimpleNamespace(cluster=SimpleNamespace(largest=10**9), settings=SimpleNamespace(heartbeat=1.0))  # type: ignore[assignment]

    def _publish(self, records: Iterable[tuple[str, bytes | None]], of: StateRecord) -> None:
        for _, value in records:
            if len(value or b"") > self.limit:
                raise MessageTooLarge
            self.values.append(value or b"")

    def _note(self, note: Note, *, in_worker: bool) -> None:
        self.noted.append(Note.decode(note.encode()))

    def _find(self, task_id: str) -> StateRecord | None:
        return self.last if self.values else None

    @property
    def last(self) -> StateRecord:
        return StateRecord.decode(self.values[-1])

    def read(self) -> dict[str, Any]:
        return self.meta_of(self.last)
