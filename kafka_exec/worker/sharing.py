"""A worker gives tasks to other workers: tasks that wait for a slot while others have free ones, and unknown tasks."""

from __future__ import annotations

import logging
import time
from collections.abc import Container, Iterator
from typing import Any, NamedTuple

from celery.app.task import Context
from celery.exceptions import NotRegistered
from confluent_kafka import Message as Record
from kombu.exceptions import OperationalError
from kombu.message import Message
from kombu.serialization import prepare_accept_content

from kafka_exec.core.message.envelope import decode
from kafka_exec.core.nodes.heartbeat import Heartbeat
from kafka_exec.core.results.lifecycle import State
from kafka_exec.core.worker.sharing import Fullness, Grant, idle_peers, is_given_up, who_knows
from kafka_exec.core.worker.versions import needed
from kafka_exec.errors import KafkaExecError
from kafka_exec.kafka.nodes.node import Node
from kafka_exec.kafka.publish import meters
from kafka_exec.transport.connection import Connection
from kafka_exec.transport.sources import Item, WorkQueue
from kafka_exec.worker import waiting
from kafka_exec.worker.starting import Starter

logger = logging.getLogger("kafka_exec")


class Misfit(NamedTuple):
    """A message of a task, or of a version of a task, that this worker does not know.

    Attributes:
        name: the task, with its version, that a worker must know; see :mod:`kafka_exec.core.worker.versions`.
        since: the time since which it waits, seconds of a steady clock.
    """

    source: WorkQueue
    item: Item
    task_id: str
    name: str
    headers: dict[str, Any]
    since: float


class Sharing:
    """A worker's side of giving tasks to others. Not thread-safe: only the event loop calls it.

    Args:
        starter: the tasks that wait for a slot.
        node: the worker's node, which knows the others by their heartbeats.
        connection: the connection with which the worker consumes.
    """

    def __init__(self, app: Any, starter: Starter, node: Node, connection: Connection) -> None:
        self._app = app
        self._starter = starter
        self._node = node
        self._connection = connection
        self._misfits: list[Misfit] = []
        self._fullness = Fullness()

    def turn(self) -> None:
        """Gives tasks away if there are any to give. The consumer calls it about every second."""
        self._place_misfits()
        since = self._fullness.look(self._starter.is_full, self._node.log_time())
        if since is not None and self._connection.space.settings.work_sharing:
            self._share(since)

    def _share(self, since: float) -> None:
        if not (peers := self._node.peers(since)):
            return
        for queue in self._connection.queues():
            incarnations = idle_peers(peers, queue.name, queue.waiting + self._starter.waiting)
            if incarnations:
                self._grant(queue.share(incarnations, self._of(queue, len(incarnations) - queue.waiting)))

    def _of(self, queue: WorkQueue, most: int) -> Iterator[Item]:
        """Takes back tasks of a queue that wait for a slot; tasks of other queues keep waiting."""
        for source, item in self._starter.withdraw(max(0, most)):
            if source is queue:
                yield item
            else:
                source.put_back(item)

    def _grant(self, grants: list[Grant]) -> None:
        if not grants:
            return
        meters.granted(len(grants))
        try:
            self._node.grant(grants)
        except KafkaExecError as error:
            logger.debug("nobody was told of %s grants, which are soon over: %s", len(grants), error)

    # -- tasks that this worker does not know --------------------------------------------------------------------------

    def add_misfit(self, message: Any) -> bool:
        """Keeps the message of an unknown task until a worker knows it. False: the message is not of a work queue."""
        taken = message.channel.deliveries.withdraw(message.delivery_tag)
        if taken is None:
            return False
        source, item = taken
        headers = message.headers
        if not isinstance(source, WorkQueue) or item.work is None:
            return False
        if not item.work.alive:
            source.put_back(item)  # it was granted to this worker: its owner looks for another one
            return True
        name, task_id = needed(headers), str(headers.get("id"))
        logger.warning("task %s[%s] is not known here: it waits for a worker that knows it", name, task_id)
        self._misfits.append(Misfit(source, item, task_id, name, headers, time.monotonic()))
        waiting.tell(self._app, headers, State.WRONG_NODE)
        return True

    def find(self, ids: Container[str]) -> list[tuple[str, Record]]:
        """The queues and records of tasks with these ids that wait for a worker that knows them."""
        return [(each.source.name, each.item.record) for each in self._misfits if each.task_id in ids]

    def _place_misfits(self) -> None:
        peers = self._node.peers() if self._misfits else []
        self._misfits = [misfit for misfit in self._misfits if not self._is_placed(misfit, peers)]

    def _is_placed(self, misfit: Misfit, peers: list[Heartbeat]) -> bool:
        if not misfit.item.is_ours or misfit.source.is_paused(misfit.item.record):
            misfit.source.put_back(misfit.item)  # its owner hands it out again
            return True
        knower = who_knows(peers, misfit.source.name, misfit.name)
        if knower is not None and (given := misfit.source.give(misfit.item, knower)) is not None:
            self._grant([given])
            return True
        if not is_given_up(misfit.since, time.monotonic(), self._connection.space.settings.wrong_node_timeout):
            return False
        try:
            self._give_up(misfit)
        except (KafkaExecError, OperationalError) as error:
            logger.warning("the dead letter of task %s is not written yet: %s", misfit.task_id, error)
            return False
        return True

    def _give_up(self, misfit: Misfit) -> None:
        request = Context(
            {**misfit.headers, **self._embedded(misfit)}, delivery_info={"routing_key": misfit.source.name}
        )
        try:
            self._app.backend.mark_as_failure(misfit.task_id, NotRegistered(misfit.name), request=request)
        except OperationalError:
            raise  # giving up is tried again as a whole
        except Exception:
            logger.exception("what follows from the end of task %s[%s] cannot be done", misfit.name, misfit.task_id)
        misfit.source.bury(misfit.item, "unknown-task", f"no worker knows the task {misfit.name!r}")

    def _embedded(self, misfit: Misfit) -> dict[str, Any]:
        """The signatures that the message's body has of following tasks: they fail too, and a chord must not wait for it."""
        try:
            found = decode(misfit.item.record.headers(), misfit.item.record.value())
            message = Message(
                body=found.body,
                content_type=found.content_type,
                content_encoding=found.content_encoding,
                headers=misfit.headers,
                accept=prepare_accept_content(self._app.conf.accept_content),
            )
            return dict(message.payload[2])
        except (
            Exception
        ) as error:  # the body is not of Celery's second protocol, or of a content type not accepted here
            logger.warning("what follows from task %s is not known: %r", misfit.task_id, error)
            return {}
