"""Administrative requests, made again while they fail for what passes."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from confluent_kafka import KafkaError, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient, OffsetSpec

from kafka_exec.kafka.client import native
from kafka_exec.kafka.client.clients import Clients
from kafka_exec.kafka.client.failures import failure, persist, reason_of, time_left, translate
from kafka_exec.kafka.client.loop import run_once
from kafka_exec.kafka.client.offsets import LOOKING, committed

#: How long one operation may take, seconds, whatever passes meanwhile.
TIMEOUT = 10.0

#: How long leaders are looked for, seconds: the client asks for them once more only when it has given up on a request that a
#: broker has lost, which it does after its ``socket.timeout.ms`` of ten seconds.
_LEADERS_TIMEOUT = 15.0

#: What the client may take beside a request to say that it was not answered, seconds.
_SLACK = 1.0

#: Makes a request that may take so many seconds; the futures of its answers, by what they are of.
Request = Callable[[AdminClient, float], Mapping[Any, Any]]


class Admin:
    """A client for one operation. Get it by :func:`administration`; it blocks in C."""

    def __init__(self, clients: Clients) -> None:
        self._clients = clients
        self._client: AdminClient = clients.new_admin()
        self._late: list[Any] = []

    def ask(self, request: Request, what: str, passing_over: Collection[int] = ()) -> dict[Any, Any]:
        """The answers to a request; None in the place of errors that are passed over.

        Raises:
            ConnectionFailed: the cluster does not answer for so long.
            KafkaExecError: it refuses.
        """

        def act(timeout: float) -> dict[Any, Any]:
            futures = request(self._client, timeout)
            return {key: self._answer(future, timeout, passing_over) for key, future in futures.items()}

        return persist(act, what, TIMEOUT)

    def ask_coordinator(self, request: Request, what: str, passing_over: Collection[int] = ()) -> dict[Any, Any]:
        """The same of a request to a group's coordinator, made once.

        When one of them is not answered in time, the client library may end the process (librdkafka's pull request 5397). So
        it has all the time there is, comes after what has shown that the coordinator answers, and what can be asked
        otherwise is.
        """
        timeout = time_left(TIMEOUT)
        try:
            futures = request(self._client, max(_SLACK, timeout))
            return {key: self._answer(future, timeout, passing_over) for key, future in futures.items()}
        except KafkaException as error:
            raise translate(error, what) from None

    def committed(self, group: str, partitions: list[TopicPartition]) -> dict[tuple[str, int], int]:
        """What a group has committed, where it has.

        Raises:
            ConnectionFailed: the cluster does not answer for so long.
            Forbidden: this user may not read it.
        """
        consumer = self._clients.new_consumer({"group.id": group})
        try:
            found = committed(consumer, partitions, TIMEOUT)
        finally:
            consumer.close()
            self._clients.forget(consumer)
        return {(p.topic, p.partition): p.offset for p in found if p.offset >= 0}

    def members(self, group: str) -> int:
        """How many consumers a group has.

        Raises:
            ConnectionFailed: the cluster does not answer for so long.
        """
        described = self.ask_coordinator(
            lambda client, timeout: client.describe_consumer_groups([group], request_timeout=timeout),
            *(f"reading group {group}", {KafkaError.GROUP_ID_NOT_FOUND}),
        )[group]
        return len(described.members) if described is not None else 0

    def offsets(self, partitions: Iterable[TopicPartition], spec: OffsetSpec) -> dict[tuple[str, int], int]:
        """Where partitions begin or end, or the first offsets of a time.

        Raises:
            ConnectionFailed: one of them has no leader for so long.
        """
        wanted = list(partitions)
        found: dict[tuple[str, int], int] = {}

        def act(timeout: float) -> None:
            missing = None
            for each, future in self._client.list_offsets(
                {each: spec for each in wanted if (each.topic, each.partition) not in found}, request_timeout=timeout
            ).items():
                try:
                    found[each.topic, each.partition] = self._answer(future, timeout).offset
                except KafkaException as error:
                    if failure(error) not in LOOKING:
                        raise
                    missing = error
            if missing is not None:
                raise missing

        if wanted:
            persist(act, f"finding the offsets of {wanted[0].topic}", _LEADERS_TIMEOUT, LOOKING)
        return found

    def _answer(self, future: Any, timeout: float, passing_over: Collection[int] = ()) -> Any:
        # Not future.result(timeout): under eventlet its condition is a green one, which another thread cannot notify.
        done = native.lock()
        done.acquire()
        future.add_done_callback(lambda _: done.release())
        if not done.acquire(timeout=timeout + _SLACK):
            self._late.append(future)
            raise KafkaException(KafkaError(KafkaError._TIMED_OUT))
        error = future.exception()
        if error is None:
            return future.result()
        if isinstance(error, KafkaException) and reason_of(error).code() in passing_over:
            return None
        raise error

    def close(self) -> None:
        """Lets the client go: when all that it was asked is answered, since to free it before crashes the process."""
        if all(future.done() for future in self._late):
            self._clients.forget(self._client)
        else:
            run_once("late", self._await_late)

    def _await_late(self) -> None:
        while not all(future.done() for future in self._late):
            native.sleep(_SLACK)
        self._clients.forget(self._client)


@contextmanager
def administration(clients: Clients) -> Iterator[Admin]:
    """A client for one operation: it is rarely needed, and has threads and connections of its own."""
    admin = Admin(clients)
    try:
        yield admin
    finally:
        admin.close()
