"""The control plane of an app: its reducers, the performers of their decisions, and the cache's projection."""

from __future__ import annotations

import time
from collections.abc import Sequence

from kafka_exec.backend import KafkaBackend
from kafka_exec.backend.cache.projection import Projection
from kafka_exec.core.cluster.topology import control_topic, state_topic
from kafka_exec.core.control.chord import ChordReducer
from kafka_exec.core.control.reducers import Command
from kafka_exec.core.control.waiting import WaitingReducer
from kafka_exec.kafka.control.processor import Processor
from kafka_exec.kafka.nodes.node import Node

#: A chord whose parts do not all come is forgotten after this time, seconds.
_CHORDS_UNFINISHED = 30 * 86400.0

#: Copies of a fired chord's parts are recognised for this time if results do not expire, seconds.
_CHORDS_FIRED = 86400.0


class ControlPlane:
    """The control plane's share of a node, from :meth:`start` to :meth:`stop`. :func:`control_plane` makes it."""

    def __init__(self, processor: Processor, projection: Projection | None) -> None:
        self._processor = processor
        self._projection = projection

    def start(self) -> None:
        """Starts the share; a second call changes nothing."""
        self._processor.start()
        if self._projection is not None:
            self._projection.start()

    def revoke(self, task_ids: Sequence[str]) -> None:
        """Ends the suspensions of revoked tasks. Each worker that hears of it tells it; the first one counts.

        Raises:
            KafkaExecError: the control plane may not learn it.
        """
        self._processor.tell(lambda some: Command("wait.revoke", {"tasks": list(some)}), task_ids)

    def stop(self, timeout: float) -> bool:
        """Ends the open transactions and leaves the partitions to other nodes. False: not within ``timeout`` seconds."""
        deadline = time.monotonic() + timeout
        stopped = self._processor.stop(timeout)
        if self._projection is not None:
            self._projection.stop(max(0.1, deadline - time.monotonic()))
        return stopped


def control_plane(backend: KafkaBackend, node: Node) -> ControlPlane:
    """The control plane's share of a node; the caller has to start it.

    Raises:
        ConfigurationError: a cache of results is configured, and it cannot be used.
    """
    space, cache = backend.space, backend.cache
    fired, kept = backend.expires or _CHORDS_FIRED, space.settings.resume_timeout
    processor = Processor(
        space.cluster,
        space.topics,
        node,
        {
            "chord": lambda: ChordReducer(unfinished=_CHORDS_UNFINISHED, fired=fired),
            "wait": lambda: WaitingReducer(early=kept, remembered=kept),
        },
        backend.performers(),
    )
    if cache is None:
        return ControlPlane(processor, None)
    commands = control_topic(space.settings, space.topics).name

    def driven() -> tuple[frozenset[int], int]:
        return processor.driven, space.cluster.topics.partitions(commands) or 1

    states = state_topic(space.settings, space.topics)
    return ControlPlane(processor, Projection(space.cluster, states, cache, driven, backend.expires))
