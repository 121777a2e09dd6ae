"""A batch of steps is written as if each were written alone: what is bad is replaced, all else is there once, in order."""

from __future__ import annotations

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any, NamedTuple

import pytest
from confluent_kafka import KafkaError
from hypothesis import given
from hypothesis import strategies as st

from kafka_exec.kafka.control.transactional_batch import TransactionalBatch
from kafka_exec.kafka.publish.scopes import Outgoing
from kafka_exec.kafka.publish.transactions import Lost, Refused

OWN = "own"

#: What a record's value says of it, as the broker would.
ERRORS = {
    b"large": KafkaError.MSG_SIZE_TOO_LARGE,
    b"wrong": KafkaError.INVALID_RECORD,
}
CLOSED = {"missing": KafkaError.UNKNOWN_TOPIC_OR_PART, "forbidden": KafkaError.TOPIC_AUTHORIZATION_FAILED}


class Step(NamedTuple):
    number: int
    outgoing: Sequence[Outgoing]


class Log:
    """Takes a transaction if all of its records are good, as a broker does, and else says which topics were refused."""

    def __init__(self) -> None:
        self.written: list[Outgoing] = []
        self.transactions = 0
        self.begun: list[Outgoing] = []

    def begin(self, records: Sequence[Outgoing]) -> None:
        self.begun = list(records)

    def add(self, records: Sequence[Outgoing]) -> None:
        self.begun += records

    def commit(self) -> int:
        self.transactions += 1
        errors = [
            (record.topic, KafkaError(code))
            for record in self.begun
            if (code := CLOSED.get(record.topic) or ERRORS.get(record.value or b"")) is not None
        ]
        if errors:
            raise Refused(errors)
        self.written += self.begun
        return len(self.written)


def batch_of(log: Any, replaced: list[int], tell_as: bytes = b"good") -> TransactionalBatch[Step]:
    def replace(step: Step, refused: Refused) -> Step:
        replaced.append(step.number)
        return step._replace(outgoing=[Outgoing("letters", b"good", str(step.number))])

    return TransactionalBatch(
        SimpleNamespace(topics=None),  # type: ignore[arg-type]
        log,  # type: ignore[arg-type]
        [OWN],
        tell=lambda steps: [Outgoing(OWN, tell_as, str(steps[-1].number))],
        replace=replace,
    )


def steps_of(kinds: Sequence[tuple[str, bytes]]) -> list[Step]:
    return [Step(number, [Outgoing(topic, value, str(number))]) for number, (topic, value) in enumerate(kinds)]


KINDS = st.sampled_from([*[("queue", b"good")] * 4, ("queue", b"large"), ("other", b"wrong"), ("missing", b"good")])


@given(st.lists(KINDS, min_size=1, max_size=40))
def test_the_good_is_written_once_in_order_and_the_bad_replaced_once(kinds: list[tuple[str, bytes]]) -> None:
    log, replaced = Log(), list[int]()
    batch = batch_of(log, replaced)
    steps = steps_of(kinds)
    batch.begin(steps)
    assert batch.settle() == steps[-1]
    bad = [number for number, (topic, value) in enumerate(kinds) if topic in CLOSED or value in ERRORS]
    assert sorted(replaced) == bad
    assert [int(str(each.key)) for each in log.written if each.topic != OWN] == list(range(len(kinds)))
    assert {int(str(each.key)) for each in log.written if each.topic == "letters"} == set(bad)
    positions = [int(str(each.key)) for each in log.written if each.topic == OWN]
    assert positions == sorted(positions)
    assert positions[-1] == len(kinds) - 1


def test_one_too_large_among_many_is_found_by_halving() -> None:
    log, replaced = Log(), list[int]()
    batch = batch_of(log, replaced)
    batch.begin(steps_of([("queue", b"large" if number == 300 else b"good") for number in range(512)]))
    batch.settle()
    assert replaced == [300]
    # Each halving is refused once and adds one that succeeds; the last one is replaced and written.
    assert log.transactions == 1 + 2 * 9 + 1


@pytest.mark.parametrize("topic", CLOSED)
def test_all_for_a_topic_that_takes_nothing_are_replaced_at_once(topic: str) -> None:
    log, replaced = Log(), list[int]()
    batch = batch_of(log, replaced)
    batch.begin(steps_of([(topic if number % 2 else "queue", b"good") for number in range(512)]))
    batch.settle()
    assert replaced == list(range(1, 512, 2))
    assert log.transactions == 2


def test_nothing_goes_on_where_the_drivers_own_topic_takes_no_record() -> None:
    batch = batch_of(Log(), [], tell_as=b"wrong")
    batch.begin(steps_of([("queue", b"good")] * 2))
    with pytest.raises(Lost):
        batch.settle()


def test_an_own_record_that_is_too_large_is_one_of_its_step() -> None:
    log, replaced = Log(), list[int]()
    batch = batch_of(log, replaced)
    batch.begin([Step(number, [Outgoing(OWN, b"large" if number == 1 else b"good", "x")]) for number in range(3)])
    batch.settle()
    assert replaced == [1]


def test_a_topic_is_looked_for_once_in_a_batch() -> None:
    asked: list[str] = []

    def partitions(topic: str, fresh: bool) -> int | None:
        assert fresh
        asked.append(topic)
        return None if topic == "missing" else 1

    batch: TransactionalBatch[Step] = TransactionalBatch(
        SimpleNamespace(topics=SimpleNamespace(partitions=partitions)),  # type: ignore[arg-type]
        Log(),  # type: ignore[arg-type]
        [OWN],
        tell=lambda steps: [],
        replace=lambda step, refused: step,
    )
    assert [batch.has_found("queue"), batch.has_found("queue"), batch.has_found("missing")] == [True, True, False]
    assert asked == ["queue", "missing"]
    batch.settle()
    assert batch.has_found("queue")
    assert asked == ["queue", "missing", "queue"]


@pytest.mark.parametrize("number", [1, 8, 9])
def test_kafka_registers_a_small_transaction_while_its_steps_are_made(number: int) -> None:
    log, written_before = Log(), list[int]()
    batch: TransactionalBatch[Step] = TransactionalBatch(
        SimpleNamespace(topics=None),  # type: ignore[arg-type]
        log,  # type: ignore[arg-type]
        [OWN],
        tell=lambda steps: [Outgoing(OWN, b"good", str(steps[-1].number))],
        replace=lambda step, refused: step,
        make=lambda step: written_before.append(len(log.begun)),
    )
    batch.begin(steps_of([("queue", b"good")] * number))
    # Many steps may take longer to make than a transaction may be open.
    assert written_before == ([1] * number if number <= 8 else [0] * number)
    batch.settle()
    assert [record.topic for record in log.written] == [OWN] + ["queue"] * number
