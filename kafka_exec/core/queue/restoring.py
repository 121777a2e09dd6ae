"""The ledger of a partition that comes to a new owner, from the group's commit and the journal since then."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from typing import Any, NamedTuple

from kafka_exec.core.queue.checkpoints import add_checkpoint
from kafka_exec.core.queue.lanes import Lane
from kafka_exec.core.queue.ledger import Ledger
from kafka_exec.core.queue.progress import Progress
from kafka_exec.core.queue.transitions import FREED, HELD, Transition, lane_of, object_of


class JournalEntry(NamedTuple):
    """A record of the journal: its offset, and its value."""

    offset: int
    value: bytes | None


def restore(queue: str, journal: Iterable[JournalEntry], committed: Progress | None) -> tuple[Ledger, int]:
    """The ledger of a partition, and the number of records of the journal that are none.

    The checkpoint that the commit names is taken first, and then all transitions since the offset up to which it has folded
    the journal. Those that it holds already change nothing, since they come again in their order.

    Args:
        queue: the id of the queue's topic.
        journal: the records of the journal from :attr:`Progress.folded` of the commit on; without a commit all there are.
        committed: None: there is no commit of this topic. Kafka forgets those of a group that had no member for a week;
            every checkpoint counts then, but for those that come late.
    """
    entries = list(journal)
    ledger = Ledger(queue, Progress(low=0))
    named = None if committed is None else _named(entries, committed.checkpoint)
    for entry in named or ():
        add_checkpoint(ledger, entry.value)
    oddities = 0
    told: set[Lane] = set()
    outdated = _outdated(queue, entries) if committed is None else set()
    for entry in entries:
        if committed is None and entry.offset not in outdated:
            add_checkpoint(ledger, entry.value, told)
        heard = ledger.apply(entry.value)
        oddities += heard is None
        told.update(_lanes(heard or ()))
    if committed is not None:
        ledger.take_commit(committed)
    return ledger, oddities


def _lanes(heard: Iterable[tuple[Transition, str]]) -> Iterator[Lane]:
    """The lanes of which transitions tell for what they wait."""
    for transition, _ in heard:
        if transition.kind in (HELD, FREED):
            with suppress(ValueError, TypeError):  # a later version has written it
                yield lane_of(*transition.about[:2])


def _named(entries: list[JournalEntry], checkpoint: int) -> list[JournalEntry]:
    """The records of the checkpoint at an offset, in their order. Each may have been written several times, and late."""
    behind = [entry for entry in entries if entry.offset >= checkpoint]
    if not behind or behind[0].offset != checkpoint:
        return []
    found: dict[int, JournalEntry] = {}
    first = object_of(behind[0].value)
    for entry in behind:
        record = object_of(entry.value)
        if "checkpoint" in record and _name_of(record) == _name_of(first):
            part = record.get("part")
            found.setdefault(part if isinstance(part, int) else len(found), entry)
            if len(found) == first.get("parts", 1):
                break
    return [found[part] for part in sorted(found)]


def _outdated(queue: str, entries: list[JournalEntry]) -> set[int]:
    """The offsets of the records of checkpoints that were made before a whole one which comes before them.

    That one holds all that they do, and they may hold lanes that wait for nothing any more.
    """
    found: set[int] = set()
    newest = 0
    parts: dict[tuple[Any, Any], set[Any]] = {}
    for entry in entries:
        record = object_of(entry.value)
        folded = record.get("folded")
        if record.get("queue") != queue or "checkpoint" not in record or not isinstance(folded, int):
            continue
        if folded < newest:
            found.add(entry.offset)
        of_it = parts.setdefault(_name_of(record), set())
        of_it.add(str(record.get("part")))
        if len(of_it) == record.get("parts"):
            newest = max(newest, folded)
    return found


def _name_of(record: Mapping[str, Any]) -> tuple[Any, Any]:
    return record.get("incarnation", ""), record.get("name")
