"""Publishing: what is confirmed and when, what is refused, and what a record looks like to other Kafka tools."""

from __future__ import annotations

import json
import socket
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from celery import Celery, group
from confluent_kafka import Consumer, KafkaException, TopicPartition
from kombu import Connection, Exchange, Producer, Queue
from kombu.exceptions import ChannelError, OperationalError

from kafka_exec.broker import EmbeddedKafka
from kafka_exec.core.cluster.failures import Failure
from kafka_exec.errors import InvalidName, MessageTooLarge, NoSuchQueue
from kafka_exec.kafka.client.failures import failure
from kafka_exec.kafka.publish.scopes import Confirmation
from tests.integration.app import make_app
from tests.integration.workers import until


@pytest.fixture
def connection(broker_url: str) -> Iterator[Connection]:
    with Connection(broker_url) as made:
        yield made


@pytest.fixture
def app(broker_url: str) -> Iterator[Celery]:
    """An app whose queue and exchange are declared, so that a test sees its own messages' confirmations only."""
    made = make_app(broker_url)
    made.tasks["work"].delay()
    yield made
    made.close()


@pytest.fixture
def raw(kafka: EmbeddedKafka) -> Iterator[Consumer]:
    """A Kafka consumer that knows nothing of this project."""
    consumer = Consumer({**kafka.client_config(), "group.id": "raw", "enable.auto.commit": False})
    yield consumer
    consumer.close()


@pytest.fixture
def waits(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The number of messages at each confirmation.

    A confirmation may end without a wait: another thread of this process that publishes has all reports delivered.
    """
    found: list[int] = []
    confirm = Confirmation.confirm

    def counted(self: Confirmation, timeout: float | None = None) -> None:
        if self.sent:
            found.append(self.sent)
        confirm(self, timeout)

    monkeypatch.setattr(Confirmation, "confirm", counted)
    return found


def count(raw: Consumer, topic: str) -> int:
    """The records of a topic, as the broker says."""
    partitions = raw.list_topics(topic, 10).topics[topic].partitions

    def marks() -> list[tuple[int, int]]:
        try:
            return [raw.get_watermark_offsets(TopicPartition(topic, number), 10) for number in partitions]
        except KafkaException as error:
            if failure(error) not in (
                Failure.PASSES,
                Failure.MISSING,
            ):  # a topic that is new: its leader does not know yet
                raise
            return []

    return sum(high - low for low, high in until(marks))


def read(raw: Consumer, topic: str, number: int = 1) -> list[Any]:
    partitions = raw.list_topics(topic, 10).topics[topic].partitions
    raw.assign([TopicPartition(topic, each, 0) for each in partitions])
    found: list[Any] = []
    while len(found) < number:
        record = raw.poll(10)
        assert record is not None
        assert record.error() is None
        found.append(record)
    return found


def test_a_record_is_readable_with_any_kafka_tool(connection: Connection, raw: Consumer, prefix: str) -> None:
    body = bytes(range(256))
    with connection.SimpleQueue("plain") as queue:
        queue.put(
            body, headers={"id": "task-7", "x": [1, "ü"]}, priority=3, content_type="application/x", correlation_id="c"
        )
    record = read(raw, f"{prefix}.queue.plain")[0]
    headers = dict(record.headers())
    assert record.value() == body
    assert record.key() == b"task-7"
    assert headers["content-type"] == b"application/x"
    assert headers["content-encoding"] == b"binary"
    assert headers["exchange"] == headers["routing-key"] == b"plain"
    assert headers["kafka-exec-version"] == b"1"
    assert json.loads(headers["headers"])["x"] == [1, "ü"]
    properties = json.loads(headers["properties"])
    assert (properties["priority"], properties["correlation_id"]) == (3, "c")


def test_a_celery_task_is_a_protocol_2_message(app: Celery, raw: Consumer, prefix: str) -> None:
    app.tasks["add"].apply_async((1, 2), task_id="sum", queue="sums")
    record = read(raw, f"{prefix}.queue.sums")[0]
    assert json.loads(record.value())[:2] == [[1, 2], {}]
    assert record.key() == b"sum"
    assert json.loads(dict(record.headers())["headers"])["task"] == "add"


def test_delay_returns_after_the_acknowledgement(app: Celery, raw: Consumer, waits: list[int], prefix: str) -> None:
    before = count(raw, f"{prefix}.queue.celery")
    app.tasks["work"].delay()
    assert count(raw, f"{prefix}.queue.celery") == before + 1
    assert waits == [1]


def publish_held_open(app: Celery) -> None:
    with app.producer_or_acquire() as producer:
        for _ in range(50):
            app.tasks["work"].apply_async(producer=producer)


def publish_group(app: Celery) -> None:
    group(app.tasks["work"].si() for _ in range(50)).apply_async()


def publish_chunks(app: Celery) -> None:
    app.tasks["add"].chunks([(n, n) for n in range(50)], 1).apply_async()


@pytest.mark.parametrize("publish", [publish_held_open, publish_group, publish_chunks])
def test_several_are_confirmed_once_at_the_end(
    app: Celery, raw: Consumer, waits: list[int], prefix: str, publish: Callable[[Celery], None]
) -> None:
    before = count(raw, f"{prefix}.queue.celery")
    publish(app)
    assert count(raw, f"{prefix}.queue.celery") == before + 50
    assert waits == [50]


def test_what_was_sent_before_an_error_stays_sent(app: Celery, raw: Consumer, prefix: str) -> None:
    before = count(raw, f"{prefix}.queue.celery")

    def publish_and_fail() -> None:
        with app.producer_or_acquire() as producer:
            app.tasks["work"].apply_async(producer=producer)
            raise KeyError("the caller's own")

    with pytest.raises(KeyError, match="the caller's own"):
        publish_and_fail()
    app.tasks["work"].delay()  # same producer, same partition order: confirmed after the one above
    assert count(raw, f"{prefix}.queue.celery") == before + 2


def test_a_batch_is_confirmed_once_per_flush(
    connection: Connection, raw: Consumer, waits: list[int], prefix: str
) -> None:
    queue = Queue("batched", Exchange("batched"), routing_key="batched")
    producer = Producer(connection)
    queue(connection.default_channel).declare()
    waits.clear()
    assert producer.supports_batch_publish
    with producer.batch(max_size=10):
        for number in range(25):
            producer.publish({"n": number}, exchange=queue.exchange, routing_key="batched")
    assert waits == [10, 10, 5]
    assert count(raw, f"{prefix}.queue.batched") == 25


def test_a_batch_that_fails_sends_no_more(connection: Connection, raw: Consumer, prefix: str) -> None:
    Queue("batched", durable=True)(connection.default_channel).declare()
    producer = Producer(connection)

    def publish_and_fail() -> None:
        with producer.batch(max_size=10):
            for number in range(15):
                producer.publish({"n": number}, routing_key="batched")
            raise KeyError("the caller's own")

    with pytest.raises(KeyError):
        publish_and_fail()
    assert count(raw, f"{prefix}.queue.batched") == 10


def test_an_oversized_message_is_refused_and_harms_no_other(app: Celery, raw: Consumer, prefix: str) -> None:
    before = count(raw, f"{prefix}.queue.celery")
    with pytest.raises(MessageTooLarge) as caught:
        app.tasks["add"].delay("x" * 2_000_000, 1)
    assert isinstance(caught.value, ChannelError)
    app.tasks["work"].delay()
    assert count(raw, f"{prefix}.queue.celery") == before + 1


def test_one_oversized_message_of_several_is_told(app: Celery, raw: Consumer, prefix: str) -> None:
    def publish() -> None:
        with app.producer_or_acquire() as producer:
            app.tasks["work"].apply_async(producer=producer)
            app.tasks["add"].apply_async(("x" * 2_000_000, 1), producer=producer)

    with pytest.raises((MessageTooLarge, OperationalError)):
        publish()


def test_a_mandatory_message_without_a_queue_is_refused(connection: Connection) -> None:
    with pytest.raises(NoSuchQueue, match="nobody"):
        Producer(connection).publish({}, routing_key="nobody", mandatory=True)


@pytest.mark.parametrize(
    "name", ["celery@host.celery.pidbox", "früh:spät/ä b", "a_x2fb", "tasks.p1", "_x5f", "..", "%d{}"]
)
def test_any_name_makes_a_queue(connection: Connection, name: str) -> None:
    with connection.SimpleQueue(name) as queue:
        queue.put({"name": name})
        message = queue.get(timeout=20)
        assert message.payload == {"name": name}
        message.ack()


@pytest.mark.parametrize(("one", "other"), [("a/b", "a_x2fb"), ("tasks.p1", "tasks_x2ep1"), ("A", "a")])
def test_names_that_are_alike_are_two_queues(connection: Connection, one: str, other: str) -> None:
    channel = connection.default_channel
    for name in (one, other):
        Queue(name, durable=True)(channel).declare()
    Producer(channel).publish({}, routing_key=one)
    assert channel.queue_declare(one, passive=True).message_count == 1
    assert channel.queue_declare(other, passive=True).message_count == 0


def test_names_that_kafka_cannot_tell_apart_are_refused(connection: Connection) -> None:
    """Kafka's metrics know no dots: of two topics that differ in a dot and an underscore it makes only one."""
    Queue("x.y", durable=True)(connection.default_channel).declare()
    with pytest.raises(ChannelError, match="collides"):
        Queue("x_y", durable=True)(connection.default_channel).declare()


def test_a_name_that_is_too_long_is_refused(connection: Connection) -> None:
    with pytest.raises(InvalidName, match="249"):
        Queue("n" * 250, durable=True)(connection.default_channel).declare()


def test_failover_to_the_url_that_answers(broker_url: str, raw: Consumer, prefix: str) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        app = make_app(
            f"kafka-exec://127.0.0.1:{unused.getsockname()[1]}/{prefix};{broker_url}", broker_connection_timeout=1
        )
        app.tasks["work"].delay()
        app.close()
    assert count(raw, f"{prefix}.queue.celery") == 1


def test_a_broker_that_is_away_is_an_operational_error(prefix: str) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        url = f"kafka-exec://127.0.0.1:{unused.getsockname()[1]}/{prefix}"
        app = make_app(url, broker_connection_timeout=1)
        with pytest.raises(OperationalError, match=r"127\.0\.0\.1"):
            app.tasks["work"].apply_async(retry=False)
        app.close()
