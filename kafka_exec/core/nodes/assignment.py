"""Who drives which partition of the control plane: everybody computes it alone from the set of the living."""

from __future__ import annotations

from collections.abc import Collection
from functools import lru_cache
from hashlib import blake2b


def owner(partition: int, members: Collection[str]) -> str | None:
    """The member that a partition belongs to, None without members.

    The highest weight wins (rendezvous hashing): who comes or goes moves only partitions of its own.
    """
    return max(members, key=lambda member: (_weight(partition, member), member), default=None)


@lru_cache(maxsize=16)  # it is asked several times a second, and the members seldom change
def owned(member: str, members: frozenset[str], partitions: int) -> frozenset[int]:
    """The partitions, of so many, that belong to a member."""
    return frozenset(number for number in range(partitions) if owner(number, members) == member)


def _weight(partition: int, member: str) -> bytes:
    return blake2b(f"{partition} {member}".encode(), digest_size=8).digest()
