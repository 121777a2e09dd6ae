"""Each of Kafka's errors has one meaning; what passes is tried again, for as long as it may take and no longer."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence
from typing import Any

import pytest
from confluent_kafka import KafkaError, KafkaException, TopicPartition
from hypothesis import given, settings
from hypothesis import strategies as st
from kombu.exceptions import ChannelError, OperationalError

from kafka_exec.core.cluster import failures as table
from kafka_exec.core.cluster.failures import FAILURES, Failure, failure_of
from kafka_exec.errors import AccessRefused, ChannelFailed, ConnectionFailed, Forbidden, MessageTooLarge
from kafka_exec.kafka.client import native
from kafka_exec.kafka.client.failures import failure, persist, time_left, translate, within
from kafka_exec.kafka.client.offsets import EARLIEST, LATEST, committed, look_up

#: All errors that the client library knows.
CODES = {name: code for name, code in vars(KafkaError).items() if isinstance(code, int) and not name.startswith("__")}

#: What Kafka's own clients, in Java, try again.
_RETRIABLE = """
    INVALID_MSG LEADER_NOT_AVAILABLE NOT_LEADER_FOR_PARTITION REQUEST_TIMED_OUT REPLICA_NOT_AVAILABLE NETWORK_EXCEPTION
    COORDINATOR_LOAD_IN_PROGRESS COORDINATOR_NOT_AVAILABLE NOT_COORDINATOR NOT_ENOUGH_REPLICAS
    NOT_ENOUGH_REPLICAS_AFTER_APPEND NOT_CONTROLLER KAFKA_STORAGE_ERROR FETCH_SESSION_ID_NOT_FOUND
    INVALID_FETCH_SESSION_EPOCH LISTENER_NOT_FOUND FENCED_LEADER_EPOCH UNKNOWN_LEADER_EPOCH OFFSET_NOT_AVAILABLE
    PREFERRED_LEADER_NOT_AVAILABLE ELIGIBLE_LEADERS_NOT_AVAILABLE UNSTABLE_OFFSET_COMMIT THROTTLING_QUOTA_EXCEEDED
    CONCURRENT_TRANSACTIONS INCONSISTENT_TOPIC_ID REBALANCE_IN_PROGRESS BROKER_NOT_AVAILABLE
"""

#: What a caller gets.
RAISED = {
    Failure.NEWS: ConnectionFailed,
    Failure.PASSES: ConnectionFailed,
    Failure.FATAL: ConnectionFailed,
    Failure.REFUSED: AccessRefused,
    Failure.FORBIDDEN: Forbidden,
    Failure.TOO_LARGE: MessageTooLarge,
    Failure.WRONG: ChannelFailed,
    Failure.MISSING: ChannelFailed,
}


def raising(name: str) -> KafkaException:
    return KafkaException(KafkaError(CODES[name]))


@pytest.mark.parametrize("name", CODES)
def test_each_error_has_one_meaning_and_says_who_must_act(name: str) -> None:
    error = KafkaError(CODES[name])
    assert error.name() == name
    meanings = [meaning for meaning, names in table._NAMES.items() for each in names.split() if each == name]
    assert len(meanings) == 1, f"{name} stands in the table {len(meanings)} times"
    assert failure(error) is failure(KafkaException(error)) is meanings[0]
    raised = translate(error, "trying")
    assert type(raised) is RAISED[meanings[0]]
    assert str(raised).startswith("trying: ")
    # Whoever is to try again catches the one, whoever is to correct something the other.
    is_callers = meanings[0] in (Failure.WRONG, Failure.MISSING, Failure.TOO_LARGE)
    assert (isinstance(raised, OperationalError), isinstance(raised, ChannelError)) == (not is_callers, is_callers)


def test_the_table_knows_no_error_that_the_client_does_not() -> None:
    assert set(FAILURES) == set(CODES)
    assert Counter(name for names in table._NAMES.values() for name in names.split()).most_common(1)[0][1] == 1


@pytest.mark.parametrize("name", _RETRIABLE.split())
def test_what_kafkas_own_clients_try_again_passes(name: str) -> None:
    assert FAILURES[name] is Failure.PASSES


def test_an_error_of_a_newer_broker_is_not_the_callers() -> None:
    assert failure(KafkaError(32_000)) is Failure.PASSES
    assert isinstance(translate(KafkaError(32_000), "trying"), ConnectionFailed)


@given(st.sampled_from(sorted(FAILURES)))
def test_what_the_client_says_of_an_error_counts_first(name: str) -> None:
    assert failure_of(name) is FAILURES[name]
    assert failure_of(name, retriable=True) is Failure.PASSES
    assert failure_of(name, fatal=True) is failure_of(name, fatal=True, retriable=True) is Failure.FATAL


# -- trying again ------------------------------------------------------------------------------------------------------


class Tries:
    """Fails with these errors first."""

    def __init__(self, *names: str) -> None:
        self.names = list(names)
        self.timeouts: list[float] = []

    def __call__(self, timeout: float) -> str:
        self.timeouts.append(timeout)
        if self.names:
            raise raising(self.names.pop(0))
        return "done"


@settings(max_examples=20)
@given(st.lists(st.sampled_from([name for name, each in FAILURES.items() if each is Failure.PASSES]), max_size=4))
def test_what_passes_is_tried_again_until_it_succeeds(names: list[str]) -> None:
    tries = Tries(*names)
    assert persist(tries, "trying", 10.0) == "done"
    assert len(tries.timeouts) == len(names) + 1
    assert max(tries.timeouts) <= 10.0


@given(st.sampled_from([name for name, each in FAILURES.items() if each is not Failure.PASSES]))
def test_all_else_is_raised_at_once(name: str) -> None:
    tries = Tries(name)
    with pytest.raises(RAISED[FAILURES[name]]):
        persist(tries, "trying", 10.0)
    assert len(tries.timeouts) == 1


def test_what_does_not_pass_in_time_is_an_operational_error() -> None:
    tries = Tries(*["LEADER_NOT_AVAILABLE"] * 100)
    began = time.monotonic()
    with pytest.raises(OperationalError, match=r"trying: Broker: Leader not available"):
        persist(tries, "trying", 0.1)
    assert time.monotonic() - began < 5
    assert len(tries.timeouts) > 1
    with pytest.raises(ConnectionFailed):
        persist(Tries("UNKNOWN_TOPIC_OR_PART"), "trying", 0.0, (Failure.PASSES, Failure.MISSING))


def test_a_scope_bounds_all_that_is_tried_in_it_together() -> None:
    with within(0.05):
        assert time_left(10.0) <= 0.05
        with within(10.0):
            assert time_left(10.0) <= 0.05, "an inner scope cannot have more"
        with pytest.raises(ConnectionFailed):
            persist(Tries(*["_TRANSPORT"] * 1000), "trying", 10.0)
        second = Tries(*["_TRANSPORT"] * 1000)
        with pytest.raises(ConnectionFailed):
            persist(second, "trying", 10.0)
        assert len(second.timeouts) == 1, "no time is left, so one try"
    assert time_left(10.0) == 10.0


def test_a_scope_holds_for_what_is_called_in_a_native_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(native, "is_green", lambda: True)
    with within(5.0):
        assert native.call(time_left, 10.0) <= 5.0
    assert native.call(time_left, 10.0) == 10.0


def test_between_two_tries_something_may_be_done_that_may_fail_for_what_passes() -> None:
    between = Tries("_TRANSPORT")
    assert persist(Tries("_UNKNOWN_BROKER", "_TIMED_OUT"), "trying", 10.0, between=between) == "done"
    assert len(between.timeouts) == 2
    with pytest.raises(Forbidden):
        persist(Tries("_TIMED_OUT"), "trying", 10.0, between=Tries("TOPIC_AUTHORIZATION_FAILED"))


# -- answers that are lists --------------------------------------------------------------------------------------------


class Answers:
    """A consumer whose next answers are given: by partition an offset, or the name of an error."""

    def __init__(self, *answers: dict[int, int | str]) -> None:
        self.answers = list(answers)
        self.metadata = 0

    def _answer(self, wanted: Sequence[TopicPartition], timeout: float) -> list[TopicPartition]:
        found = []
        for each, answer in self.answers.pop(0).items():
            error = KafkaError(CODES[answer]) if isinstance(answer, str) else None
            found.append(Partition(each, answer if error is None else -1, error))
        assert [each.partition for each in wanted] == [each.partition for each in found]
        return found  # type: ignore[return-value]

    offsets_for_times = committed = _answer

    def list_topics(self, topic: str, timeout: float) -> None:
        self.metadata += 1


class Partition:
    """As much of a TopicPartition as an answer has; of the real one nobody but librdkafka can set the error."""

    def __init__(self, partition: int, offset: int, error: KafkaError | None) -> None:
        self.topic, self.partition, self.offset, self.error = "t", partition, offset, error


def wanted(where: int) -> list[TopicPartition]:
    return [TopicPartition("t", number, where) for number in (0, 1)]


@pytest.mark.parametrize("error", ["LEADER_NOT_AVAILABLE", "_UNKNOWN_PARTITION", "UNKNOWN_TOPIC_OR_PART"])
@pytest.mark.parametrize("where", [LATEST, EARLIEST])
def test_an_end_is_known_when_it_is_known_of_each_partition(error: str, where: int) -> None:
    consumer: Any = Answers({0: 5, 1: error}, {0: 5, 1: -1}, {0: 6, 1: 7})
    assert [each.offset for each in look_up(consumer, wanted(where), 10.0)] == [6, 7]
    assert consumer.metadata == 2, "where the leader is, is asked for anew"


def test_that_no_record_is_so_late_is_an_answer() -> None:
    consumer: Any = Answers({0: 5, 1: -1})
    assert [each.offset for each in look_up(consumer, wanted(1_700_000_000_000), 10.0)] == [5, -1]


def test_a_partition_that_nobody_may_read_is_told() -> None:
    consumer: Any = Answers({0: 5, 1: "TOPIC_AUTHORIZATION_FAILED"})
    with pytest.raises(Forbidden):
        look_up(consumer, wanted(LATEST), 10.0)


def test_that_a_coordinator_does_not_answer_does_not_mean_that_nothing_is_committed() -> None:
    consumer: Any = Answers({0: 5, 1: "COORDINATOR_LOAD_IN_PROGRESS"}, {0: 5, 1: -1001})
    assert [each.offset for each in committed(consumer, wanted(0), 10.0)] == [5, -1001]
