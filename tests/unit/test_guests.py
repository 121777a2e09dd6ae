"""A worker takes a granted task when it has heard the journal up to the grant, and believes no lease from before a gap."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from kafka_exec.core.message.envelope import Message, encode
from kafka_exec.core.queue.transitions import STARTED, Lease, Transition, granted
from kafka_exec.core.queue.transitions import encode as encode_transitions
from kafka_exec.core.worker.sharing import Grant
from kafka_exec.errors import NotConfirmed
from kafka_exec.kafka.queue.owned import OwnedPartition
from kafka_exec.kafka.queue.ownership import Ownership


class Guest:
    """A worker that owns no partition, with the log that it reads."""

    def __init__(self) -> None:
        self.position: int | None = None
        self.out: list[int] = []
        self.works: list[OwnedPartition] = []
        stream = SimpleNamespace(tell=lambda told: None, await_durable=lambda number, timeout: True, written_to=0)
        journal: Any = SimpleNamespace(
            incarnation="me",
            node=SimpleNamespace(period=60.0, log_time=lambda now=None: 1000.0),
            writer=SimpleNamespace(stream=lambda partition, queue: stream),
            follows=lambda partition: self.position is not None,
            position=lambda partition: self.position,
            watch=self.watch,
        )
        settings = SimpleNamespace(session_timeout=10.0, deduplication_retention=60.0)
        cluster: Any = SimpleNamespace(settings=settings)
        self.ownership = Ownership(cluster, "q", journal, is_stopping=lambda: False, on_free=self.take)
        self.hear = lambda *told: journal.heard(0, encode_transitions("owner", "", told))
        self.miss = lambda: journal.missed(0)
        self.admits = lambda grant: self.ownership._admits(journal, grant, record(grant.offset), 1000.0)

    def take(self, record: Any, work: OwnedPartition) -> None:
        self.out.append(record.offset())
        self.works.append(work)

    def watch(self, partition: int, since: int) -> None:
        self.position = since if self.position is None else self.position


class Sent:
    """The record of a task, with the methods of a consumer's record that are called."""

    def __init__(self, offset: int) -> None:
        self.message = Message(b"[[], {}, {}]", "application/json", "utf-8", {"task": "t", "id": f"t{offset}"}, {})
        self.offset, self.leader_epoch = (lambda: offset), (lambda: 0)
        self.headers, self.value = (lambda: encode(self.message)), (lambda: self.message.body)

    def __len__(self) -> int:
        return len(self.message.body)


def record(offset: int) -> Any:
    return Sent(offset)


def grant(offset: int, since: int, queue: str = "") -> Grant:
    return Grant("me", "q", 0, offset, attempts=0, queue=queue, since=since)


@pytest.fixture
def guest() -> Guest:
    return Guest()


def test_a_lease_that_was_told_before_the_journal_was_left_keeps_no_granted_task_away(guest: Guest) -> None:
    assert guest.admits(grant(0, since=5))
    guest.hear(granted(1, Lease("owner", 0)))
    guest.position = None
    assert guest.admits(grant(1, since=9)), "the owner gave it away while the journal was not followed"
    assert guest.out == [0, 1]


def test_a_granted_task_waits_until_the_journal_is_heard_up_to_the_grant(guest: Guest) -> None:
    assert guest.admits(grant(0, since=5))
    assert not guest.admits(grant(1, since=7))
    guest.hear(granted(1, Lease("owner", 0)), granted(1, Lease("me", 0)))
    guest.position = 8
    assert guest.admits(grant(1, since=7))
    guest.hear(granted(2, Lease("me", 0)), Transition(STARTED, 2, 1))
    assert guest.admits(grant(2, since=7))
    assert guest.out == [0, 1], "another has begun the third"


def test_a_begin_that_nobody_decides_since_the_journal_was_deleted_unread_takes_no_slot_for_ever(guest: Guest) -> None:
    assert guest.admits(grant(0, since=5))
    [work] = guest.works
    assert work.begin(0, work.term)
    guest.miss()
    assert work.confirm(0, work.term, -1.0) is None


def test_a_begin_that_nobody_decides_since_its_queue_is_gone_takes_no_slot_for_ever(guest: Guest) -> None:
    assert guest.admits(grant(0, since=5))
    [work] = guest.works
    assert work.begin(0, work.term)
    with pytest.raises(NotConfirmed):
        work.confirm(0, work.term, -1.0)
    guest.ownership._identity = "another"
    assert guest.admits(grant(0, since=0, queue="another"))
    assert work.confirm(0, work.term, -1.0) is None
    assert guest.works[1].begin(0, guest.works[1].term)


def test_a_granted_task_of_a_topic_that_is_made_anew_while_it_waits_for_the_journal_is_not_taken(guest: Guest) -> None:
    assert guest.admits(grant(0, since=5))
    assert not guest.admits(grant(1, since=7))
    guest.ownership._identity = "another"
    guest.position = 8
    assert guest.admits(grant(1, since=7))
    assert guest.out == [0]
