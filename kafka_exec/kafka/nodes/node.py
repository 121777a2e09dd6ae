"""The node registry: a node's heartbeats, the other nodes that live, and a static membership if its name is unique."""

from __future__ import annotations

import logging
import math
import os
import socket
import time
import uuid
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from confluent_kafka import Message as Record

from kafka_exec.about import __version__
from kafka_exec.core.cluster.topology import TopicSpec
from kafka_exec.core.control.moved import decode_request
from kafka_exec.core.nodes.assignment import owned
from kafka_exec.core.nodes.clock import LogClock, Skew, is_wrong
from kafka_exec.core.nodes.heartbeat import (
    LOST_AFTER,
    Heartbeat,
    Joining,
    Load,
    Name,
    Namesake,
    Seen,
    Stray,
    judge,
)
from kafka_exec.core.nodes.liveness import Liveness, TaskWatch, lease
from kafka_exec.core.worker.sharing import Grant
from kafka_exec.errors import KafkaExecError, Undecodable
from kafka_exec.health import exists
from kafka_exec.kafka.client import native
from kafka_exec.kafka.client.complaints import faults
from kafka_exec.kafka.client.loop import Loop
from kafka_exec.kafka.client.oddities import pass_over
from kafka_exec.kafka.cluster.cluster import Cluster
from kafka_exec.kafka.log.history import history
from kafka_exec.kafka.nodes.health_file import HealthFile
from kafka_exec.kafka.nodes.metrics_port import MetricsPort

logger = logging.getLogger("kafka_exec")

#: How far back a starting node reads the heartbeats, in periods: enough for clocks that differ somewhat.
_LOOK_BACK = 4 * LOST_AFTER

#: Heartbeats from one that tells all task names to the next: so many names are too many for each.
TASKS_EVERY = 30


class Node:
    """This process under a node name, from :meth:`start` to :meth:`stop`.

    Args:
        work: returns the load of the node; called in the thread of the heartbeats.
        kind: the kind of the node, as in :class:`~kafka_exec.core.nodes.heartbeat.Heartbeat`.

    Attributes:
        period: seconds between two heartbeats.
        lease: the node's lease by the last heartbeat that was read back.
        leased_until: the end of the lease, seconds of the monotonic clock.
        on_request: called with the offsets of delayed messages, by level, that are to be moved ahead of their time.
    """

    def __init__(
        self, name: str, cluster: Cluster, registry: TopicSpec, work: Callable[[], Load] = Load, *, kind: str = ""
    ) -> None:
        self.name = name
        self._work = work
        self._last_work: Load | None = None
        self._beats = 0
        self._cluster = cluster
        self._registry = registry
        self.period = cluster.settings.heartbeat
        self.lease = lease(self.period)
        self.leased_until = -math.inf
        self._beat = Heartbeat(
            uuid.uuid4().hex, _place(), os.getpid(), since=time.time(), kind=kind, version=__version__
        )
        self._next = 0
        # The other incarnations under this node's name that are not gone, each with the offset of its last heartbeat.
        self._namesakes: dict[str, int] = {}
        self._liveness = Liveness(self._beat.incarnation, self.period)
        self._watched = TaskWatch(self._liveness)
        # Guards the knowledge of other nodes, and changes of the heartbeat, which several threads make.
        self._counting = native.lock()
        # The brokers' time, as this node's own heartbeats tell it.
        self._clock = LogClock()
        self._skew = Skew()
        self._signs = HealthFile(cluster.settings.health_file, kind, name)
        self._metrics = MetricsPort(cluster.settings, kind, name)
        self._loop = Loop("heartbeat", self._turn)
        self._is_listening = False
        self._lock = native.lock()
        self._joining: Joining | None = None
        self._strays: list[Callable[[], list[Stray]]] = []
        self.on_request: Callable[[Mapping[int, Collection[int]]], None] = lambda places: None
        self._guest_rooms: dict[str, Callable[[Grant, float], None]] = {}

    def start(self) -> None:
        """Begins to send heartbeats; a second call changes nothing."""
        if not self._loop.is_started:
            self._metrics.open()
            self._cluster.topics.ensure(self._registry)
            self._loop.start()

    def stop(self) -> None:
        """Says goodbye and ends the heartbeats."""
        self._loop.stop()
        self._change(left=True)
        self._cluster.log.unsubscribe(self._take)
        self._signs.remove()
        self._metrics.close()

    @property
    def incarnation(self) -> str:
        """The id of this incarnation."""
        return self._beat.incarnation

    def announce(self, role: str, drives: bool) -> None:
        """Tells the other nodes, with a heartbeat at once, if this node drives a share of something (a role)."""
        self._change(**{role: drives})

    def _change(self, **changes: Any) -> None:
        with self._counting:
            self._beat = replace(self._beat, **changes)
        self.beat()

    def owned(self, role: str, partitions: int) -> frozenset[int] | None:
        """The partitions, of so many, that this node is to drive; None if that is not known yet, and all stays as it is."""
        with self._counting:
            living = self._liveness.living(role)
            now = self.log_time()
            suspicion = now is not None and any(
                self._liveness.suspects(incarnation, now) for incarnation in living - {self.incarnation}
            )
        if suspicion:
            self.beat()
        return owned(self.incarnation, living, partitions) if living else None

    def log_time(self, now: float | None = None) -> float | None:
        """The brokers' time, epoch seconds; None before a heartbeat of this node's own was read back.

        Args:
            now: the present time of the monotonic clock, if the caller has it.
        """
        return self._clock.time(time.monotonic() if now is None else now)

    @property
    def clock_ahead(self) -> float | None:
        """The seconds by which the machine's clock is ahead of the log's; None before the log's time is known."""
        return None if (log_time := self.log_time()) is None else time.time() - log_time

    @property
    def log_offset(self) -> float | None:
        """The seconds by which the log's clock is ahead of the monotonic one, if the machine's other clock is wrong."""
        now, log_time = time.monotonic(), self.log_time()
        return None if log_time is None or not is_wrong(time.time() - log_time) else log_time - now

    def beat(self) -> None:
        """Sends a heartbeat now."""
        strays = tuple(stray for each in self._strays for stray in each())
        ahead = self.clock_ahead
        ahead = None if ahead is None else round(ahead, 3)
        try:
            self._send(replace(self._telling(), strays=strays, faults=faults().total, clock_ahead=ahead))
        except KafkaExecError as error:
            logger.debug("no heartbeat of %s: %s", self.name, error)

    def _telling(self) -> Heartbeat:
        before = self._last_work or Load()
        try:
            work = self._work()
        except Exception as error:  # the pool ends: the heartbeat is sent all the same
            logger.debug("%s does not say what it does: %r", self.name, error)
            work = before
        tasks = self._last_work is None or work.tasks != before.tasks or self._beats % TASKS_EVERY == 0
        self._last_work = work
        self._beats += 1
        return self._beat.telling(work, tasks=tasks)

    # -- sharing of work -----------------------------------------------------------------------------------------------

    def peers(self, since: float = 0.0) -> list[Heartbeat]:
        """The last heartbeats of the other nodes that live, if they are not older than a log time."""
        with self._counting:
            return self._liveness.peers(since)

    def grant(self, grants: Sequence[Grant]) -> None:
        """Tells other nodes the tasks that are granted to them.

        Raises:
            KafkaExecError: the cluster is not reachable.
        """
        with self._counting:
            for each in grants:
                self._watched.watch(each.to, (each.topic, each.partition, each.offset), time.monotonic())
        self._cluster.publisher.post(self._registry.name, Grant.encode(grants), key=f"grant {self.incarnation}")

    def add_guest_room(self, topic: str, accept: Callable[[Grant, float], None]) -> None:
        """Has a function called with the grants of a topic's tasks to this node, and their log time; it must not block."""
        self._guest_rooms[topic] = accept

    def _receive(self, grants: Sequence[Grant], at: float) -> None:
        for grant in grants:
            if grant.to == self.incarnation and (accept := self._guest_rooms.get(grant.topic)) is not None:
                accept(grant, at)

    # -- leases --------------------------------------------------------------------------------------------------------

    def add_strays(self, strays: Callable[[], list[Stray]]) -> None:
        """Has the heartbeats name tasks that this process runs though other workers own their partitions."""
        self._strays.append(strays)

    def own(self, topic: str, partitions: Iterable[int]) -> None:
        """Notes that this process owns partitions from now on: what is known of their tasks on other nodes is outdated."""
        with self._counting:
            for each in partitions:
                self._watched.own(topic, each)

    def runs_no_more(self, incarnation: str, task: Stray) -> bool:
        """True if another incarnation has ceased to run a task; it takes a few heartbeats to know.

        The caller asks at least once in a second or two while it believes that the task runs there.
        """
        with self._counting:
            return self._watched.is_over(incarnation, task, time.monotonic()) or self._is_dead(incarnation)

    def _is_dead(self, incarnation: str) -> bool:
        """True if an incarnation was a process of this machine that has ended."""
        heard = self._liveness.last(incarnation)
        return heard is not None and heard.place == self._beat.place and not exists(heard.pid)

    def is_gone(self, incarnation: str) -> bool:
        """True if another incarnation is lost, or has said goodbye."""
        with self._counting:
            if self._is_dead(incarnation) or self._liveness.is_gone(incarnation):
                return True
            now = self.log_time()
            suspicion = now is not None and self._liveness.suspects(incarnation, now)
        if suspicion:
            self.beat()
        return False

    def others(self, role: str) -> list[str]:
        """The other incarnations that had a role when they were last heard: alive, or lost not long ago."""
        with self._counting:
            return self._liveness.with_role(role)

    def _turn(self) -> None:
        self._is_listening = self._is_listening or self._listens()
        if self._is_listening:
            self.beat()
            self._signs.write(self._cluster.log.turned)
        self._loop.pause(self.period)

    def _listens(self) -> bool:
        since = time.time() - _LOOK_BACK * self.period
        try:
            self._cluster.log.subscribe(self._registry.name, [0], self._take, since=since)
        except KafkaExecError as error:
            logger.debug("heartbeats are not read: %s", error)
            return False
        return True

    def _send(self, beat: Heartbeat) -> None:
        self._cluster.publisher.post(self._registry.name, beat.encode(), key=self.name)

    def joining(self, is_fenced: bool = False) -> Joining:
        """The way in which this process joins groups: under the node's name, unless another living worker has this name.

        Two members of one static id throw each other out. It takes time to know that only if there was a worker of this name
        a moment ago, on another machine. It is decided once, and again for a member that Kafka has fenced: after an outage
        of a broker it fences members though no other one has their name.

        Raises:
            ConnectionFailed: it is not known who lives, because the cluster does not answer.
        """
        with self._lock:
            found = self._joining
            if found is None or (is_fenced and found.static_id is not None):
                self._joining = found = self._find_joining()
            return found

    def _find_joining(self) -> Joining:
        asked = self._cluster.log.ends(self._registry.name, [0])[0]
        deadline = time.monotonic() + LOST_AFTER * self.period
        while self._next < asked and time.monotonic() < deadline:
            native.sleep(0.005)
        deadline = time.monotonic() + LOST_AFTER * self.period
        while (verdict := judge(self._others(asked), waited=time.monotonic() > deadline)) is Name.UNSURE:
            native.sleep(self.period / 20)
        if verdict is Name.TAKEN:
            logger.warning(
                "another worker named %s is running: this one joins its groups without a static membership, so that "
                "its restarts cost a rebalance; give each worker a node name of its own (celery worker -n)",
                self.name,
            )
            return Joining()
        return Joining(self.name, is_return=any(not each.has_left for each in self._others(asked)))

    def _others(self, asked: int) -> list[Namesake]:
        """The other incarnations under this node's name. Heartbeats from the offset ``asked`` on came since it asks."""
        with self._counting:
            return [
                Namesake(
                    self._is_dead(incarnation) or self._liveness.is_gone(incarnation),
                    offset >= asked,
                    has_left=(heard := self._liveness.last(incarnation)) is not None and heard.left,
                )
                for incarnation, offset in self._namesakes.items()
            ]

    def _take(self, record: Record) -> None:
        self._next = record.offset() + 1
        at = record.timestamp()[1] / 1000
        if (beat := Heartbeat.decode(record.value())) is None:
            if grants := Grant.decode(record.value()):
                self._receive(grants, at)
            elif places := decode_request(record.value()):
                self.on_request(places)
            else:
                pass_over(record, Undecodable("malformed", "it is neither a heartbeat, nor a grant, nor a request"))
            return
        with self._counting:
            self._liveness.take(beat, at)
            self._watched.take(beat, now := time.monotonic())
            if beat.incarnation != self.incarnation and record.key() == self.name.encode():
                self._namesakes = {each: at for each, at in self._namesakes.items() if not self._liveness.is_gone(each)}
                self._namesakes[beat.incarnation] = record.offset()
            if beat.incarnation == self.incarnation:
                self._signs.heard = now
                self._clock.take(at, now)
                self.lease.renew(at)
                left = -math.inf if self.lease.until is None else self.lease.until - (self._clock.time(now) or at)
                self.leased_until = now + left
        if beat.incarnation == self.incarnation:
            self._look_at_clock()

    def _look_at_clock(self) -> None:
        if (ahead := self.clock_ahead) is not None and self._skew.take(ahead):
            logger.warning(
                f"the clock of this machine is {abs(ahead):.1f} s {'ahead of' if ahead > 0 else 'behind'} that of Kafka, by "
                "which tasks with a time begin; set it right"
            )


def heard(cluster: Cluster, registry: TopicSpec, since: float) -> Iterator[Seen]:
    """The heartbeats of all nodes since a time, epoch seconds.

    Raises:
        ConnectionFailed: the cluster does not answer.
    """
    topic = registry.name
    if not cluster.topics.partitions(topic, fresh=True):
        return
    begin, end = cluster.log.begin(topic, 0, since), cluster.log.ends(topic, [0])[0]
    for batch in history(cluster, topic, 0, end, begin):
        for record in batch:
            beat = Heartbeat.decode(record.value())
            if beat is not None and record.key() is not None:
                yield Seen(record.key().decode(errors="replace"), beat, record.timestamp()[1] / 1000)


def last_heard(cluster: Cluster, registry: TopicSpec, since: float) -> dict[str, tuple[Heartbeat, float]]:
    """The last heartbeat since a time of each node, with its log time; times are epoch seconds.

    Raises:
        ConnectionFailed: the cluster does not answer.
    """
    return {seen.name: (seen.beat, seen.at) for seen in heard(cluster, registry, since)}


def _place() -> str:
    try:
        space = os.readlink("/proc/self/ns/pid")
    except OSError:
        space = ""
    return f"{socket.gethostname()} {space}".strip()
