"""Arguments of queues, consumers and exchanges: one that asks for something that queues in Kafka cannot do is refused."""

from __future__ import annotations

import difflib
import math
from collections.abc import Callable, Mapping
from typing import Any

from kafka_exec.errors import ConfigurationError


def _no_count(value: object) -> str | None:
    if isinstance(value, int) and not isinstance(value, bool) and value >= 1:
        return None
    return f"must be a whole number greater than 0, not {value!r}"


def no_priority(value: object) -> str | None:
    """The complaint about a wrong priority; None if the priority is right."""
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= 255:
        return None
    return f"must be a whole number from 0 to 255, not {value!r}"


def _no_time(least: float) -> Callable[[object], str | None]:
    def complaint(value: object) -> str | None:
        if isinstance(value, (int, float)) and not isinstance(value, bool) and least <= value < math.inf:
            return None
        return f"must be a number of milliseconds, at least {least}, not {value!r}"

    return complaint


def _no_stream(value: object) -> str | None:
    return "is stream, which reads without taking away: a queue here is no stream" if value == "stream" else None


def _any(value: object) -> str | None:
    return None


#: The arguments that have an effect, each with a function that returns the complaint about a wrong value.
HONOURED: Mapping[str, Callable[[object], str | None]] = {
    "x-partitions": _no_count,
    "x-max-priority": no_priority,
    "x-message-ttl": _no_time(0),
    "x-expires": _no_time(1),
}

#: The arguments that say how RabbitMQ stores a queue. They are accepted and ignored: no user of the queue sees a difference.
HARMLESS: Mapping[str, Callable[[object], str | None]] = {
    "x-queue-type": _no_stream,
    "x-queue-mode": _any,
    "x-queue-version": _any,
    "x-queue-master-locator": _any,
    "x-queue-leader-locator": _any,
    "x-ha-policy": _any,
    "x-ha-nodes": _any,
    "x-initial-cluster-size": _any,
    "x-quorum-initial-group-size": _any,
    "x-quorum-target-group-size": _any,
    "x-max-in-memory-length": _any,
    "x-max-in-memory-bytes": _any,
}

_CUT = "no queue is ever cut: leave it out; x-message-ttl drops what is too old"
_DEAD = "what is rejected goes to PREFIX.dead.QUEUE (celery kafka dead): leave it out"

#: The arguments that are refused, each with the thing to do instead.
REFUSED: Mapping[str, str] = {
    "x-max-length": _CUT,
    "x-max-length-bytes": _CUT,
    "x-overflow": _CUT,
    "x-dead-letter-exchange": _DEAD,
    "x-dead-letter-routing-key": _DEAD,
    "x-dead-letter-strategy": _DEAD,
    "x-delivery-limit": "kafka_exec_max_deliveries says it for all queues: leave it out",
    "x-single-active-consumer": "tasks that must run one at a time are sent with an ordering_key: leave it out",
    "x-consumer-timeout": "a task may run for as long as it wants, task_time_limit ends it: leave it out",
}

#: The arguments of a consumer that are accepted and ignored.
_CONSUMER = ("x-cancel-on-ha-failover",)


def check_arguments(queue: str, arguments: Mapping[str, Any]) -> None:
    """Refuses arguments of a queue that would be ignored, or whose value is wrong. An argument that is None is not set.

    Raises:
        ConfigurationError: an argument is refused; the message names the queue, the argument, and the remedy.
    """
    for name, value in arguments.items():
        if value is None:
            continue
        if name in REFUSED:
            raise ConfigurationError(f"queue {queue!r}: the argument {name} is not supported: {REFUSED[name]}")
        complaint = HONOURED.get(name) or HARMLESS.get(name)
        if complaint is None:
            raise ConfigurationError(f"queue {queue!r}: unknown argument {name!r}{_hint(name)}")
        if found := complaint(value):
            raise ConfigurationError(f"queue {queue!r}: the argument {name} {found}")


def check_consumer(queue: str, arguments: Mapping[str, Any]) -> None:
    """Refuses arguments of a consumer that would be ignored.

    Raises:
        ConfigurationError: an argument is refused; the message names the queue and the argument.
    """
    for name, value in arguments.items():
        if value is not None and name not in _CONSUMER:
            raise ConfigurationError(
                f"queue {queue!r}: the argument {name!r} of a consumer is not supported: leave it out"
            )


def check_exchange(exchange: str, arguments: Mapping[str, Any]) -> None:
    """Refuses all arguments of an exchange, since they would be ignored.

    Raises:
        ConfigurationError: an argument is set; the message names the exchange and the argument.
    """
    for name, value in arguments.items():
        if value is not None:
            raise ConfigurationError(f"exchange {exchange!r}: the argument {name!r} is not supported: leave it out")


def _hint(name: str) -> str:
    near = difflib.get_close_matches(str(name), [*HONOURED, *HARMLESS, *REFUSED], n=1)
    return f", did you mean {near[0]}?" if near else f"; known are {', '.join(HONOURED)}"
