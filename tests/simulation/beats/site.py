"""The cluster, as a simulated beat reaches it: its topics, the log of heartbeats, readers and transactions."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from confluent_kafka import KafkaError, TopicPartition

from kafka_exec.core.cluster.settings import Settings
from kafka_exec.errors import ConnectionFailed
from kafka_exec.kafka.publish.scopes import Outgoing
from kafka_exec.kafka.publish.transactions import TIMEOUT, Lost
from tests.simulation.beats import fibers
from tests.simulation.plane import brokers

if TYPE_CHECKING:
    from tests.simulation.beats.process import Process

#: A message that could not be delivered for so long is given up, seconds.
_GIVEN_UP = 8.0


class News:
    """The end of a partition, or an error, in place of a record."""

    def __init__(self, code: int, offset: int) -> None:
        self.error, self.offset = (lambda: KafkaError(code)), (lambda: offset)


class Site:
    """The cluster, in place of :class:`kafka_exec.kafka.cluster.cluster.Cluster`."""

    settings = Settings()

    def __init__(self, process: Process) -> None:
        self.process, self.brokers, self.rng = process, process.world.brokers, process.world.rng
        self._readers: list[Callable[..., None]] = []
        self.topics = SimpleNamespace(
            partitions=lambda topic, fresh=False: 1, ensure=lambda spec: self.reach(), truncate=self._truncate
        )
        self.publisher = SimpleNamespace(post=self._post)
        self.log = SimpleNamespace(subscribe=self._subscribe, unsubscribe=self._unsubscribe, turned=0.0)

    def reach(self) -> None:
        """Waits for an answer of the brokers.

        Raises:
            ConnectionFailed: none comes.
        """
        fibers.wait(self.rng.random() * 0.02)
        if self.process.is_cut:
            raise ConnectionFailed("no answer")

    def new_consumer(self, config: Any) -> Consumer:
        return Consumer(self)

    def forget(self, consumer: Consumer) -> None:
        pass

    def _truncate(self, topic: str, offsets: dict[int, int]) -> None:
        self.reach()
        for number, offset in offsets.items():
            self.brokers.log(topic, number).trim(offset)

    def _post(self, topic: str, value: bytes, key: str) -> None:
        fibers.check(self.process)
        self.process.world.spawn(self._delivers(Outgoing(topic, value, key)), self.process)

    def _delivers(self, record: Outgoing) -> Iterator[float]:
        world, process = self.process.world, self.process
        begin = world.now
        yield self.rng.random() * 0.02
        while process.is_cut or world.now < process.mute_until:
            if world.now > begin + _GIVEN_UP:
                return
            yield max(process.cut_until, process.mute_until, world.now) - world.now + 0.02
        self.brokers.append(record)

    def _subscribe(self, topic: str, partitions: Sequence[int], take: Callable[..., None], since: float) -> None:
        self.reach()
        self._readers.append(take)
        log = self.brokers.log(topic)
        records, end = log.read(0, log.high)
        begin = next((each.offset() for each in records if each.at >= since), end)
        self.process.world.spawn(self._reads(topic, take, begin), self.process)

    def _unsubscribe(self, take: Callable[..., None]) -> None:
        self._readers = [each for each in self._readers if each != take]

    def _reads(self, topic: str, take: Callable[..., None], at: int) -> Iterator[float]:
        while take in self._readers:
            yield self.rng.random() * 0.1
            records, at = ([], at) if self.process.is_cut else self.brokers.log(topic).read(at, 20)
            for record in records:
                take(record)


class Consumer:
    """A reader of one partition, in place of librdkafka's."""

    def __init__(self, site: Site) -> None:
        self._site = site
        self._log = brokers.Partition()
        self._at = 0
        self._is_told = False  # that it is at the end

    def assign(self, partitions: Sequence[TopicPartition]) -> None:
        [place] = partitions
        self._log, self._at, self._is_told = self._site.brokers.log(place.topic, place.partition), place.offset, False

    def poll(self, timeout: float) -> Any:
        world = self._site.process.world
        deadline = world.now + max(timeout, 0.001)
        while not (found := self.consume(1, 0)):
            if world.now >= deadline:
                return None
            fibers.wait(max(0.001, min(deadline - world.now, 0.1 * self._site.rng.random())))
        return found[0]

    def consume(self, most: int, timeout: float) -> list[Any]:
        if self._site.process.is_cut:
            return []
        if self._at < self._log.start:
            return [News(KafkaError._AUTO_OFFSET_RESET, self._at)]
        records, at = self._log.read(self._at, self._site.rng.randint(1, most))
        self._is_told = self._is_told and at == self._at
        self._at = at
        if at < self._log.end or self._is_told or len(records) == most:
            return records
        self._is_told = True
        return [*records, News(KafkaError._PARTITION_EOF, at)]

    def close(self) -> None:
        pass


class Fetcher:
    """The finder of offsets, in place of :class:`kafka_exec.kafka.log.history.Fetcher`."""

    def __init__(self, site: Site, topic: str) -> None:
        self._site, self._log = site, site.brokers.log(topic)

    def span(self, partition: int) -> tuple[int, int]:
        self._site.reach()
        return self._log.start, self._log.high

    def close(self, timeout: float) -> None:
        pass


class Transactor(brokers.Transactor):
    """The holder of a transactional id. A process may be stopped between all its steps."""

    def __init__(self, site: Site, name: str) -> None:
        super().__init__(site.process, name)  # type: ignore[arg-type]
        self._site = site
        self._is_open = False

    def open(self) -> None:
        self._site.process.moment()
        super().open()
        self._is_open = True

    def begin(self, records: Sequence[Outgoing]) -> None:
        fibers.check(self._site.process)
        if not self._is_open:
            raise Lost("it is not open")
        super().begin(records)

    def commit(self) -> int:
        world, process = self._site.process.world, self._site.process
        deadline = world.now + TIMEOUT
        process.moment()
        while process.is_cut and world.now < deadline:
            fibers.wait(0.2)
        if not self._has_begun:  # the brokers hear of it now
            super().begin(self._records)
            process.moment()
        last = super().commit()
        fibers.wait(self._site.rng.random() * 0.02)
        return last

    def close(self) -> None:
        super().close()
        self._is_open = False
