"""Work queues: counting, emptying, deleting, prefetch, ends in any order, redelivery, expiry, priorities, dead letters."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from confluent_kafka import Producer as RawProducer
from confluent_kafka import TopicPartition
from confluent_kafka.admin import NewTopic
from kombu import Connection, Consumer, Producer, Queue
from kombu.exceptions import ChannelError
from kombu.message import Message

from kafka_exec.broker import EmbeddedKafka
from kafka_exec.errors import NoSuchQueue, TopicMismatch
from kafka_exec.kafka.cluster.topics import TopicKeeper
from tests.integration.workers import until

Connect = Callable[..., Connection]


@pytest.fixture
def connect(broker_url: str) -> Iterator[Connect]:
    """Opens connections; all are closed at the end."""
    opened: list[Connection] = []

    def connect(**options: Any) -> Connection:
        opened.append(Connection(broker_url, transport_options=options))
        return opened[-1]

    yield connect
    for connection in opened:
        connection.release()


class Hand:
    """A consumer that keeps its messages until told."""

    def __init__(self, connection: Connection, *queues: Queue, prefetch: int = 0) -> None:
        self.connection = connection
        self.channel = connection.channel()
        self.messages: list[Message] = []
        self.consumer = Consumer(self.channel, list(queues), on_message=self.messages.append)
        self.consumer.qos(prefetch_count=prefetch)
        self.consumer.consume()

    def drain(self, timeout: float = 0.05) -> None:
        try:
            self.connection.drain_events(timeout=timeout)
        except TimeoutError:
            pass

    def wait_for(self, number: int, timeout: float = 20) -> list[Message]:
        """Waits until so many have come."""

        def arrived() -> bool:
            if len(self.messages) < number:
                self.drain()
            return len(self.messages) >= number

        until(arrived, timeout, f"{number} messages")
        return self.messages

    def gets_no_more(self) -> bool:
        """True if ten more drains bring no message: each asks the broker, and reaches the queue's end."""
        before = len(self.messages)
        for _ in range(10):
            self.drain()
        return len(self.messages) == before

    @property
    def numbers(self) -> list[int]:
        return [message.payload["n"] for message in self.messages]


def publish(connection: Connection, queue: Queue, number: int = 1, **options: Any) -> None:
    """Publishes {"n": 0}, {"n": 1}, … in one order: they share a partition."""
    producer = Producer(connection.default_channel)
    queue(connection.default_channel).declare()
    with producer.batch():
        for each in range(number):
            producer.publish({"n": each}, routing_key=queue.name, **options)


def count(connection: Connection, name: str) -> int:
    return int(connection.default_channel.queue_declare(name, passive=True).message_count)


TASKS = Queue("tasks")


def test_counting_purging_and_deleting(connect: Connect) -> None:
    connection = connect()
    channel = connection.default_channel
    publish(connection, TASKS, 12)
    assert channel.queue_declare("tasks", passive=True)[:2] == ("tasks", 12)
    assert channel.queue_purge("tasks") == 12
    assert count(connection, "tasks") == 0
    publish(connection, TASKS, 3)
    assert Hand(connection, TASKS).wait_for(3)[0].payload == {"n": 0}

    TASKS(channel).delete()
    with pytest.raises(NoSuchQueue, match="tasks"):
        channel.queue_declare("tasks", passive=True)
    publish(connection, TASKS, 2)
    assert count(connection, "tasks") == 2


def test_a_queue_nobody_declared(connect: Connect) -> None:
    channel = connect().default_channel
    with pytest.raises(ChannelError, match="never"):
        channel.queue_declare("never", passive=True)
    with pytest.raises(NoSuchQueue, match="never"):
        channel.basic_consume("never", callback=print)
    with pytest.raises(NoSuchQueue, match="never"):
        channel.basic_get("never")
    with pytest.raises(NoSuchQueue, match="never"):
        channel.queue_purge("never")


def test_a_queue_in_use_is_not_deleted_on_condition(connect: Connect) -> None:
    connection = connect()
    publish(connection, TASKS, 1)
    with pytest.raises(ChannelError, match="1 messages"):
        TASKS(connection.default_channel).delete(if_empty=True)
    hand = Hand(connect(), TASKS)
    hand.wait_for(1)[0].ack()
    with pytest.raises(ChannelError, match="1 consumers"):
        TASKS(connection.default_channel).delete(if_unused=True)


def test_the_number_of_partitions_is_the_queues_own(connect: Connect, kafka: EmbeddedKafka, prefix: str) -> None:
    channel = connect().default_channel
    Queue("three", queue_arguments={"x-partitions": 3})(channel).declare()
    assert len(kafka.admin().list_topics(f"{prefix}.queue.three").topics[f"{prefix}.queue.three"].partitions) == 3
    other = connect(publish_timeout=14).default_channel  # as another process
    with pytest.raises(TopicMismatch, match="x-partitions to 3"):
        Queue("three", queue_arguments={"x-partitions": 4})(other).declare()
    Queue("three")(other).declare()  # who asks for no number takes what is there


def test_a_topic_made_by_hand_with_another_number_is_reported(
    connect: Connect, kafka: EmbeddedKafka, prefix: str
) -> None:
    admin = kafka.admin()
    admin.create_topics([NewTopic(f"{prefix}.queue.mine", 5, 1)])[f"{prefix}.queue.mine"].result(10)
    with pytest.raises(TopicMismatch, match="5 partitions, 2 are declared"):
        Queue("mine", queue_arguments={"x-partitions": 2})(connect().default_channel).declare()


def test_a_topic_that_another_process_makes_at_the_same_time_is_compared_too(
    connect: Connect, kafka: EmbeddedKafka, prefix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    channel, admin = connect().default_channel, kafka.admin()
    admin.create_topics([NewTopic(f"{prefix}.queue.mine", 5, 1)])[f"{prefix}.queue.mine"].result(10)
    monkeypatch.setattr(
        TopicKeeper, "partitions", lambda self, topic, fresh=False: None
    )  # it was not there a moment ago
    with pytest.raises(TopicMismatch, match="5 partitions, 2 are declared"):
        Queue("mine", queue_arguments={"x-partitions": 2})(channel).declare()


def test_prefetch_is_honoured_and_can_change(connect: Connect) -> None:
    connection = connect()
    publish(connection, TASKS, 10)
    hand = Hand(connection, TASKS, prefetch=2)
    hand.wait_for(2)
    assert hand.gets_no_more()
    hand.messages[0].ack()
    hand.wait_for(3)
    assert hand.gets_no_more()
    hand.consumer.qos(prefetch_count=5)
    hand.wait_for(6)
    assert hand.gets_no_more()
    hand.consumer.qos(prefetch_count=0)
    hand.wait_for(10)
    assert hand.numbers == list(range(10))
    # What had to wait was neither delivered before nor sent anew.
    places = [(message.delivery_info["offset"], message.delivery_info["redelivered"]) for message in hand.messages]
    assert places == [(offset, False) for offset in range(10)]


def test_ends_in_any_order_survive_the_consumer(connect: Connect) -> None:
    first = connect()
    publish(first, TASKS, 100)
    hand = Hand(first, TASKS)
    hand.wait_for(100)
    kept = {0, 17, 50, 99}
    for message in reversed(hand.messages):
        if message.payload["n"] not in kept:
            message.ack()
    first.release()
    again = Hand(connect(), TASKS)
    assert {message.payload["n"] for message in again.wait_for(4)} == kept
    assert again.gets_no_more()
    assert all(message.delivery_info["redelivered"] for message in again.messages)


def test_multiple_acknowledges_all_up_to_it(connect: Connect) -> None:
    first = connect()
    publish(first, TASKS, 10)
    hand = Hand(first, TASKS)
    hand.wait_for(10)[6].ack(multiple=True)
    first.release()
    again = Hand(connect(), TASKS)
    again.wait_for(3)
    assert again.gets_no_more()
    assert sorted(again.numbers) == [7, 8, 9]


def test_requeued_comes_next_and_says_so(connect: Connect) -> None:
    connection = connect()
    publish(connection, TASKS, 5)
    hand = Hand(connection, TASKS, prefetch=1)
    hand.wait_for(1)[0].requeue()
    hand.wait_for(2)
    assert hand.numbers == [0, 0]
    assert [message.delivery_info["redelivered"] for message in hand.messages] == [False, True]
    hand.messages[1].ack()
    hand.wait_for(3)
    assert hand.numbers == [0, 0, 1]
    assert not hand.messages[2].delivery_info["redelivered"]


def test_recover_delivers_all_that_is_open_again(connect: Connect) -> None:
    connection = connect()
    publish(connection, TASKS, 3)
    hand = Hand(connection, TASKS)
    hand.wait_for(3)[1].ack()
    hand.consumer.recover(requeue=True)
    hand.wait_for(5)
    assert sorted(hand.numbers[3:]) == [0, 2]


def test_two_consumers_share_and_what_one_leaves_the_other_gets(connect: Connect) -> None:
    one, two = connect(), connect()
    queue = Queue("shared")
    hands = [Hand(one, queue), Hand(two, queue)]
    producer = Producer(connect().default_channel)

    def send(number: int) -> set[str]:
        ids = {f"{time.monotonic()}-{each}" for each in range(number)}  # so that they spread over the partitions
        for each in ids:
            producer.publish({}, routing_key="shared", headers={"id": each})
        return ids

    def both_get_some() -> bool:
        send(8)
        for hand in hands:
            hand.drain()
            if hand.messages:
                hand.channel.basic_ack(hand.messages[-1].delivery_tag, multiple=True)
        return all(hand.messages for hand in hands)

    until(both_get_some, 30, "both consumers to have partitions")
    until(lambda: sum(hand.gets_no_more() for hand in hands) == len(hands), 30, "both consumers to have it all")
    for hand in hands:
        hand.channel.basic_ack(hand.messages[-1].delivery_tag, multiple=True)
        hand.messages.clear()

    ids = send(64)
    until(lambda: [hand.drain() for hand in hands] and sum(len(hand.messages) for hand in hands) >= 64, 30)
    got = [{message.headers["id"] for message in hand.messages} for hand in hands]
    assert all(got)
    assert not got[0] & got[1]
    assert got[0] | got[1] == ids
    finished = {message.headers["id"] for message in hands[0].messages[1::2]}
    for message in hands[0].messages[1::2]:
        message.ack()
    one.release()
    until(lambda: hands[1].drain() or len(hands[1].messages) >= 64 - len(finished), 30)
    assert hands[1].gets_no_more()
    assert {message.headers["id"] for message in hands[1].messages} == ids - finished


def test_a_cancelled_consumer_comes_back(connect: Connect) -> None:
    connection = connect()
    publish(connection, TASKS, 2)
    hand = Hand(connection, TASKS, prefetch=1)
    hand.wait_for(1)
    hand.consumer.cancel()
    hand.messages[0].ack()
    assert hand.gets_no_more()
    hand.consumer.consume()
    assert [message.payload["n"] for message in hand.wait_for(2)] == [0, 1]


def test_several_queues_at_once(connect: Connect) -> None:
    connection = connect()
    queues = [Queue("left"), Queue("right")]
    for queue in queues:
        publish(connection, queue, 50)
    hand = Hand(connection, *queues)
    hand.wait_for(100)
    keys = [message.delivery_info["routing_key"] for message in hand.messages]
    assert keys.count("left") == keys.count("right") == 50


def test_a_single_get(connect: Connect) -> None:
    connection = connect()
    publish(connection, TASKS, 2)
    queue = TASKS(connection.default_channel)
    first, second = queue.get(), queue.get(no_ack=True)
    assert (first.payload["n"], second.payload["n"], queue.get()) == (0, 1, None)
    first.ack()
    assert count(connection, "tasks") == 0


def test_an_expired_message_is_dropped(connect: Connect) -> None:
    connection = connect()
    publish(connection, TASKS, 1, expiration=0.001)
    publish(connection, TASKS, 1)
    publish(connection, TASKS, 1, expiration=600)
    hand = Hand(connection, TASKS)
    hand.wait_for(2)
    assert hand.gets_no_more()


def test_a_queues_time_to_live(connect: Connect) -> None:
    connection = connect()
    queue = Queue("brief", message_ttl=0.001)
    publish(connection, queue, 2)
    # A task with an expiry is not dropped: the worker must see it to mark it as revoked.
    publish(connection, queue, 1, headers={"id": "t", "task": "t", "expires": "2020-01-01T00:00:00"})
    hand = Hand(connection, queue)
    assert hand.wait_for(1)[0].headers["id"] == "t"
    hand.messages[0].ack()
    assert hand.gets_no_more()
    until(lambda: count(connection, "brief") == 0, 20)


def test_priorities(connect: Connect) -> None:
    connection = connect()
    queue = Queue("urgent", max_priority=9)
    for priority in (0, 3, 6, 9):
        publish(connection, queue, 30, priority=priority)
    hand = Hand(connection, queue, prefetch=1)
    order = []
    for taken in range(120):
        message = hand.wait_for(taken + 1)[taken]
        order.append(message.properties["priority"])
        message.ack()
    urgent_first = [priority for place, priority in enumerate(order) if place % 10 != 9]
    assert urgent_first == sorted(urgent_first, reverse=True)
    assert order[9::10][:3] == [0, 3, 6]  # one in ten from below, of each step in turn
    assert sorted(order) == sorted([0, 3, 6, 9] * 30)


def dead_letters(kafka: EmbeddedKafka, topic: str, number: int = 1) -> list[Any]:
    from confluent_kafka import Consumer as RawConsumer

    consumer = RawConsumer({**kafka.client_config(), "group.id": "raw", "enable.auto.commit": False})
    partitions = consumer.list_topics(topic, 10).topics[topic].partitions
    consumer.assign([TopicPartition(topic, each, 0) for each in partitions])
    found = []
    while len(found) < number:
        record = consumer.poll(10)
        assert record is not None
        found.append(record)
    consumer.close()
    return found


def test_a_rejected_message_is_a_dead_letter(connect: Connect, kafka: EmbeddedKafka, prefix: str) -> None:
    connection = connect()
    publish(connection, TASKS, 1, headers={"id": "bad", "task": "t"})
    hand = Hand(connection, TASKS)
    message = hand.wait_for(1)[0]
    message.reject()
    letter = dead_letters(kafka, f"{prefix}.dead.tasks")[0]
    headers = dict(letter.headers())
    assert letter.value() == message.body
    assert letter.key() == b"bad"
    assert headers["dead-reason"] == b"rejected"
    assert headers["dead-topic"] == f"{prefix}.queue.tasks".encode()
    assert int(headers["dead-partition"]) == message.delivery_info["partition"]
    assert int(headers["dead-offset"]) == message.delivery_info["offset"]
    assert headers["content-type"] == b"application/json"
    assert count(connection, "tasks") == 0


FOREIGN: dict[str, list[tuple[str, bytes]]] = {
    "no-content-type": [("x", b"y")],
    "unknown-version": [("content-type", b"application/json"), ("kafka-exec-version", b"99")],
    "bad-headers": [("content-type", b"application/json"), ("headers", b"[1,")],
}


@pytest.mark.parametrize("reason", FOREIGN)
def test_a_foreign_record_is_a_dead_letter_and_harms_no_other(
    connect: Connect, kafka: EmbeddedKafka, prefix: str, reason: str
) -> None:
    connection = connect()
    publish(connection, TASKS, 1)
    raw = RawProducer(kafka.client_config())
    raw.produce(f"{prefix}.queue.tasks", b"\xff\x00", headers=FOREIGN[reason])
    raw.flush(10)
    hand = Hand(connection, TASKS)
    hand.wait_for(1)[0].ack()
    until(lambda: hand.drain() or count(connection, "tasks") == 0, 20)
    letter = dead_letters(kafka, f"{prefix}.dead.tasks")[0]
    assert letter.value() == b"\xff\x00"
    assert dict(letter.headers())["dead-reason"].decode() == reason
    assert len(hand.messages) == 1
