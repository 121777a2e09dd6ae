"""The partition of a record that is published once more, of a task that must stay with others of its key."""

from __future__ import annotations

from kafka_exec.core.message.envelope import Headers, keys_over
from kafka_exec.kafka.cluster.logreader import partition_of


def partition_again(headers: Headers | None, key: str | bytes | None, partitions: int) -> int | None:
    """Where it would have gone at first, though its topic has more partitions now; None: where its key leads it."""
    over = keys_over(headers)
    if over is None or key is None or over > partitions:
        return None
    return partition_of(key, over)
