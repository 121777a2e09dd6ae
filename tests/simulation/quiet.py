"""The end of a simulation: faults have ceased, so all tasks must end, none may be lost, and nothing may be kept of them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from tests.simulation.judge import Violation

if TYPE_CHECKING:
    from kafka_exec.core.queue.partition.machine import Partition
    from tests.simulation.world import World


def unfinished(world: World) -> list[object]:
    """The records that have not ended, by what their owners know, also deleted ones, and the workers that are busy."""
    pools = {node.incarnation: node.pool for node in world.nodes.values() if not node.dead}
    found: list[object] = [f"{name} is busy" for name, pool in pools.items() if pool.is_busy]
    for number, log in enumerate(world.topic.partitions):
        owners = [node.owned[number]._core for node in world.nodes.values() if number in node.owned]
        if len(owners) != 1 or owners[0].ledger.queue != world.topic.id:
            return [f"partition {number} has {len(owners)} owners"]
        ledger = owners[0].ledger
        found += [f"{number}/{offset} is {state.name}" for offset, state in owners[0]._states.items()]
        found += [each for each in log.found.values() if each is not None and not ledger.has_ended(each.place.offset)]
    return found


def check(world: World) -> None:
    """Checks what must hold when all is quiet."""
    lost = [
        record
        for log in world.topic.partitions
        for record in log.found.values()
        if record is not None and not world.judge.has_ended(record)
    ]
    if lost:
        raise Violation("lost", *lost)
    for number, log in enumerate(world.topic.partitions):
        if (committed := world.group.commits[number][0]) != log.end:
            raise Violation("kept", f"partition {number} is committed up to {committed} of {log.end} only")
    for node in world.nodes.values():
        for works in (node.owned, node.disowned):
            for number, work in works.items():
                if kept := dict(_kept(work._core)):
                    raise Violation("kept", f"{node.incarnation}, partition {number}:", kept)
        if node.pool.is_busy:
            raise Violation("kept", f"{node.incarnation}: records in buffers")


def _kept(core: Partition) -> Iterator[tuple[str, object]]:
    """The containers of a partition that are not empty, though all has ended."""
    ledger = core.ledger
    ledger.tidy()
    containers = {
        "states": core._states,
        "running": core.running,
        "awaited": core.awaited,
        "grants": core.grants,
        "contested": core.contested,
        "lanes to go on": core.lanes_to_go_on,
        "tickets": core.lanes._tickets,
        "queues": core.lanes._queues,
        "retries": core.lanes._retries,
        "records": core.kept._records,
        "bytes": core.kept._bytes,
        "wanted": core.kept.wanted,
        "reserved": core.begins._reserved,
        "to await": core.begins._to_await,
        "untold": core.outbox.told,
        "kept transitions": core.outbox._kept,
        "open": core.open,
    }
    if core.owned:
        containers |= {
            "leases": ledger.leases,
            "displaced": ledger.displaced,
            "attempts": ledger.attempts,
            "holds": ledger.holds,
            "holders": ledger.holders,
            "places": ledger.places,
            "parked": ledger.parked,
            "unheard": ledger.unheard,
            "ends above the lowest unfinished": ledger.progress._starts,
        }
    return ((name, found) for name, found in containers.items() if found)
