"""The log of claims: its records, who wins, what is outdated, and that its state does not depend on where one begins."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kafka_exec.core.beat.claimlog import NEVER, ClaimLog, RecordKind, Signal, Standing, Verdict, restored
from kafka_exec.errors import Undecodable

TASK_SIGNALS = [kind for kind in RecordKind if kind is not RecordKind.CHECKPOINT]

SIGNALS = st.builds(
    Signal,
    st.sampled_from(TASK_SIGNALS),
    node=st.sampled_from(["a", "b", "c"]),
    name=st.just("node"),
    entry=st.sampled_from(["x", "y"]),
    epoch=st.integers(-1, 40),
    slot=st.floats(0, 1000),
    run=st.just("r"),
    held=st.booleans(),
)


def play(log: ClaimLog, signals: Sequence[Signal], begin: int = 0) -> list[Verdict]:
    return [log.take(signal, begin + n, 100.0 + begin + n) for n, signal in enumerate(signals)]


def claiming(node: str, reference: int = NEVER) -> Signal:
    return Signal(RecordKind.CLAIMING, node, "n", "x", reference)


@given(SIGNALS)
def test_a_signal_comes_back(signal: Signal) -> None:
    assert Signal.decode(signal.encode()) == signal


@pytest.mark.parametrize(
    "value",
    [
        None,
        b"",
        b"[]",
        b"{}",
        b'{"version":2,"kind":"CLAIMED","node":"a"}',
        b'{"version":1,"kind":"NO","node":"a"}',
        b'{"version":1,"kind":"CLAIMED"}',
        b'{"version":1,"kind":"CLAIMED","node":"a","epoch":"1"}',
    ],
)
def test_what_is_no_signal_is_refused(value: bytes | None) -> None:
    with pytest.raises(Undecodable):
        Signal.decode(value)


def test_a_record_tells_its_version_entry_epoch_and_definition() -> None:
    signal = replace(claiming("a", 7), definition="d")
    assert signal.encode() == (
        b'{"version":1,"kind":"CLAIMING","node":"a","name":"n","entry":"x","epoch":7,"definition":"d"}'
    )


def test_the_lowest_offset_wins() -> None:
    log = ClaimLog()
    assert play(log, [claiming("b"), claiming("a")]) == [Verdict.WON, Verdict.LATE]
    assert (log.standing("x").holder, log.standing("x").epoch) == ("b", 0)


def test_a_claim_names_the_last_release() -> None:
    log = ClaimLog()
    play(log, [claiming("a"), Signal(RecordKind.UNCLAIMED, "a", entry="x", epoch=0)])
    assert log.take(claiming("b", NEVER), 2, 0.0) is Verdict.LATE
    assert log.take(claiming("b", 1), 3, 0.0) is Verdict.WON


def test_what_is_of_an_earlier_claim_is_ignored_and_counted() -> None:
    log = ClaimLog()
    play(log, [claiming("a"), Signal(RecordKind.UNCLAIMED, "z", entry="x", epoch=0), claiming("b", 1)])
    before = log.standing("x")
    late = [
        Signal(kind, "a", entry="x", epoch=0)
        for kind in (RecordKind.CLAIMED, RecordKind.HANDLING, RecordKind.UNCLAIMED)
    ]
    assert play(log, late, 3) == [Verdict.OUTDATED] * 3
    assert (log.outdated, log.conflicts, log.standing("x")) == (3, 0, before)


def test_a_record_that_comes_twice_is_ignored() -> None:
    log = ClaimLog()
    play(log, [claiming("a"), Signal(RecordKind.HANDLING, "a", entry="x", epoch=0, slot=5.0)])
    assert log.take(Signal(RecordKind.HANDLING, "a", entry="x", epoch=0, slot=5.0), 1, 0.0) is Verdict.OUTDATED
    assert log.standing("x").runs == 1


def test_who_does_not_hold_it_contradicts() -> None:
    log = ClaimLog()
    play(log, [claiming("a")])
    assert log.take(Signal(RecordKind.HANDLING, "b", entry="x", epoch=0, slot=5.0), 1, 0.0) is Verdict.CONFLICT
    assert (log.conflicts, log.standing("x").slot) == (1, None)


def test_a_holders_own_run_lasts_until_it_says_otherwise() -> None:
    log = ClaimLog()
    play(log, [claiming("a"), Signal(RecordKind.HANDLING, "a", entry="x", epoch=0, slot=5.0, held=True)])
    log.take(Signal(RecordKind.CLAIMED, "a", entry="x", epoch=0, held=True), 2, 102.0)
    assert log.standing("x").handling
    log.take(Signal(RecordKind.CLAIMED, "a", entry="x", epoch=0), 3, 103.0)
    assert (log.standing("x").handling, log.standing("x").ended) == (False, 103.0)


def test_a_run_asked_for_moves_no_slot() -> None:
    log = ClaimLog()
    fire = Signal(RecordKind.HANDLING, "a", entry="x", epoch=0, slot=5.0)
    play(log, [claiming("a"), fire, replace(fire, slot=7.5, request=7.5)])
    standing = log.standing("x")
    assert (standing.slot, standing.request, standing.runs) == (5.0, 7.5, 2)


def test_without_its_beginning_a_holder_is_believed() -> None:
    log = ClaimLog(next=50, whole=False)
    log.take(Signal(RecordKind.HEARTBEAT, "a", "n", "x", 20), 50, 0.0)
    assert (log.standing("x").holder, log.standing("x").epoch) == ("a", 20)


@given(st.lists(SIGNALS, max_size=60), st.data())
def test_all_see_the_same_wherever_they_begin(signals: list[Signal], data: st.DataObject) -> None:
    whole = ClaimLog()
    play(whole, signals)
    at = data.draw(st.integers(0, len(signals)))
    early = ClaimLog()
    play(early, signals[:at])
    checkpoint = [Signal.decode(signal.encode()) for signal in early.checkpoint("c")]
    late = restored(checkpoint)
    assert late is not None
    play(late, signals[at:], at)
    assert dict(late.all()) == dict(whole.all())


def test_a_checkpoint_of_many_entries_counts_with_all_its_parts_only() -> None:
    log = ClaimLog(next=9, _standings={f"e{n}": Standing(holder="a", epoch=n) for n in range(2500)})
    parts = log.checkpoint("c")
    assert len(parts) == 3
    assert restored(parts[1:]) is None
    found = restored([*parts, *ClaimLog(next=3).checkpoint("d")])
    assert found == log
