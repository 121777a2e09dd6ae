"""The memory that a partition's state machine takes, driven without a broker: `python -m tests.bench.memory`."""

from __future__ import annotations

import gc
import sys
from enum import Enum
from types import FunctionType, ModuleType

from kafka_exec.core.nodes.liveness import membership
from kafka_exec.core.queue.lanes import Lane, Run, Ticket
from kafka_exec.core.queue.ledger import Ledger
from kafka_exec.core.queue.partition.machine import Partition
from kafka_exec.core.queue.partition.records import Now
from kafka_exec.core.queue.progress import Progress
from kafka_exec.core.queue.transitions import ENDED, STARTED, Transition, encode

TASKS, KEYS = 1_000_000, 100_000

RECORD = b"a record"
SHARED = (type, FunctionType, ModuleType, Enum)

NOW = Now(100.0, 1000.0)


def partition(incarnation: str = "owner") -> Partition[bytes]:
    """A partition of which nothing was read yet."""
    trusted = membership(3600.0)
    trusted.open(NOW.steady)
    ledger = Ledger("queue", Progress(0))
    return Partition(ledger, incarnation, membership=trusted, remember=3600.0, period=60.0, hears=lambda: True, now=NOW)


def run(core: Partition[bytes], offset: int) -> None:
    """Has a task begin and end here."""
    core.begin(offset, core.term, NOW)
    core.confirm(offset, core.term, NOW)
    core.end(offset, NOW)
    core.ready()


def ended_behind_one() -> Partition[bytes]:
    """A million tasks have ended, and the first one has not."""
    core = partition()
    for offset in range(TASKS + 1):
        core.read(offset, None, RECORD, NOW)
        if offset:
            run(core, offset)
    return core


def read_of_keys() -> Partition[bytes]:
    """A task of each key was read, and none has begun."""
    core = partition()
    for offset in range(KEYS):
        core.read(offset, Ticket(Lane("key", f"customer-{offset}"), Run(f"task-{offset}", 0)), RECORD, NOW)
        core.ready()
    return core


def ended_of_keys() -> Partition[bytes]:
    """A task of each key was read, and all have ended."""
    core = read_of_keys()
    for offset in range(KEYS):
        run(core, offset)
    return core


def granted_by_owner() -> Partition[bytes]:
    """The owner has given each task to another worker, and heard its begin and its end."""
    core = partition()
    for offset in range(TASKS):
        core.read(offset, None, RECORD, NOW)
        ticket = Ticket(Lane("id", f"task-{offset}"), Run(f"task-{offset}", 0))
        core.give(offset, core.term, ticket, RECORD, "guest", NOW)
        core.ready()
        core.hear(encode("guest", "queue", [Transition(STARTED, offset, 1)]), NOW)
        core.hear(encode("guest", "queue", [Transition(ENDED, offset)]), NOW)
    return core


def granted_to_guest() -> Partition[bytes]:
    """The guest has run every third task of the partition, and has heard of no other."""
    core = partition("guest")
    core.lose(NOW)
    for offset in range(0, 3 * TASKS, 3):
        core.accept(offset, None, RECORD, attempts=0, at=NOW.log, now=NOW)
        core.begin(offset, core.term, NOW)
        core.hear(encode("guest", "queue", [Transition(STARTED, offset, 1)]), NOW)
        core.confirm(offset, core.term, NOW)
        core.end(offset, NOW)
        core.ready()
    return core


def size_of(root: object) -> int:
    """The bytes of all objects that belong to one, without classes and functions, which all partitions share."""
    seen: dict[int, object] = {}
    left = [root]
    while left:
        found = left.pop()
        if id(found) not in seen and not isinstance(found, SHARED):
            seen[id(found)] = found
            left += gc.get_referents(found)
    return sum(map(sys.getsizeof, seen.values()))


def main() -> None:
    print(f"{size_of(partition()):>12,} bytes: nothing was read yet.")
    for case in (ended_behind_one, read_of_keys, ended_of_keys, granted_by_owner, granted_to_guest):
        print(f"{size_of(case()):>12,} bytes: {case.__doc__}", flush=True)


if __name__ == "__main__":
    main()
