"""A member of a group takes partitions over, and begins those anew whose topic was deleted and made again."""

from __future__ import annotations

import time
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, cast

import pytest
from confluent_kafka import TopicPartition

from kafka_exec.core.nodes.liveness import membership
from kafka_exec.core.queue.ledger import Ledger
from kafka_exec.core.queue.partition import outbox
from kafka_exec.core.queue.progress import Progress
from kafka_exec.core.worker.sharing import Grant
from kafka_exec.errors import ConnectionFailed
from kafka_exec.kafka.queue.journal import Journal
from kafka_exec.kafka.queue.journal_writer import JournalWriter
from kafka_exec.kafka.queue.owned import OwnedPartition
from kafka_exec.kafka.queue.ownership import Ownership
from tests.unit.test_guests import record


class Records:
    """The publisher of a journal in memory, which takes each record at once, at the next offset."""

    def __init__(self) -> None:
        self.values: list[bytes] = []
        self._answers: list[tuple[Callable[..., None], int]] = []

    def enqueue(self, topic: str, value: bytes, partition: int, settle: Callable[..., None]) -> None:
        self._answers.append((settle, len(self.values)))
        self.values.append(value)

    def serve(self, timeout: float = 0.0) -> None:
        for settle, offset in self._answers:
            settle(None, SimpleNamespace(offset=lambda offset=offset: offset))
        self._answers.clear()


class Member:
    """A member that owns partitions of a topic, with the cluster that it knows."""

    def __init__(self) -> None:
        self.identity = "first"
        self.on_restore: Callable[[], None] = lambda: None
        self.sought: list[int] = []
        journal: Any = SimpleNamespace(
            identity="",
            incarnation="me",
            node=SimpleNamespace(period=60.0, log_time=lambda now=None: 1000.0, own=lambda topic, partitions: None),
            writer=SimpleNamespace(stream=lambda partition, queue: None, flush=lambda partitions, timeout: True),
            restore=self.restore,
            listen=lambda partitions: None,
            leave=lambda partitions: None,
            make=lambda partitions, anew: None,
        )
        self.journal = journal
        settings = SimpleNamespace(session_timeout=10.0, deduplication_retention=60.0)
        topics = SimpleNamespace(identity=lambda topic: self.identity)
        cluster: Any = SimpleNamespace(settings=settings, topics=topics)
        self.ownership = Ownership(cluster, "q", journal, is_stopping=lambda: True, on_free=lambda record, work: None)
        self.consumer: Any = SimpleNamespace(
            committed=lambda partitions, timeout: partitions, seek=lambda place: self.sought.append(place.partition)
        )

    def restore(self, found: dict[int, Progress | None]) -> dict[int, Ledger]:
        self.on_restore()
        return {
            partition: Ledger(self.journal.identity, progress or Progress(0)) for partition, progress in found.items()
        }

    def take_over(self, *partitions: int) -> list[OwnedPartition]:
        self.ownership.take_over(self.consumer, [TopicPartition("q", each) for each in partitions])
        return [self.ownership.owned[each] for each in partitions]

    def look_at_topic(self) -> None:
        self.ownership.look_at_topic(self.consumer)


def test_a_topic_that_is_made_anew_while_a_partition_is_taken_over_is_taken_over_again() -> None:
    """A granted task tells its new id, so that the commits, which were read before, are of the old one."""
    member = Member()
    member.on_restore = lambda: setattr(member.ownership, "_identity", "second")
    with pytest.raises(ConnectionFailed):
        member.take_over(0)
    assert member.ownership.owned == {}


def test_partitions_of_the_former_topic_begin_anew_though_another_one_has_told_the_new_id() -> None:
    member = Member()
    [former] = member.take_over(0)
    member.look_at_topic()
    member.identity = "second"
    [latter] = member.take_over(1)
    member.look_at_topic()
    assert (member.ownership.owned[0].queue, former.alive) == ("second", False)
    assert member.ownership.owned[1] is latter, "what has ended there is known"
    assert member.sought == [0]


def test_what_a_guest_is_about_to_run_of_a_topic_that_is_gone_waits_for_no_journal() -> None:
    member = Member()
    member.take_over(0, 1)
    member.ownership.lose([1])
    former = member.ownership._disowned[1]
    former.accept(Grant("me", "q", 1, 0, attempts=0, queue="first", since=0), record(0), 1000.0)
    assert former.begin(0, former.term)
    member.identity = "second"
    member.ownership._next_look_at_topic = 0.0
    member.look_at_topic()
    assert former.confirm(0, former.term, -1.0) is None
    assert member.ownership._disowned == {}


def owned(ledger: Ledger, records: Records, heard: int | None = None) -> tuple[OwnedPartition, JournalWriter]:
    """A partition that is owned. ``heard``: the offset up to which its owner has heard the journal; None: not at all."""
    writer = JournalWriter(cast(Any, records), "journal", "me")
    node = SimpleNamespace(period=60.0, log_time=lambda now=None: 1000.0)
    journal: Any = SimpleNamespace(incarnation="me", node=node, writer=writer, position=lambda partition: heard)
    window = membership(60.0)
    window.open(time.monotonic())
    work = OwnedPartition("q", 0, ledger, journal, membership=window, remember=60.0, on_free=lambda record, work: None)
    return work, writer


@pytest.mark.parametrize(("heard", "folded"), [(0, 0), (None, 2)])
def test_a_checkpoint_has_folded_what_its_writer_had_heard_of_the_journal(
    heard: int | None, folded: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Records that others had written before it, and that its writer had not heard, are read by the next owner.

    A writer that does not follow the journal has heard all up to its own last record, since nobody else runs anything.
    """
    monkeypatch.setattr(outbox, "_CHECKPOINT_AFTER", 1)
    records = Records()
    records.values.append(b"of another")
    ledger = Ledger("q", Progress(0))
    work, writer = owned(ledger, records, heard)
    work.read(record(0))
    assert work.begin(0, work.term)
    work.end(0)
    writer.serve()
    work.check_in()
    writer.serve()
    assert ["checkpoint" in each.decode() for each in records.values] == [False, False, False, True]
    assert (ledger.progress.checkpoint, ledger.progress.folded) == (3, folded)


def test_what_another_runs_has_a_place_before_the_retry_that_its_run_may_send() -> None:
    """Its owner may have to run it again, if that worker is lost."""
    ledger = Ledger("", Progress(0))
    ledger.grant(0, "other")
    work, _ = owned(ledger, Records())
    work.read(record(0))
    work.read(record(1))
    assert [work._core.lanes.ticket(offset) is not None for offset in (0, 1)] == [True, False]
    assert work.give(record(1), work.term, "other") is not None
    assert work._core.lanes.ticket(1) is not None


@pytest.mark.parametrize(("offset", "missed"), [(3, []), (5, [0])])
def test_who_follows_a_journal_hears_of_records_that_were_deleted_before_it_has_read_them(
    offset: int, missed: list[int]
) -> None:
    sinks: dict[int, Callable[[Any], None]] = {}
    log = SimpleNamespace(follow=lambda topic, begins, found: sinks.update(found))
    cluster: Any = SimpleNamespace(journal_publisher=None, log=log)
    journal = Journal(
        cluster, "q", cast(Any, SimpleNamespace(name="journal")), cast(Any, SimpleNamespace(incarnation="me"))
    )
    told: list[int] = []
    journal.missed = told.append
    journal.watch(0, 3)
    sinks[0](SimpleNamespace(offset=lambda: offset, value=lambda: b"{}"))
    assert told == missed
    sinks[0](SimpleNamespace(offset=lambda: offset + 1, value=lambda: b"{}"))
    assert told == missed
