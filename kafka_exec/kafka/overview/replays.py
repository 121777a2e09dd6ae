"""Replays: the tasks that were sent to a queue in some time, read from its topics, and copied once to another queue."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

from confluent_kafka import IsolationLevel
from confluent_kafka import Message as Record
from confluent_kafka.admin import OffsetSpec

from kafka_exec.core.cluster.names import Topics, escape
from kafka_exec.core.message.copies import REPLAY_OF, Replay, is_first
from kafka_exec.core.message.envelope import ORDERING_KEY, Message, bind, decode, encode, place_name
from kafka_exec.core.overview.choosing.messages import MessageFilter
from kafka_exec.errors import NoSuchQueue, NotReplayable, Undecodable, Unwritable
from kafka_exec.kafka.client.failures import within
from kafka_exec.kafka.cluster.admin import TIMEOUT, administration
from kafka_exec.kafka.cluster.cluster import Cluster
from kafka_exec.kafka.log.history import histories
from kafka_exec.kafka.overview.reading import Layout, QueueTopics, begins_at, between, layout_of
from kafka_exec.kafka.publish.batches import publish_once
from kafka_exec.kafka.publish.partitioner import partition_of
from kafka_exec.kafka.publish.scopes import Outgoing

#: Copies are looked for from so many seconds before the first original: the clocks of producers may differ.
_MARGIN = 60.0

#: Called with the number of what is read, and of what there is to read.
OnProgress = Callable[[int, int], None]


class TaskCopy(NamedTuple):
    """A copy that is to be sent.

    Attributes:
        message: of the copy.
        at: when the original was sent, epoch seconds.
        topic: to which it goes.
    """

    message: Message
    at: float
    topic: str

    @property
    def original(self) -> str:
        """The id of its original."""
        return str(self.message.headers[REPLAY_OF]["id"])

    @property
    def value(self) -> bytes:
        """The value of its record."""
        return self.message.body


class Replayer:
    """One replay. For one thread at a time.

    Args:
        queue: whose tasks are copied.
        since, until: those that were sent from then on, and before then, epoch seconds.
        keys_over: tells over how many partitions the ordering keys of the target are spread.

    Raises:
        NoSuchQueue: one of the two queues does not exist.
        ConnectionFailed: the cluster does not answer; so do all methods.
    """

    def __init__(
        self,
        cluster: Cluster,
        topics: Topics,
        queue: str,
        replay: Replay,
        chosen: MessageFilter,
        since: float,
        until: float,
        keys_over: Callable[[], int],
    ) -> None:
        self._cluster = cluster
        self._topics = topics
        self._replay = replay
        self._chosen = chosen
        self._since = since
        self._until = until
        self._keys_over = keys_over
        layout = layout_of(cluster)
        self._sources = self._topics_of(queue, layout)
        self._targets = self._topics_of(replay.queue, layout)
        self._source_places = layout.places(*self._sources.values())
        self._target_places = layout.places(*self._targets.values())

    def _topics_of(self, queue: str, layout: Layout) -> QueueTopics:
        if not (found := layout.queues(self._topics, [queue])):
            raise NoSuchQueue(f"there is no queue {queue!r}: celery amqp queue.declare {queue} makes one")
        return found

    def copies(
        self, on_progress: OnProgress | None = None, on_refusal: Callable[[NotReplayable], None] | None = None
    ) -> Iterator[TaskCopy]:
        """The copies that are still to be sent; those of a partition in the order of the originals.

        Args:
            on_refusal: called for each task that cannot be copied; they are passed over.
        """
        return self._copies(self._sent(committed=True), on_progress, on_refusal)

    def _copies(
        self,
        sent: set[str],
        on_progress: OnProgress | None = None,
        on_refusal: Callable[[NotReplayable], None] | None = None,
    ) -> Iterator[TaskCopy]:
        for message, record in self._originals(on_progress):
            place = place_name(record.topic(), record.partition(), record.offset())
            try:
                copy = self._replay.copy(message, place)
                encode(copy)
            except (NotReplayable, Unwritable) as error:
                if on_refusal is not None:
                    on_refusal(NotReplayable(f"the task at {place} cannot be copied: {error}"))
                continue
            task_id = copy.headers["id"]
            if task_id not in sent:
                sent.add(task_id)
                yield TaskCopy(copy, record.timestamp()[1] / 1000, self._target_of(record.topic()))

    def send(self, *, rate: float | None = None, on_progress: Callable[[int], None] | None = None) -> int:
        """Sends the copies, each once, even if replays of this name are killed, or several run at once; their number.

        Args:
            rate: copies a second at most.
            on_progress: called with the number of copies sent so far.

        Raises:
            NotReplayable: the cluster refuses a batch of copies; those before it were sent.
            Forbidden: this user may not do that.
            NotConfirmed: the cluster does not answer, or another replay of this name has begun. Do it again.
        """
        transactional_id = f"{self._topics.queue(self._replay.queue)}.replay.{escape(self._replay.name)}"
        return publish_once(
            self._cluster,
            transactional_id,
            lambda: self._copies(self._sent(committed=False)),
            self._records,
            rate=rate,
            on_progress=on_progress,
        )

    def _originals(self, on_progress: OnProgress | None) -> Iterator[tuple[Message, Record]]:
        """The first messages of the tasks that are chosen, with their records."""
        with within(TIMEOUT), administration(self._cluster) as admin:
            spans = between(admin, self._source_places, self._since, self._until)
        done, total = 0, sum(end - begin for begin, end in spans.values())
        for batch in histories(self._cluster, spans):
            for record in batch:
                message = _message(record)
                if message is not None and self._is_chosen(message, record):
                    yield message, record
            done += len(batch)
            if on_progress is not None and batch:
                on_progress(done, total)

    def _is_chosen(self, message: Message, record: Record) -> bool:
        return (
            is_first(record.headers(), message) and not self._replay.has_sent(message) and self._chosen.matches(message)
        )

    def _sent(self, *, committed: bool) -> set[str]:
        """The ids of the copies that stand in the target.

        Args:
            committed: only copies before the first open transaction, which a killed replay leaves open for some seconds.
                Otherwise all copies, and reading them waits for the end of those transactions.
        """
        isolation = IsolationLevel.READ_COMMITTED if committed else IsolationLevel.READ_UNCOMMITTED
        with within(TIMEOUT), administration(self._cluster) as admin:
            ends = admin.offsets(self._target_places, OffsetSpec.latest(), isolation)
            begins = begins_at(admin, self._target_places, self._since - _MARGIN, ends)
        read = histories(self._cluster, {place: (begins[place], end) for place, end in ends.items()})
        messages = (_message(record) for batch in read for record in batch)
        return {each.headers["id"] for each in messages if each is not None and self._replay.has_sent(each)}

    def _target_of(self, source: str) -> str:
        """The topic of the target's priority step that is the source's; of its lowest one if it has no such step."""
        step = next(step for (_, step), topic in self._sources.items() if topic == source)
        queue = self._replay.queue
        return self._targets.get((queue, step)) or self._targets[queue, 0]

    def _records(self, copies: Sequence[TaskCopy]) -> list[Outgoing]:
        return [self._record(copy.message, copy.topic) for copy in copies]

    def _record(self, message: Message, topic: str) -> Outgoing:
        headers = encode(message)
        if ORDERING_KEY not in message.headers:
            return Outgoing(topic, message.body, message.key, headers)
        over = self._keys_over()
        return Outgoing(topic, message.body, message.key, bind(headers, over), partition_of(message.key, over))


def _message(record: Record) -> Message | None:
    """The message of a task in a record; None if there is none."""
    try:
        message = decode(record.headers(), record.value())
    except Undecodable:
        return None
    return message if message.task else None
