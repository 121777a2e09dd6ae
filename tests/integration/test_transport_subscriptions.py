"""Subscriptions and bindings. A second set of settings makes this process two, as far as the transport can tell."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from kombu import Connection, Consumer, Exchange, Producer, Queue
from kombu.exceptions import ChannelError

from kafka_exec.kafka.publish.scopes import captured
from tests.integration.workers import until


@pytest.fixture
def here(broker_url: str) -> Iterator[Connection]:
    with Connection(broker_url) as made:
        yield made


@pytest.fixture
def there(broker_url: str) -> Iterator[Connection]:
    """A connection of another process: it shares no client, table or subscription with the first."""
    with Connection(broker_url, transport_options={"publish_timeout": 14}) as made:
        yield made


class Inbox:
    """The messages that one connection's consumer has received."""

    def __init__(self, connection: Connection, queue: Queue) -> None:
        self.connection = connection
        self.bodies: list[Any] = []
        self.consumer = Consumer(connection.channel(), [queue], callbacks=[self._on_message], no_ack=True)
        self.consumer.consume()

    def _on_message(self, body: Any, message: Any) -> None:
        self.bodies.append(body)

    def wait_for(self, number: int, timeout: float = 20) -> list[Any]:
        """The first bodies."""

        def arrived() -> bool:
            try:
                self.connection.drain_events(timeout=0.1)
            except TimeoutError:
                pass
            return len(self.bodies) >= number

        until(arrived, timeout, f"{number} messages, got {self.bodies}")
        return self.bodies


def transient(name: str, exchange: Exchange, routing_key: str = "") -> Queue:
    return Queue(name, exchange, routing_key=routing_key, durable=False, auto_delete=True)


def test_a_fanout_reaches_every_process(here: Connection, there: Connection) -> None:
    news = Exchange("news", "fanout", durable=False)
    inboxes = [Inbox(here, transient("a", news)), Inbox(there, transient("b", news)), Inbox(here, transient("c", news))]
    for number in range(20):
        Producer(there).publish({"n": number}, exchange=news, declare=[news])
    for inbox in inboxes:
        assert [body["n"] for body in inbox.wait_for(20)] == list(range(20))


def test_two_processes_with_a_queue_of_the_same_name_get_a_copy_each(here: Connection, there: Connection) -> None:
    news = Exchange("news", "fanout", durable=False)
    inboxes = [Inbox(connection, transient("same", news)) for connection in (here, there)]
    Producer(here).publish({"n": 1}, exchange=news)
    assert [inbox.wait_for(1) for inbox in inboxes] == [[{"n": 1}], [{"n": 1}]]


@pytest.mark.parametrize(
    ("binding", "taken"),
    [
        ("task.#", ["task.sent", "task.a.b", "task"]),
        ("task.*", ["task.sent"]),
        ("*.sent", ["task.sent", "mail.sent"]),
        ("#", ["task.sent", "task.a.b", "mail.sent", "task"]),
        ("task.sent", ["task.sent"]),
    ],
)
def test_a_topic_exchange_takes_patterns(here: Connection, there: Connection, binding: str, taken: list[str]) -> None:
    events = Exchange("events", "topic", durable=False)
    inbox = Inbox(there, transient("inbox", events, binding))
    end = Inbox(there, transient("end", Exchange("end", "fanout", durable=False)))
    for key in ("task.sent", "task.a.b", "mail.sent", "task"):
        Producer(here).publish({"key": key}, exchange=events, routing_key=key, declare=[events])
    inbox.wait_for(len(taken))
    Producer(here).publish({}, exchange="end")
    end.wait_for(1)
    assert sorted(body["key"] for body in inbox.bodies) == sorted(taken)


def test_a_direct_exchange_is_a_reply_queues_address(here: Connection, there: Connection) -> None:
    replies = Exchange("replies", "direct", durable=False)
    mine = Queue("reply-1", replies, routing_key="client-1", exclusive=True, auto_delete=True, durable=False)
    inbox = Inbox(here, mine)
    producer = Producer(there)
    for key in ("client-2", "client-1", "client-3"):
        producer.publish({"to": key}, exchange=replies, routing_key=key)
    assert inbox.wait_for(1) == [{"to": "client-1"}]


def test_a_queue_is_reached_by_its_name_too(here: Connection, there: Connection) -> None:
    inbox = Inbox(here, Queue("amq.reply-7", exclusive=True, durable=False))
    Producer(there).publish({"n": 1}, exchange="", routing_key="amq.reply-7")
    assert inbox.wait_for(1) == [{"n": 1}]


def test_nothing_from_before_the_declaration_arrives(here: Connection, there: Connection) -> None:
    news = Exchange("news", "fanout", durable=False)
    early = Inbox(here, transient("early", news))
    Producer(there).publish({"n": 1}, exchange=news)
    early.wait_for(1)
    late = Inbox(there, transient("late", news))
    Producer(here).publish({"n": 2}, exchange=news)
    assert late.wait_for(1) == [{"n": 2}]


def test_what_arrives_between_declaration_and_consumer_is_kept(here: Connection, there: Connection) -> None:
    news = Exchange("news", "fanout", durable=False)
    queue = transient("kept", news)
    queue(here.default_channel).declare()
    Producer(there).publish({"n": 1}, exchange=news)
    assert Inbox(here, queue).wait_for(1) == [{"n": 1}]


def test_an_unbound_queue_gets_no_more(here: Connection, there: Connection) -> None:
    events = Exchange("events", "topic", durable=False)
    queue = transient("inbox", events, "a")
    inbox = Inbox(here, queue)
    queue(here.default_channel).bind_to(events, "b")
    queue(here.default_channel).unbind_from(events, "a")
    for key in ("a", "b"):
        Producer(there).publish({"key": key}, exchange=events, routing_key=key)
    assert inbox.wait_for(1) == [{"key": "b"}]


def test_an_auto_delete_queue_goes_with_its_last_consumer(here: Connection) -> None:
    inbox = Inbox(here, transient("gone", Exchange("news", "fanout", durable=False)))
    assert here.default_channel.queue_declare("gone", passive=True).consumer_count == 1
    inbox.consumer.cancel()
    with pytest.raises(ChannelError, match="gone"):
        here.default_channel.queue_declare("gone", passive=True)


def test_an_exclusive_queue_goes_with_its_channel(here: Connection) -> None:
    channel = here.channel()
    Queue("mine", exclusive=True, durable=False)(channel).declare()
    assert here.default_channel.queue_declare("mine", passive=True).message_count == 0
    channel.close()
    with pytest.raises(ChannelError, match="mine"):
        here.default_channel.queue_declare("mine", passive=True)


def test_a_queue_that_nobody_uses_expires(here: Connection) -> None:
    channel = here.default_channel
    Queue("short", durable=False, auto_delete=True, expires=0.2)(channel).declare()

    def is_gone() -> bool:
        try:
            channel.queue_declare("short", passive=True)
        except ChannelError:
            return True
        return False

    until(is_gone, 20, "the queue to expire")


def test_a_message_that_waits_too_long_is_dropped(here: Connection) -> None:
    channel = here.default_channel
    queue = Queue("brief", durable=False, auto_delete=True, message_ttl=0.3)(channel)
    queue.declare()
    Producer(channel).publish({"n": 1}, routing_key="brief")
    until(lambda: channel.queue_declare("brief", passive=True).message_count == 1, 20)
    until(lambda: queue.get(no_ack=True) is None, 20)


def work_queue(name: str, exchange: Exchange, routing_key: str) -> Queue:
    return Queue(name, exchange, routing_key=routing_key)


def count(connection: Connection, queue: str) -> int:
    return int(connection.default_channel.queue_declare(queue, passive=True).message_count)


def test_bindings_of_work_queues_hold_for_all_processes(here: Connection, there: Connection) -> None:
    orders = Exchange("orders", "topic")
    for name, key in (("eu", "eu.#"), ("all", "#")):
        work_queue(name, orders, key)(here.default_channel).declare()
    producer = Producer(there)
    for key in ("eu.1", "us.1", "eu.2"):
        producer.publish({}, exchange="orders", routing_key=key)
    assert (count(here, "eu"), count(here, "all")) == (2, 3)

    work_queue("us", orders, "us.#")(here.default_channel).declare()  # while the other process already publishes

    def reached() -> bool:
        producer.publish({}, exchange="orders", routing_key="us.2")
        return count(here, "us") > 0

    until(reached, 20, "the new binding to reach the other process")


def test_what_is_bound_where_messages_are_made_for_a_transaction_is_in_none(
    here: Connection, there: Connection
) -> None:
    exchange = Exchange("captured", "topic")
    with captured() as records:
        work_queue("bound-meanwhile", exchange, "a.*")(here.default_channel).declare()
    assert records == []
    Producer(there, exchange, "a.b").publish("x")
    until(lambda: count(there, "bound-meanwhile") == 1)


def test_a_work_queue_and_a_subscription_of_one_exchange(here: Connection, there: Connection) -> None:
    news = Exchange("news", "fanout")
    work_queue("durable", news, "")(here.default_channel).declare()
    inbox = Inbox(there, transient("ear", news))
    Producer(here).publish({"n": 1}, exchange="news")
    assert inbox.wait_for(1) == [{"n": 1}]
    assert count(there, "durable") == 1


@pytest.mark.parametrize("undo", ["unbind", "delete_queue", "delete_exchange"])
def test_a_binding_ends(here: Connection, there: Connection, undo: str) -> None:
    orders = Exchange("orders", "direct")
    first, second = (work_queue(name, orders, "k")(here.default_channel) for name in ("first", "second"))
    first.declare()
    second.declare()
    producer = Producer(there)
    producer.publish({}, exchange="orders", routing_key="k")
    assert count(here, "second") == 1
    steps: dict[str, Callable[[], Any]] = {
        "unbind": lambda: first.unbind_from(orders, "k"),
        "delete_queue": first.delete,
        "delete_exchange": orders(here.default_channel).delete,
    }
    steps[undo]()

    ended = {"first", "second"} if undo == "delete_exchange" else {"first"}

    def is_seen() -> bool:
        return not ended & {row["destination"] for row in there.get_manager().get_bindings()}

    until(is_seen, 20, "the other process to see it")
    producer.publish({}, exchange="orders", routing_key="k")
    assert count(here, "second") == (1 if undo == "delete_exchange" else 2)
    if undo == "unbind":
        assert count(here, "first") == 1


def test_an_exchange_of_another_type_is_refused(here: Connection) -> None:
    with pytest.raises(ChannelError, match="headers"):
        Exchange("h", "headers")(here.default_channel).declare()
