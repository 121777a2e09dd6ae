"""The owner of each control-plane partition. Each node computes it by itself from the set of living nodes."""

from __future__ import annotations

from collections.abc import Collection
from functools import lru_cache
from hashlib import blake2b


def owner(partition: int, members: Collection[str]) -> str | None:
    """The member that owns a partition; None without members.

    The member with the highest weight wins (rendezvous hashing): one that comes or goes moves only its own partitions.
    """
    return max(members, key=lambda member: (_weight(partition, member), member), default=None)


@lru_cache(maxsize=16)  # a node asks several times a second, and the members seldom change
def owned(member: str, members: frozenset[str], partitions: int) -> frozenset[int]:
    """The partitions that a member owns. ``partitions``: how many there are in all."""
    return frozenset(number for number in range(partitions) if owner(number, members) == member)


def _weight(partition: int, member: str) -> bytes:
    return blake2b(f"{partition} {member}".encode(), digest_size=8).digest()
