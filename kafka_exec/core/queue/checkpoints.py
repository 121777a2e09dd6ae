"""Checkpoints of a partition's ledger: the records of the journal that together hold the whole state."""

from __future__ import annotations

import json
from collections.abc import Container, Iterator, Mapping
from contextlib import suppress
from typing import Any
from zlib import crc32

from kafka_exec.core.queue.lanes import Lane
from kafka_exec.core.queue.ledger import Ledger
from kafka_exec.core.queue.progress import Progress
from kafka_exec.core.queue.transitions import FARTHEST, Lease, attempt_of, lane_of, memory_of, object_of, run_of
from kafka_exec.core.record.fields import a_list, an_object, text, whole

#: A record of a checkpoint has about so many bytes at most, so that no topic refuses it.
_MOST_BYTES = 256 * 1024

#: The bytes of a number, and those of a character, in a record at most.
_NUMBER, _CHARACTER = 20, 6


def encode_checkpoint(ledger: Ledger, incarnation: str, folded: int = 0) -> list[bytes]:
    """The values of the journal records that together hold the whole state: the first says how many they are.

    Args:
        folded: the offset up to which the journal is folded in it.
    """
    ledger.tidy()
    parts: list[dict[str, list[Any]]] = [{}]
    size = 0
    for name, entry in _entries(ledger):
        size += sum(_CHARACTER * len(each) if isinstance(each, str) else _NUMBER for each in entry)
        if size > _MOST_BYTES:
            parts.append({})
            size = 0
        parts[-1].setdefault(name, []).append(entry)
    # Parked records may be in another part, so they do not count as ended here.
    parts[0] |= {"progress": ledger.progress.without(ledger.parked).as_json()}
    # A record may be written twice, or come late between those of the next checkpoint: so each has a number and a name.
    name = f"{crc32(repr(parts).encode()):x}"
    common = {"incarnation": incarnation, "queue": ledger.queue, "name": name, "folded": folded, "parts": len(parts)}
    return [
        json.dumps({**common, "part": number, "checkpoint": part}, separators=(",", ":")).encode()
        for number, part in enumerate(parts)
    ]


def _entries(ledger: Ledger) -> Iterator[tuple[str, list[Any]]]:
    for offset, lease in ledger.leases.items():
        yield "leases", [offset, *lease]
    for offset, lease in ledger.displaced.items():
        yield "displaced", [offset, *lease]
    for offset, attempts in ledger.attempts.items():
        yield "attempts", [offset, attempts]
    for lane, run in ledger.holds.items():
        yield "holds", [*lane, *run]
    for lane, offset in ledger.holders.items():
        yield "holders", [*lane, offset]
    for lane, offset in ledger.places.items():
        yield "places", [*lane, offset]
    for offset, lane in ledger.parked.items():
        yield "parked", [*lane, [offset]]
    for name, memory in ledger.remembered.items():
        yield "remembered", [name, *memory]


def add_checkpoint(ledger: Ledger, value: bytes | None, told: Container[Lane] = ()) -> int:
    """Adds a record of a checkpoint. Returns the number of records of the whole checkpoint; 0 if it is none.

    A checkpoint counts only if a commit names it, or there is no commit any more: the writer of another one may not have
    owned the partition.

    Args:
        told: the lanes of which the transitions before it have told: it may have been made before these.
    """
    with suppress(ValueError, KeyError):  # a later version has written it: that costs repeated runs, never a loss
        record = object_of(value)
        if record.get("queue") != ledger.queue:
            return 0
        state = an_object(record["checkpoint"])
        progress = Progress.from_json(state["progress"]) if "progress" in state else Progress(0)
        waiting = {
            whole(offset): lane_of(kind, name)
            for kind, name, offsets in _entries_of(state, "parked")
            for offset in a_list(offsets)
        }
        attempts = [(whole(offset), attempt_of(number)) for offset, number in _entries_of(state, "attempts")]
        leases, displaced = (
            [
                (whole(offset), Lease(text(incarnation), attempt_of(attempt)))
                for offset, incarnation, attempt in _entries_of(state, name)
            ]
            for name in ("leases", "displaced")
        )
        holds = [
            (lane_of(kind, name), run_of(task_id, retries))
            for kind, name, task_id, retries in _entries_of(state, "holds")
        ]
        holders, places = (
            [(lane_of(kind, name), whole(offset, least=-1)) for kind, name, offset in _entries_of(state, each)]
            for each in ("holders", "places")
        )
        remembered = [memory_of(each) for each in _entries_of(state, "remembered")]
        parts = whole(record.get("parts", 1), most=FARTHEST)
        # The whole record is valid, so it is taken as a whole; else nothing of it counts.
        ledger.merge(progress, waiting)
        for offset, lane in waiting.items():
            ledger.park(lane, [offset])
        for offset, number in attempts:
            if not ledger.has_ended(offset):
                ledger.attempts[offset] = max(number, ledger.attempts.get(offset, 0))
        for offset, lease in leases:
            ledger.lease(offset, lease)
        ledger.displaced.update((offset, lease) for offset, lease in displaced if not ledger.has_ended(offset))
        for lane, run in holds:
            if lane not in told:
                ledger.holds[lane], ledger.holders[lane], ledger.places[lane] = run, -1, -1
        # The run that a lane waits for, and the record that holds it, may be in two records of the checkpoint.
        ledger.holders.update((lane, offset) for lane, offset in holders if lane not in told)
        ledger.places.update((lane, offset) for lane, offset in places if lane not in told)
        for name, memory in remembered:
            ledger.remember(name, memory)
        return parts
    return 0


def _entries_of(state: Mapping[str, Any], name: str) -> list[list[Any]]:
    return [a_list(entry) for entry in a_list(state.get(name, []))]
