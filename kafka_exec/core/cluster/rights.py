"""The rights that each role needs in a cluster with access rules, and the commands that give them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple

from kafka_exec.core.cluster.names import escape


class Right(NamedTuple):
    """A right on all resources whose names begin with the prefix, a dot, and ``rest``.

    Attributes:
        resource: as kafka-acls names it: ``topic``, ``group`` or ``transactional-id``.
    """

    operation: str
    resource: str = "topic"
    rest: str = ""


def _on(resource: str, *operations: str, rest: str = "") -> tuple[Right, ...]:
    return tuple(Right(operation, resource, rest) for operation in operations)


#: The rights of each role.
ROLES: Mapping[str, tuple[Right, ...]] = {
    "publisher": (
        *_on("topic", "Create", "Write"),
        # Ordering keys and deduplication ids.
        *_on("topic", "Read", rest="bindings"),
        # Results, the fate of a callback, answers to remote control.
        *_on("topic", "Read", rest="state"),
        *_on("topic", "Read", rest="exchange."),
    ),
    "worker": (
        *_on("topic", "Create", "Read", "Write", "DescribeConfigs", "Delete", "Alter"),
        *_on("group", "Read"),
        *_on("transactional-id", "Write"),
    ),
    "beat": (
        *_on("topic", "Create", "Read", "Write", "DescribeConfigs"),
        *_on("topic", "Delete", rest="sync"),
        *_on("transactional-id", "Write"),
    ),
    "operator": (
        *_on("topic", "Create", "Read", "Write", "DescribeConfigs", "Delete"),
        *_on("group", "Read", "Delete"),
        *_on("transactional-id", "Write"),
    ),
}


def commands(prefix: str, principal: str, roles: Iterable[str]) -> Iterator[str]:
    """The lines of ``kafka-acls`` that give a principal the rights of some roles, each once."""
    rights = dict.fromkeys(right for role in roles for right in ROLES[role])
    for operation, resource, rest in rights:
        yield (
            f"kafka-acls --bootstrap-server SERVER --add --allow-principal {principal} --operation {operation} "
            f"--resource-pattern-type prefixed --{resource} {escape(prefix)}.{rest}"
        )
