"""A partition as its owner has it: what it hears from others, and what of that it hands out."""

from __future__ import annotations

import time
from types import SimpleNamespace

import pytest

from kafka_exec.core.message.envelope import Message, encode
from kafka_exec.core.nodes.liveness import TrustWindow, membership
from kafka_exec.core.queue.lanes import Lane, Run, after_retry
from kafka_exec.core.queue.ledger import ENDED, GRANTED, RELEASED, Ledger, Transition, held
from kafka_exec.core.queue.ledger import encode as encode_transitions
from kafka_exec.core.queue.progress import Progress
from kafka_exec.errors import NotConfirmed
from kafka_exec.kafka.queue.owned import OwnedPartition

KEY = Lane("key", "k")

#: What a partition tells is nobody's business here.
UNREAD = SimpleNamespace(incarnation="me", node=SimpleNamespace(period=1.0), tell=lambda partition, *transitions: 0)


class Read:
    """A task's record as a reader has it."""

    def __init__(self, offset: int, **headers: object) -> None:
        message = Message(
            b"", "application/json", "utf-8", {"task": "t", "id": f"t{offset}", "retries": 0, **headers}, {}
        )
        self.offset = lambda: offset
        self.headers = lambda: encode(message)
        self.value = lambda: b""
        self.timestamp = lambda: (1, 0)

    def __len__(self) -> int:
        return 1


def joined(session: float, at: float) -> TrustWindow:
    window = membership(session)
    window.open(at)
    return window


def work(ledger: Ledger, journal: SimpleNamespace | None = None, tenure: TrustWindow | None = None) -> OwnedPartition:
    return OwnedPartition(
        "q.a",
        3,
        ledger,
        0,
        journal,
        tenure=tenure or joined(60.0, time.monotonic()),
        remember=60.0,
        on_free=lambda record, work: None,
    )


@pytest.mark.parametrize(
    ("told", "expected"),
    [
        ((), [True, False, False]),
        ((Transition(ENDED, 0),), [False, True, False]),
        ((Transition(ENDED, 0), Transition(ENDED, 1)), [False, False, True]),
        ((Transition(ENDED, 0), held(0, KEY, Run("t0", 1))), [False, False, True]),
    ],
)
def test_an_end_that_is_heard_of_before_its_record_is_read_lets_its_lane_go_on(
    told: tuple[Transition, ...], expected: list[bool]
) -> None:
    owned = work(Ledger("q", Progress(0)))
    owned.overhear(encode_transitions("other", "q", told))
    records = [Read(0, ordering_key="k"), Read(1, ordering_key="k"), Read(2, ordering_key="k", id="t0", retries=1)]
    assert [owned.read(record) for record in records] == expected


def test_what_a_lost_worker_ran_is_handed_out_as_it_was_read_and_not_looked_up_one_by_one() -> None:
    ledger, records = Ledger("q", Progress(0)), [Read(offset) for offset in range(1000)]
    leases = [ledger.start(record.offset(), "lost") for record in records]
    owned = work(ledger, UNREAD)
    assert not any(owned.read(record) for record in records)
    assert [owned.reclaim(offset, lease) for offset, lease in enumerate(leases)] == [[record] for record in records]
    assert owned.wanted() == []


def told_by(owned_keys: int) -> tuple[OwnedPartition, list[Transition]]:
    """A partition with tasks of so many keys that were read, and what was told since."""
    told: list[Transition] = []
    journal = SimpleNamespace(
        incarnation="me",
        node=SimpleNamespace(period=1.0),
        tell=lambda partition, *transitions: told.extend(transitions) or 1,
    )
    owned = work(Ledger("q", Progress(0)), journal)
    assert all(owned.read(Read(offset, ordering_key=f"k{offset}")) for offset in range(owned_keys))
    return owned, told


def test_a_keys_task_is_reserved_when_it_is_read_and_others_are_not() -> None:
    owned, told = told_by(2)
    assert owned.read(Read(2))
    assert [(each.kind, each.offset, each.about) for each in told] == [(GRANTED, 0, ("me",)), (GRANTED, 1, ("me",))]


def test_what_was_reserved_and_has_not_begun_is_given_back_when_the_partition_goes() -> None:
    owned, told = told_by(2)
    assert owned.begin(0, owned.term)
    told.clear()
    owned.close_down()
    assert [(each.kind, each.offset) for each in told] == [(RELEASED, 1)]


def test_what_is_told_while_the_journal_is_read_is_not_forgotten() -> None:
    owned, _ = told_by(1)
    assert owned.begin(0, owned.term)
    owned.lose()
    owned.await_restoring()
    owned.will_end(0, after_retry)
    owned.end(0)
    owned.revive(Ledger("q", Progress(0)))
    assert not owned.read(Read(0, ordering_key="k0"))
    assert not owned.read(Read(1, ordering_key="k0"))  # its key waits for the retry
    assert owned.read(Read(2, ordering_key="k0", id="t0", retries=1))


def test_a_worker_that_was_stopped_for_long_asks_what_is_its_own_before_it_begins_or_gives_anything() -> None:
    stopped = joined(1.0, time.monotonic() - 1.0)
    owned, record = work(Ledger("q", Progress(0)), UNREAD, stopped), Read(0)
    assert owned.read(record)
    with pytest.raises(NotConfirmed, match="not known yet"):
        owned.begin(0, 0)
    assert owned.grant(record, 0, "other") is None
    assert not stopped.renew(time.monotonic())
    stopped.open(time.monotonic())
    assert owned.begin(0, 0)
