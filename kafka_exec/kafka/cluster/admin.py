"""Administrative requests, repeated while they fail with errors that pass."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from confluent_kafka import IsolationLevel, KafkaError, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient, OffsetSpec

from kafka_exec.kafka.client import native
from kafka_exec.kafka.client.clients import Clients
from kafka_exec.kafka.client.failures import failure, persist, reason_of, time_left, translate
from kafka_exec.kafka.client.loop import run_once
from kafka_exec.kafka.client.offsets import LOOKING, committed

#: How long one operation may take with all its tries, seconds.
TIMEOUT = 10.0

#: How long leaders are looked for, seconds: they may have to be elected first.
LEADERS_TIMEOUT = 15.0

#: How long the client may take, after a request's time, to say that it was not answered, seconds.
_SLACK = 1.0

#: Makes a request that may take so many seconds. Returns the futures of its answers, by topic, group or partition.
Request = Callable[[AdminClient, float], Mapping[Any, Any]]


class Admin:
    """A client for one operation. Get it by :func:`administration`; it blocks in C."""

    def __init__(self, clients: Clients) -> None:
        self._clients = clients
        self._client: AdminClient = clients.new_admin()
        self._late: list[Any] = []
        self._knows_leaders = False

    def ask(self, request: Request, what: str, passing_over: Collection[int] = ()) -> dict[Any, Any]:
        """Makes a request. Returns its answers, with None in the place of errors that are passed over.

        Raises:
            ConnectionFailed: the cluster does not answer for :data:`TIMEOUT` seconds.
            KafkaExecError: the cluster refuses.
        """

        def act(timeout: float) -> dict[Any, Any]:
            futures = request(self._client, timeout)
            return {key: self._answer(future, timeout, passing_over) for key, future in futures.items()}

        return persist(act, what, TIMEOUT)

    def ask_coordinator(self, request: Request, what: str, passing_over: Collection[int] = ()) -> dict[Any, Any]:
        """Makes a request to a group's coordinator, once. Returns its answers like :meth:`ask`.

        When such a request is not answered in time, the client library may end the process (librdkafka's pull request 5397).
        So it gets all the time that is left, it follows a request that has shown that the coordinator answers, and it is
        made only if there is no other way to ask.
        """
        timeout = time_left(TIMEOUT)
        try:
            futures = request(self._client, max(_SLACK, timeout))
            return {key: self._answer(future, timeout, passing_over) for key, future in futures.items()}
        except KafkaException as error:
            raise translate(error, what) from None

    def committed(self, group: str, partitions: list[TopicPartition]) -> dict[tuple[str, int], int]:
        """The offsets that a group has committed, of those partitions of which it has.

        Raises:
            ConnectionFailed: the cluster does not answer for :data:`TIMEOUT` seconds.
            Forbidden: this user may not read them.
        """
        consumer = self._clients.new_consumer({"group.id": group})
        try:
            found = committed(consumer, partitions, TIMEOUT)
        finally:
            consumer.close()
            self._clients.forget(consumer)
        return {(p.topic, p.partition): p.offset for p in found if p.offset >= 0}

    def members(self, group: str) -> int:
        """The number of consumers of a group.

        Raises:
            ConnectionFailed: the cluster does not answer for :data:`TIMEOUT` seconds.
        """
        described = self.ask_coordinator(
            lambda client, timeout: client.describe_consumer_groups([group], request_timeout=timeout),
            f"reading group {group}",
            {KafkaError.GROUP_ID_NOT_FOUND},
        )[group]
        return len(described.members) if described is not None else 0

    def offsets(
        self,
        partitions: Iterable[TopicPartition],
        spec: OffsetSpec,
        isolation: IsolationLevel = IsolationLevel.READ_UNCOMMITTED,
    ) -> dict[tuple[str, int], int]:
        """The offsets at which partitions begin or end, or those of their first records from a time on.

        Args:
            isolation: ``READ_COMMITTED``: a partition ends before the first record of an open transaction.

        Raises:
            ConnectionFailed: a partition has no leader for :data:`LEADERS_TIMEOUT` seconds.
        """
        wanted = list(partitions)
        found: dict[tuple[str, int], int] = {}

        def act(timeout: float) -> None:
            if not self._knows_leaders:
                # A new client that looks for the leaders itself asks before it is connected, and again seconds later. And
                # it keeps what it was told: that there is no leader, or the epoch of a former one.
                self._client.list_topics(timeout=timeout)
                self._knows_leaders = True
            missing = None
            for each, future in self._client.list_offsets(
                {each: spec for each in wanted if (each.topic, each.partition) not in found},
                isolation_level=isolation,
                request_timeout=timeout,
            ).items():
                try:
                    found[each.topic, each.partition] = self._answer(future, timeout).offset
                except KafkaException as error:
                    if failure(error) not in LOOKING:
                        raise
                    missing, self._knows_leaders = error, False
            if missing is not None:
                raise missing

        if wanted:
            persist(act, f"finding the offsets of {wanted[0].topic}", LEADERS_TIMEOUT, LOOKING)
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
        """Forgets the client when all its requests are answered: to free it before would crash the process."""
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
