"""The partition of a record: by its key, or the one to which other records of its key were sent."""

from __future__ import annotations

from confluent_kafka import murmur2

from kafka_exec.core.message.envelope import Headers, keys_over


def partition_of(key: str | bytes, partitions: int) -> int:
    """The partition of a record key, as the producers choose it."""
    return int(murmur2(key.encode() if isinstance(key, str) else key, partitions))


def partition_again(headers: Headers | None, key: str | bytes | None, partitions: int) -> int | None:
    """The partition of a record when its topic had fewer partitions; None if its key decides among the present ones."""
    over = keys_over(headers)
    if over is None or key is None or over > partitions:
        return None
    return partition_of(key, over)
