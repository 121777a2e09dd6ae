"""The ledger of a partition that comes to a new owner: which checkpoint counts, and from where the journal is read."""

from __future__ import annotations

import json

import pytest

from kafka_exec.core.queue.checkpoints import add_checkpoint, encode_checkpoint
from kafka_exec.core.queue.lanes import Lane, Run
from kafka_exec.core.queue.ledger import Ledger
from kafka_exec.core.queue.progress import Progress
from kafka_exec.core.queue.restoring import JournalEntry, restore
from kafka_exec.core.queue.transitions import ENDED, STARTED, Lease, Transition, encode, held

KEY = Lane("key", "k")


def checkpoint(incarnation: str = "owner", leases: int = 0) -> list[bytes]:
    ledger = Ledger("q", Progress(0))
    for offset in range(leases):
        ledger.start(offset, incarnation)
    return encode_checkpoint(ledger, incarnation)


def entries(*values: bytes, first: int = 0) -> list[JournalEntry]:
    return [JournalEntry(offset, value) for offset, value in enumerate(values, start=first)]


@pytest.mark.parametrize(("folded", "is_known"), [(5, True), (6, False)])
def test_what_others_tell_before_a_checkpoint_that_has_not_heard_it_is_known_to_the_next_owner(
    folded: int, is_known: bool
) -> None:
    guests = encode("guest", "q", [Transition(ENDED, 0), held(0, KEY, Run("t0", 1))])
    journal = entries(guests, *checkpoint(), first=5)
    committed = Progress(0)
    committed.check_in(6, folded)
    ledger, _ = restore("q", journal[folded - 5 :], committed)
    assert (ledger.has_ended(0), KEY in ledger.holds) == (is_known, is_known)


def test_a_checkpoint_in_several_records_counts_with_all_of_them_though_others_write_between() -> None:
    parts = checkpoint(leases=9000)
    assert len(parts) > 1
    between = encode("guest", "q", [Transition(ENDED, 3)])
    journal = entries(parts[0], between, *checkpoint("zombie", leases=1), *parts[1:], first=7)
    committed = Progress(0)
    committed.check_in(7, 7)
    ledger, _ = restore("q", journal, committed)
    assert len(ledger.leases) == 8999
    assert ledger.leases[0] == Lease("owner", 1)


def test_a_commit_of_a_topic_that_had_the_name_before_counts_for_nothing() -> None:
    found = Progress(7)
    metadata = found.metadata("before")
    assert Progress.restore(7, metadata, "before") == Progress(7)
    assert Progress.restore(7, metadata, "now") is None
    ledger, oddities = restore("now", entries(encode("a", "before", [Transition(STARTED, 0, 1)]), b"{}"), None)
    assert (ledger, oddities) == (Ledger("now", Progress(0)), 1)


def test_without_a_commit_a_checkpoint_that_comes_late_holds_no_lane_of_which_the_journal_has_told_since() -> None:
    ledger = Ledger("q", Progress(0))
    ledger.hold(KEY, Run("t0", 1))
    ledger.hold(Lane("key", "trimmed"), Run("t9", 1))
    later = encode("owner", "q", [Transition(ENDED, 1), held(1, KEY, Run("t0", 2))])
    restored, _ = restore("q", entries(later, *encode_checkpoint(ledger, "lost")), None)
    assert restored.holds == {KEY: Run("t0", 2), Lane("key", "trimmed"): Run("t9", 1)}


def test_a_checkpoint_says_which_record_holds_a_lane_and_one_of_an_earlier_version_does_not() -> None:
    made, parts = Ledger("q", Progress(0)), []
    made.hold(KEY, Run("t0", 1), 7)
    [whole] = encode_checkpoint(made, "owner")
    before = json.loads(whole)
    del before["checkpoint"]["holders"]
    for value in (whole, json.dumps(before).encode()):
        restored = Ledger("q", Progress(0))
        assert add_checkpoint(restored, value) == 1
        parts.append((restored.holds, restored.holders))
    assert parts == [({KEY: Run("t0", 1)}, {KEY: 7}), ({KEY: Run("t0", 1)}, {KEY: -1})]


@pytest.mark.parametrize(
    ("whole", "queue", "is_outdated"), [(True, "q", True), (False, "q", False), (True, "of another topic", False)]
)
def test_without_a_commit_a_checkpoint_that_was_made_before_a_whole_one_and_comes_after_it_counts_for_nothing(
    whole: bool, queue: str, is_outdated: bool
) -> None:
    """What has ended the wait of its lanes may be deleted, since the newer checkpoint has folded it."""
    old, new = Ledger("q", Progress(0)), Ledger(queue, Progress(0))
    old.hold(KEY, Run("t0", 1))
    for offset in range(9000):
        new.start(offset, "owner")
    newer = encode_checkpoint(new, "owner", 9)
    journal = entries(*newer[: None if whole else -1], *encode_checkpoint(old, "lost", 3), first=20)
    restored, _ = restore("q", journal, None)
    assert (KEY not in restored.holds) == is_outdated
