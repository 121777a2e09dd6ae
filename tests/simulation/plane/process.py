"""A simulated process of the control plane: a thread for each partition of chords, and for each level of delays."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from confluent_kafka import KafkaException

from kafka_exec.core.cluster.names import Topics
from kafka_exec.core.cluster.settings import Settings
from kafka_exec.core.cluster.topology import (
    control_state_topic,
    control_topic,
    dead_topic,
    delay_state_topic,
    delay_topic,
)
from kafka_exec.core.control.chord import ChordReducer, FailChord, Fire
from kafka_exec.core.control.reducers import TICK, Command, Effect, Reducers
from kafka_exec.core.control.waiting import WaitingReducer
from kafka_exec.kafka.control.level import DelayTopics, Level
from kafka_exec.kafka.control.partition import ControlPartition, ControlTopics
from kafka_exec.kafka.publish.scopes import Outgoing
from kafka_exec.kafka.publish.transactions import Lost
from tests.simulation.plane.brokers import HUGE, TOO_LARGE, Sent
from tests.simulation.plane.wait_rules import EARLY, REMEMBERED
from tests.simulation.plane.waits import performers_of

if TYPE_CHECKING:
    from tests.simulation.plane.world import PlaneWorld

NAMES, SETTINGS = Topics("p"), Settings()
CHORDS = ControlTopics(
    control_topic(SETTINGS, NAMES), control_state_topic(SETTINGS, NAMES), dead_topic(SETTINGS, NAMES, "control")
)
DELAYS = DelayTopics(delay_topic(SETTINGS, NAMES), delay_state_topic(SETTINGS, NAMES))

#: The topic of the bodies of chords.
BODIES = "bodies"

#: The numbers of partitions of chords, and of levels: these wait for 1, 4 and 16 seconds.
PARTITIONS, LEVELS = 2, 3

#: Longer than any simulation, seconds.
_LONG = 10_000.0

Thread = Iterator[float]


def _body(effect: Any) -> Sequence[Outgoing]:
    """The record of a chord's body, or of its failure."""
    parts = None if isinstance(effect, FailChord) else [each.task for each in effect.parts]
    more = ["huge"] if effect.body == "wide" and parts is not None else []
    return [Outgoing(BODIES, json.dumps([effect.group, parts, *more]).encode())]


_PERFORMERS: Mapping[type[Effect], Any] = {Fire: _body, FailChord: _body}


class Process:
    """A process, from its start to its end; it is also the cluster that the drivers use.

    Attributes:
        owned: what it drives, as far as it knows: the kind, ``chords`` or ``delays``, and the number.
        lag: the time by which the brokers' clock is ahead of what it knows of it, seconds.
        requests: the offsets of delayed messages, by level, that are to be moved ahead of their time.
        watched: the tasks whose ends it is to tell, by the correlation ids of those who wait.
    """

    ahead = 0.0
    children_go_on = False
    settings = SETTINGS

    def __init__(self, world: PlaneWorld, name: str) -> None:
        self.world, self.rng, self.name = world, world.rng, name
        self.dead = False
        self.paused_until = self.cut_until = 0.0
        self.owned: set[tuple[str, int]] = set()
        self.lag = self.rng.random()
        self.requests: dict[int, set[int]] = {}
        self.watched: dict[str, set[str]] = {}
        self.publisher = SimpleNamespace(post=self._post)
        self.topics = SimpleNamespace(partitions=lambda topic, fresh=False: 1, ensure=lambda spec: None)
        self.log = SimpleNamespace(ends=lambda topic, numbers: {n: world.brokers.log(topic, n).end for n in numbers})
        chords = (self._always("chords", number, self._drives) for number in range(PARTITIONS))
        delays = (self._always("delays", number, self._moves) for number in range(LEVELS))
        for thread in (self._learns(), *chords, *delays, world.waits.watches(self)):
            world.spawn(thread, self)

    @property
    def is_cut(self) -> bool:
        return self.world.now < self.cut_until

    def check_size(self, value: bytes | None, key: str) -> None:
        if HUGE in (value or b""):
            raise KafkaException(TOO_LARGE)

    def _post(self, topic: str, value: bytes | None, **more: Any) -> None:
        if not self.is_cut:
            self.world.judge.told(topic, value)

    @property
    def log_time(self) -> float:
        return self.world.now - self.lag

    def _learns(self) -> Thread:
        """Learns what it is to drive, a while after the others."""
        while True:
            wanted = {each for each, name in self.world.owners.items() if name == self.name}
            yield self.rng.random() * 3.0
            if not self.is_cut:
                self.owned = wanted

    def _always(self, kind: str, number: int, drives: Any) -> Thread:
        while True:
            yield self.rng.random() * 0.3
            if (kind, number) in self.owned:
                self.world.note(self.name, "takes over", kind, number)
                try:
                    yield from drives(number)
                except Lost as lost:
                    self.world.note(self.name, "has lost", kind, number, lost)

    def _read(self, topic: str, number: int, begin: int) -> tuple[list[Sent], int]:
        if self.is_cut:
            return [], begin
        return self.world.brokers.log(topic, number).read(begin, self.rng.randint(1, 8))

    def _drives(self, number: int) -> Thread:
        """Drives a partition of chords, as :class:`kafka_exec.kafka.control.processor.Processor` does."""
        reducers = Reducers(
            {
                "chord": lambda: ChordReducer(unfinished=_LONG, fired=_LONG),
                "wait": lambda: WaitingReducer(early=EARLY, remembered=REMEMBERED),
            }
        )
        performers = {**_PERFORMERS, **performers_of(self)}
        cluster: Any = self
        partition = ControlPartition(cluster, CHORDS, number, f"control.{number}", self.name, reducers, performers)
        partition.fence()
        at = 0
        while not partition.restored:
            yield self.rng.random() * 0.05
            records, at = self._read(CHORDS.changelog.name, number, at)
            for record in records:
                partition.restore(record)  # type: ignore[arg-type]
        at = partition.position
        while ("chords", number) in self.owned:
            yield self.rng.random() * 0.1
            records, at = self._read(CHORDS.commands.name, number, at)
            partition.take(records)  # type: ignore[arg-type]
            yield from self.world.moment(self)
            partition.begin(at_once=self.rng.random() < 0.5)
            yield from self.world.moment(self)
            partition.settle()
            self.world.brokers.log(CHORDS.commands.name, number).trim(partition.done)
            if (timer := partition.next_timer) is not None and timer <= self.log_time:
                self.world.brokers.append(Outgoing(CHORDS.commands.name, Command(TICK, {}).encode(), partition=number))
        partition.begin(at_once=True)
        partition.settle()
        partition.close()

    def _moves(self, number: int) -> Thread:
        """Moves the messages of a level, as :class:`kafka_exec.kafka.control.delays.Delays` does."""
        cluster: Any = self
        level = Level(cluster, NAMES, DELAYS, number, LEVELS)
        consumer: Any = Consumer()
        while ("delays", number) in self.owned:
            level.flow(consumer, self.log_time)
            yield self.rng.random() * 0.2
            if consumer.position is not None:
                records, consumer.position = self._read(DELAYS.waiting.name, number, consumer.position)
                level.take(records, self.log_time)  # type: ignore[arg-type]
            if level.has_news:
                level.stop_reading(consumer)
                level.close()
                level.fence()
            elif level.fenced:
                level.ask(self.requests.pop(number, ()))
                level.begin(self.log_time)
                yield from self.world.moment(self)
                level.settle()
                self.world.brokers.log(DELAYS.waiting.name, number).trim(level.done)
        level.close()


class Consumer:
    """The consumer of one level. ``position``: the offset at which it reads on; None: it does not read."""

    position: int | None = None
