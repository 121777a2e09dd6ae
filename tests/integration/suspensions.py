"""A task's suspension, as the control plane knows it."""

from __future__ import annotations

from typing import Any

from kafka_exec.kafka.log.history import histories
from tests.integration.workers import until


def suspended(result: Any) -> None:
    """Waits until a task is suspended and the control plane knows it.

    The task's state is written first. A callback that comes between the two is kept, and counts when the suspension comes.
    """
    until(lambda: result.state == "SUSPENDED", what="the suspension")
    until(lambda: _is_known(result), what="the suspension in the control plane")


def _is_known(result: Any) -> bool:
    space = result.app.backend.space
    cluster, topic = space.cluster, space.topics.control_state
    ends = cluster.log.ends(topic, list(range(cluster.topics.partitions(topic) or 0)))
    spans = {(topic, number): (0, end) for number, end in ends.items()}
    return any(
        f'"WAITING","{result.id}"'.encode() in (record.value() or b"")
        for batch in histories(cluster, spans)
        for record in batch
    )
