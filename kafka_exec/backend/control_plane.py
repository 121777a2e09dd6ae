"""The control plane of an app: its reducers, and what does what they decide."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kafka_exec.core.chord import Chords
from kafka_exec.kafka.nodes import Node
from kafka_exec.kafka.processor import Processor

if TYPE_CHECKING:
    from kafka_exec.backend import KafkaBackend

#: A chord whose parts do not all come is forgotten after this time, seconds.
_CHORDS_UNFINISHED = 30 * 86400.0

#: Copies of a fired chord's parts are recognised for this time if results do not expire, seconds.
_CHORDS_FIRED = 86400.0


def control_plane(backend: KafkaBackend, node: Node) -> Processor:
    """The control plane's share of a node; it has to be started."""
    space = backend.space
    fired = backend.expires or _CHORDS_FIRED
    return Processor(
        *(space.cluster, space.topics, node),
        {"chord": lambda: Chords(unfinished=_CHORDS_UNFINISHED, fired=fired)},
        backend.performers(),
    )
