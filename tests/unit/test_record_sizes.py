"""A record that is too large is refused before the client library raises: that would keep what is being handled for ever."""

from __future__ import annotations

import gc
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
from confluent_kafka import KafkaError, KafkaException

from kafka_exec.core.cluster.settings import Settings
from kafka_exec.errors import MessageTooLarge
from kafka_exec.kafka.client.clients import Clients
from kafka_exec.kafka.publish.publisher import Publisher

MOST = 2000


class Handled(Exception):
    """Is being handled while something is published."""


def of_size(most: int) -> Clients:
    """Of a cluster that does not answer: nothing is sent."""
    return Clients({"bootstrap.servers": "127.0.0.1:1", "message.max.bytes": most, "log_level": 0}, Settings())


def handle(publish: Callable[[], None]) -> None:
    try:
        raise Handled
    except Handled:
        publish()


def test_what_is_handled_meanwhile_is_let_go() -> None:
    publisher = Publisher(of_size(MOST))
    for _ in range(20):
        with pytest.raises(MessageTooLarge):
            handle(lambda: publisher.send("topic", b"v" * (MOST + 1)))
    gc.collect()
    assert [each for each in gc.get_objects() if type(each) is Handled] == []


@pytest.mark.parametrize("most", [MOST, 1_000_000])
@pytest.mark.parametrize("key", [None, b"k", "\xe9"])
@pytest.mark.parametrize("headers", [[], [("name", b"content"), ("none", None)]])
def test_it_refuses_what_the_client_refuses(most: int, key: str | bytes | None, headers: list[Any]) -> None:
    clients = of_size(most)
    producer = clients.new_producer({})
    unsure = 0
    for length in range(most - 100, most + 2):
        tried = [
            code_of(partial(clients.check_size, b"v" * length, key, headers)),
            code_of(partial(producer.produce, "topic", b"v" * length, key, headers=headers)),
        ]
        assert tried[0] in (None, KafkaError.MSG_SIZE_TOO_LARGE)
        unsure += tried == [None, KafkaError.MSG_SIZE_TOO_LARGE]
        assert tried != [KafkaError.MSG_SIZE_TOO_LARGE, None], length
        producer.purge()
        producer.poll(0)
    # The lengths of names and contents take a byte or two each.
    assert unsure == 2 * len(headers)
    assert tried == [KafkaError.MSG_SIZE_TOO_LARGE] * 2


def code_of(publish: Callable[[], None]) -> int | None:
    try:
        publish()
    except KafkaException as error:
        return int(error.args[0].code())
    return None
