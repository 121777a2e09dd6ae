"""Deleting the records of a queue, and of its journal, whose tasks ended long ago."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping

from kafka_exec.errors import KafkaExecError
from kafka_exec.kafka.client.loop import run_once
from kafka_exec.kafka.queue.journal import Journal
from kafka_exec.kafka.queue.owned import OwnedPartition

logger = logging.getLogger("kafka_exec")

#: The pause between two deletions, seconds; shorter if records are kept for less.
_EVERY = 600.0


class Trimmer:
    """Deletes, now and then, records of the partitions that this process owns. It does not wait."""

    def __init__(self, journal: Journal, topic: str) -> None:
        self._journal = journal
        self._topic = topic
        self._trimmed = time.monotonic()

    def turn(self, owned: Mapping[int, OwnedPartition], retention: float) -> None:
        """Deletes records that ended longer than ``retention`` seconds ago, if it is time, in a thread of its own."""
        now = time.monotonic()
        if now - self._trimmed < min(_EVERY, retention):
            return
        self._trimmed = now
        marks = {partition: work.done_with() for partition, work in list(owned.items())}
        if marks:
            run_once("trim", lambda: self._trim(marks, time.time() - retention))

    def _trim(self, marks: Mapping[int, tuple[int, int]], before: float) -> None:
        try:
            self._journal.trim(marks, before)
        except KafkaExecError as error:
            logger.debug("what ended in %s could not be deleted: %s", self._topic, error)
