"""Routing: the queues that get a message (AMQP 0-9-1, section 3.1.3), and the partitions that a subscriber must read."""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import lru_cache
from typing import NamedTuple

#: The types of exchanges.
EXCHANGE_TYPES = ("direct", "topic", "fanout")


class Binding(NamedTuple):
    """A binding: the queue gets the exchange's messages whose routing keys match."""

    queue: str
    exchange: str
    routing_key: str


@lru_cache(maxsize=4096)
def _pattern(binding_key: str) -> re.Pattern[str]:
    special = {"*": r"\.[^.]*", "#": r"(?:\..*)?"}  # * is one word; # is any number of words, also none
    words = binding_key.split(".") if binding_key else []
    return re.compile("".join(special.get(word, r"\." + re.escape(word)) for word in words), re.DOTALL)


def _dotted(key: str) -> str:
    """A key with a dot before each word; the empty key has no word."""
    return f".{key}" if key else ""


def matches(exchange_type: str, binding_key: str, routing_key: str) -> bool:
    """True if a binding of an exchange of this type takes a message with this routing key."""
    if exchange_type == "fanout":
        return True
    if exchange_type == "topic":
        return _pattern(binding_key).fullmatch(_dotted(routing_key)) is not None
    return binding_key == routing_key


def bound_queues(bindings: Iterable[Binding], exchange: str, exchange_type: str, routing_key: str) -> list[str]:
    """The queues that get a message, each once, in the order of their names."""
    return sorted(
        {
            binding.queue
            for binding in bindings
            if binding.exchange == exchange and matches(exchange_type, binding.routing_key, routing_key)
        }
    )


def log_key(exchange_type: str, routing_key: str) -> str:
    """The key that decides a message's partition in its exchange's log: the first word of the routing key.

    So a reply reaches only the partition that its client reads, and a listener to ``worker.#`` reads no ``task.*``.
    """
    return "" if exchange_type == "fanout" else routing_key.partition(".")[0]


def log_key_of_binding(exchange_type: str, binding_key: str) -> str | None:
    """The :func:`log_key` of all messages that a binding takes; None if they may have different ones."""
    first = log_key(exchange_type, binding_key)
    return None if exchange_type == "topic" and first in ("*", "#") else first
