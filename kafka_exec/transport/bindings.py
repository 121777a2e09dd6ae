"""The exchanges and bindings that exist, and what is paused: all processes share that through a compacted topic."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from kafka_exec.core.cluster.names import Topics
from kafka_exec.core.cluster.topology import bindings_topic
from kafka_exec.core.message.routing import EXCHANGE_TYPES, Binding, bound_queues
from kafka_exec.core.queue.pausing import NO_PAUSES, Pause, QueuePauses, pauses_in, row_names
from kafka_exec.core.record.fields import MOST_PARTITIONS, an_object, from_json, number, texts, whole
from kafka_exec.kafka.cluster.cluster import Cluster
from kafka_exec.kafka.log.table import Table

#: Exchanges that exist without a declaration, as in AMQP.
_BUILT_IN = {"": "direct", "amq.direct": "direct", "amq.fanout": "fanout", "amq.topic": "topic"}


class Bindings:
    """The declarations of all processes. This process writes its own once, and reads those of others when it needs them."""

    def __init__(self, cluster: Cluster, topics: Topics) -> None:
        self._table = Table(cluster, bindings_topic(topics))
        self._types: dict[str, str] = dict(_BUILT_IN)
        self._written: dict[str, Any] = {}
        self._routes: dict[tuple[str, str], list[str]] = {}
        self._routes_version = -1
        self._pauses: tuple[int, dict[str, QueuePauses]] = (-1, {})

    def load(self) -> None:
        """Reads all declarations of other processes, and follows them from now on.

        Raises:
            ConnectionFailed: they could not be read to their end.
        """
        self._table.load()

    def declare_exchange(self, name: str, exchange_type: str, *, durable: bool) -> None:
        """Notes an exchange's type: for this process, and for all processes if the exchange is durable."""
        self._types[name] = exchange_type
        if durable:
            self._write(["exchange", name], {"type": exchange_type})

    def delete_exchange(self, name: str) -> None:
        """Removes an exchange and its bindings."""
        self._types.pop(name, None)
        self._erase(["exchange", name])
        for binding in self.all():
            if binding.exchange == name:
                self.unbind(binding)

    def type_of(self, exchange: str) -> str:
        """The type of an exchange; ``direct`` if no process has declared it."""
        found = self._types.get(exchange)
        if found is None:
            row = self._table.rows().get(_key(["exchange", exchange]))
            found = row.get("type") if isinstance(row, dict) else None
            if found not in EXCHANGE_TYPES:
                return "direct"
            self._types[exchange] = found
        return found

    def bind(self, binding: Binding) -> None:
        """Binds a work queue, for all processes, durably."""
        self._write(["binding", *binding], {})

    def unbind(self, binding: Binding) -> None:
        """Removes a work queue's binding, for all processes."""
        self._erase(["binding", *binding])

    def use_queue(self, name: str, expires: float, now: float) -> None:
        """Notes for all processes that a queue that expires is in use; ``expires`` and ``now`` are seconds."""
        self._table.note(_key(["expiring", name]), {"expires": expires, "used": now})

    def expired_queues(self, now: float) -> list[str]:
        """The queues that no process has used for as long as they last without use; ``now``: epoch seconds."""
        return [
            name
            for name, row in self._of("expiring", 1)
            if isinstance(row, dict) and now - _seconds(row, "used", now) > _seconds(row, "expires", now)
        ]

    def keys_over(self, queue: str) -> int | None:
        """The number of partitions over which a work queue's ordering keys are spread; None: it was sent no key yet."""
        self._table.load()
        row = self._table.get(_key(["keys", queue]))
        try:
            return None if row is None else whole(an_object(row).get("over"), least=1, most=MOST_PARTITIONS)
        except ValueError:
            return None

    def keep_keys_over(self, queue: str, partitions: int) -> None:
        """Notes for all processes the number of partitions over which a work queue's ordering keys are spread."""
        self._table.put(_key(["keys", queue]), {"over": partitions})

    def pause(self, queue: str, key: str | None, pause: Pause) -> None:
        """Pauses a work queue, or one ordering key of it, for all processes, durably."""
        self._table.put(_key(row_names(queue, key)), pause._asdict())

    def resume(self, queue: str, key: str | None) -> None:
        """Removes a pause for all processes, durably."""
        self._table.delete(_key(row_names(queue, key)))

    def pauses(self, queue: str) -> QueuePauses:
        """The pauses of a work queue, also those that are over, as far as the table is read."""
        version = self._table.version
        if self._pauses[0] != version:
            self._pauses = (version, pauses_in(self._table.rows().items()))
        return self._pauses[1].get(queue, NO_PAUSES)

    def delete_queue(self, name: str) -> None:
        """Removes all rows of a work queue."""
        self._erase(["expiring", name])
        self._erase(["keys", name])
        for key in (None, *self.pauses(name).keys):
            self._erase(row_names(name, key))
        for binding in self.all():
            if binding.queue == name:
                self.unbind(binding)

    def all(self) -> list[Binding]:
        """All bindings of work queues."""
        return [Binding(*names) for *names, _ in self._of("binding", 3)]

    def _of(self, kind: str, number: int) -> Iterator[list[Any]]:
        """The rows of one kind: ``number`` names each, then the row's value."""
        for key, row in self._table.rows().items():
            try:
                first, *names = texts(from_json(key))
            except ValueError:
                continue  # a row that another program has written
            if first == kind and len(names) == number:
                yield [*names, row]

    def queues(self, exchange: str, routing_key: str) -> list[str]:
        """The work queues that a message of this exchange with this routing key goes to."""
        version = self._table.version
        if version != self._routes_version or len(self._routes) > 10_000:
            self._routes, self._routes_version = {}, version
        found = self._routes.get((exchange, routing_key))
        if found is None:
            found = bound_queues(self.all(), exchange, self.type_of(exchange), routing_key)
            if self._table.version == version:
                self._routes[exchange, routing_key] = found
        return found

    def _write(self, key: list[str], value: Any) -> None:
        text = _key(key)
        if self._written.get(text) != value:
            self._table.put(text, value)
            self._written[text] = value

    def _erase(self, key: list[str]) -> None:
        text = _key(key)
        self._written.pop(text, None)
        self._table.delete(text)


def _seconds(row: dict[str, Any], name: str, default: float) -> float:
    try:
        return number(row.get(name))
    except ValueError:
        return default


def _key(parts: list[str]) -> str:
    return json.dumps(parts)
