"""The streams of transitions that a process writes into a journal."""

from __future__ import annotations

from collections.abc import Callable

from kafka_exec.core.queue.transitions import ENDED, Transition
from kafka_exec.kafka.queue.journal_writer import JournalWriter


class Records:
    """A journal in memory: it has the two methods of a publisher that the writer calls."""

    def __init__(self) -> None:
        self.values: list[bytes] = []

    def enqueue(self, topic: str, value: bytes, partition: int, settle: Callable[..., None]) -> None:
        self.values.append(value)

    def serve(self, timeout: float = 0.0) -> None:
        pass


def test_a_partition_that_comes_back_without_a_commit_is_written_as_before() -> None:
    records = Records()
    writer = JournalWriter(records, "journal", "me")
    stream = writer.stream(0, "q")
    writer.find(0, "q").checkpoint([b"the ledger that was restored"], lambda offset: None)
    stream.tell(Transition(ENDED, 7))
    writer.serve()
    assert [b'"e",7' in each for each in records.values] == [False, True]


def test_a_stream_is_of_one_partition_and_one_topic() -> None:
    writer = JournalWriter(Records(), "journal", "me")
    stream = writer.stream(0, "q")
    assert writer.find(0, "q") is stream
    assert writer.find(1, "q") is not stream
    assert writer.find(0, "made anew") is not stream
