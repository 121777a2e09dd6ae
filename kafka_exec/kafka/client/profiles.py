"""The properties of each kind of consumer, beside those that all clients have: one table."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from kafka_exec.core.cluster.settings import Settings

#: For readers that are told their offsets. They join no group, but the client library requires the name of one.
_ASSIGNED: Mapping[str, Any] = {"group.id": "kafka_exec", "auto.offset.reset": "earliest"}

#: For readers of one record after another, in moderate memory.
_IN_ORDER: Mapping[str, Any] = {
    **_ASSIGNED,
    "isolation.level": "read_committed",
    "queued.max.messages.kbytes": 4096,
    "fetch.message.max.bytes": 1024 * 1024,
    # A newly assigned partition waits for the fetch under way: that bounds the wait.
    "fetch.wait.max.ms": 100,
}

#: For the one reader of logs, as they are written, that all of this process shares.
LOG = _IN_ORDER

#: For a reader of a log as it is written, which is told when there is no more.
FOLLOWING: Mapping[str, Any] = {**_IN_ORDER, "enable.partition.eof": True}

#: For a reader of a log up to an end. It may be slower than Kafka, and read many partitions at once, each with
#: its own queue.
TO_AN_END: Mapping[str, Any] = {
    **FOLLOWING,
    "fetch.wait.max.ms": 10,
    "queued.min.messages": 2000,
    "fetch.message.max.bytes": 256 * 1024,
}

#: For the reader of the partitions that this process drives.
DRIVING: Mapping[str, Any] = {**_IN_ORDER, "fetch.error.backoff.ms": 100}

#: For a consumer that reads nothing: it finds where logs begin and end.
FINDING = _ASSIGNED

#: For a reader of single records.
SINGLE: Mapping[str, Any] = {
    **_ASSIGNED,
    # So the end is that of all acknowledged records; the records to fetch are known to be committed.
    "isolation.level": "read_uncommitted",
    # One record is wanted, not those behind it: the broker sends its batch, however large, and no more. A fetch under way at
    # the end holds up the next request.
    "fetch.wait.max.ms": 1,
    "queued.min.messages": 1000,
    "fetch.queue.backoff.ms": 1,
    "fetch.message.max.bytes": 1024,
}


def member(settings: Settings, group: str, static_id: str | None) -> dict[str, Any]:
    """The properties of a member of a group: a static one if it has an id."""
    properties: dict[str, Any] = {
        "group.id": group,
        "auto.offset.reset": "earliest",
        "enable.partition.eof": True,
        "fetch.wait.max.ms": 250,
        "fetch.error.backoff.ms": 100,
        "fetch.message.max.bytes": 256 * 1024,
        "queued.min.messages": 1000,
        "queued.max.messages.kbytes": 2048,
        "group.protocol": settings.group_protocol,
    }
    if settings.group_protocol == "classic":
        timeout = int(settings.session_timeout * 1000)
        properties["partition.assignment.strategy"] = "cooperative-sticky"
        properties["session.timeout.ms"] = timeout
        properties["heartbeat.interval.ms"] = min(1000, timeout // 3)  # bounds the wait of a hand-over
        # A static member of the newer protocol cannot come back after a kill: UNRELEASED_INSTANCE_ID.
        if static_id is not None:
            properties["group.instance.id"] = static_id
    return properties
