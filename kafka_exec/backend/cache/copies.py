"""The cache of results: copies of settled state records in Redis. All other results are looked up in Kafka."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from kafka_exec.backend.cache.link import Link, Silent
from kafka_exec.core.results.projection import Copy, LogPosition
from kafka_exec.core.results.state_record import StateRecord
from kafka_exec.errors import KafkaExecError
from kafka_exec.kafka.cluster.cluster import Cluster
from kafka_exec.kafka.publish.partitioner import partition_of

#: A look-up of a result waits no longer for each answer of Redis, seconds.
_READING = 0.5

#: A batch that is written to Redis waits no longer for each answer, seconds. No caller waits for it.
_WRITING = 5.0

#: A forgotten result is not answered for so long, even if the projection is far behind, seconds.
_FORGOTTEN_FOR = 86400


@dataclass(frozen=True)
class CopyStep:
    """One step of a partition in the cache: its place before and after, and the copies that change with it."""

    partition: int
    before: LogPosition
    after: LogPosition
    changes: Mapping[str, Copy | None]


class Cache:
    """The copies of one topic's records. Thread-safe; one for each process. It connects when first used.

    Raises:
        ConfigurationError: the URL is wrong, or the client library is not installed.
    """

    def __init__(self, url: str, cluster: Cluster, topic: str) -> None:
        self._cluster = cluster
        self._topic = topic
        self._made_prefix = ""
        self._reading = Link(url, "looking up results", _READING)
        self._writing = Link(url, "filling the cache of results", _WRITING)

    def __repr__(self) -> str:
        return f"<Cache of {self._topic} in {self._reading!r}>"

    # -- keys ----------------------------------------------------------------------------------------------------------

    @property
    def _prefix(self) -> str:
        if not self._made_prefix:
            # The topic's identity is in the prefix too: a topic that was deleted and made again, or is of another cluster,
            # begins without copies.
            self._made_prefix = f"kafka_exec:{self._topic}:{self._cluster.topics.identity(self._topic)}"
        return self._made_prefix

    def _copy(self, task_id: str) -> str:
        return f"{self._prefix}:result:{task_id}"

    def _forgotten(self, task_id: str) -> str:
        return f"{self._prefix}:forgotten:{task_id}"

    def _place(self, partition: int) -> str:
        return f"{self._prefix}:place:{partition}"

    # -- looking up ----------------------------------------------------------------------------------------------------

    def find(self, task_id: str) -> StateRecord | None:
        """The state record of a task that is DONE; None if Kafka must be asked."""
        try:
            partitions = self._cluster.topics.partitions(self._topic)
            if partitions is None:
                return None
            keys = [self._copy(task_id), self._forgotten(task_id), self._place(partition_of(task_id, partitions))]
            value, forgotten, place = self._reading.ask(lambda redis: redis.mget(keys))
            if value is None or forgotten is not None or not LogPosition.decode(place).complete:
                return None
            return StateRecord.decode(value)
        except (Silent, KafkaExecError):
            return None

    def forget(self, task_id: str) -> None:
        """Removes a task's copy, and notes that the task is forgotten. It is called before the tombstones are written.

        The note is needed because a projection that is behind may write the copy again for a while. The projection removes
        the note when it reads the tombstones.
        """

        def remove(redis: Any) -> None:
            with redis.pipeline(transaction=False) as pipe:  # a Redis that is full does the first of the two
                pipe.delete(self._copy(task_id)).set(self._forgotten(task_id), 1, ex=_FORGOTTEN_FOR).execute()

        try:
            self._reading.ask(remove)
        except (Silent, KafkaExecError):
            pass  # the tombstones' projection removes it

    # -- filling -------------------------------------------------------------------------------------------------------

    def places(self, partitions: Collection[int]) -> dict[int, LogPosition]:
        """The places up to which these partitions are in the cache.

        Raises:
            Silent: Redis does not answer.
        """
        keys = [self._place(partition) for partition in partitions]
        found = self._writing.ask(lambda redis: redis.mget(keys))
        return dict(zip(partitions, map(LogPosition.decode, found), strict=True))

    def take(self, steps: Sequence[CopyStep]) -> bool:
        """Takes steps, all or none. False: a partition's place is not where its step begins, another owner has moved it.

        Raises:
            Silent: Redis does not answer.
        """

        def write(redis: Any) -> bool:
            keys = [self._place(step.partition) for step in steps]
            with redis.pipeline() as pipe:
                pipe.watch(*keys)
                if [LogPosition.decode(value) for value in pipe.mget(keys)] != [step.before for step in steps]:
                    return False
                pipe.multi()
                for key, step in zip(keys, steps, strict=True):
                    for task_id, copy in step.changes.items():
                        self._change(pipe, task_id, copy)
                    pipe.set(key, step.after.encode())
                try:
                    pipe.execute()
                except self._writing.conflict:
                    return False
            return True

        return self._writing.ask(write)

    def _change(self, pipe: Any, task_id: str, copy: Copy | None) -> None:
        if copy is None:
            pipe.delete(self._copy(task_id), self._forgotten(task_id))
        else:
            lifetime = None if copy.lifetime is None else round(1000 * copy.lifetime)
            pipe.set(self._copy(task_id), copy.value, px=lifetime)
