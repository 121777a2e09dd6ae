"""The partition that a record goes to: by its key, or where others of its key went."""

from __future__ import annotations

from confluent_kafka import murmur2

from kafka_exec.core.message.envelope import Headers, keys_over


def partition_of(key: str | bytes, partitions: int) -> int:
    """The partition of a record key, as the producers choose it."""
    return int(murmur2(key.encode() if isinstance(key, str) else key, partitions))


def partition_again(headers: Headers | None, key: str | bytes | None, partitions: int) -> int | None:
    """Where it would have gone at first, though its topic has more partitions now; None: where its key leads it."""
    over = keys_over(headers)
    if over is None or key is None or over > partitions:
        return None
    return partition_of(key, over)
