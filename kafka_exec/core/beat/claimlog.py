"""The log of claims: its records, and the fold that finds the holder of each entry. At one offset all nodes see the same.

Several nodes may send CLAIMING records with the same reference, which is the offset of the last UNCLAIMED record. The one
with the lowest offset wins, and its offset is the claim's epoch. A record with another epoch than the present one is
outdated: it is counted, and changes nothing.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from enum import Enum, auto
from typing import Any

from kafka_exec.core.record.fields import a_list, an_object, flag, from_json, moment, shown, text, whole
from kafka_exec.errors import Undecodable

#: The version of the records' format.
VERSION = 1

#: The reference of an entry's first claim.
NEVER = -1

#: The largest number of missed slots in one record, and the largest sum that is read from a checkpoint.
_MOST_MISSED = 10**9
_MOST_COUNTED = 10**15

#: The largest epoch.
_FARTHEST = 2**62

#: The number of entries in one record of a checkpoint, which is far smaller than a topic accepts.
_PART = 1000


class RecordKind(Enum):
    """The kind of a record. None says that a node is alive: nodes send heartbeats of their own, in ``PREFIX.nodes``."""

    CLAIMING = "CLAIMING"
    CLAIMED = "CLAIMED"
    HEARTBEAT = "HEARTBEAT"
    HANDLING = "HANDLING"
    UNCLAIMED = "UNCLAIMED"
    DO_INFORMATION_SEND = "DO_INFORMATION_SEND"
    CHECKPOINT = "CHECKPOINT"


@dataclass(frozen=True)
class Signal:
    """A record of the log. Times are epoch seconds of the brokers' clock.

    Attributes:
        kind: the kind of the record.
        node: the incarnation that has sent it.
        name: the node's name, for people.
        entry: the periodic entry; empty if the record is about none.
        epoch: the claim's epoch; in CLAIMING the reference, in CHECKPOINT the offset before which ``state`` is valid.
        definition: in CLAIMING: the hash of the entry's definition on that node.
        slot: in HANDLING: the time for which the entry is fired.
        missed: in HANDLING: the number of slots before it that were missed.
        run: in HANDLING: the task id.
        held: in HANDLING: the node runs the task itself, until it sends CLAIMED; in CLAIMED: that run still goes on.
        request: in HANDLING: the time of the request to run now that it answers; the slot is that time.
        state: in CHECKPOINT: the facts of each entry.
        part: in CHECKPOINT: the number of this part, from 0, and the number of all parts.
    """

    kind: RecordKind
    node: str
    name: str = ""
    entry: str = ""
    epoch: int = NEVER
    definition: str = ""
    slot: float | None = None
    missed: int = 0
    run: str = ""
    held: bool = False
    request: float | None = None
    state: Mapping[str, Mapping[str, Any]] | None = None
    part: tuple[int, int] = (0, 1)

    def encode(self) -> bytes:
        """The record's value: a JSON object, without the fields that have their default."""
        told = {"version": VERSION, "kind": self.kind.value}
        for name, default in _DEFAULTS.items():
            if (value := getattr(self, name)) != default:
                told[name] = value
        return json.dumps(told, separators=(",", ":")).encode()

    @classmethod
    def decode(cls, value: bytes | None) -> Signal:
        """The signal of a record's value.

        Raises:
            Undecodable: the value is no signal, or one of a later version.
        """
        try:
            told = an_object(from_json(value))
            if told["version"] != VERSION:
                raise Undecodable("unknown-version", f"the record of a claim has version {shown(told['version'])}")
            known = {name: read(told[name]) for name, read in _READERS.items() if name in told}
            found = cls(RecordKind(text(told["kind"])), **{"node": text(told["node"]), **known})
            if found.kind is RecordKind.CHECKPOINT:
                whole(found.epoch)
                an_object(found.state)
        except (ValueError, KeyError) as error:
            raise Undecodable("malformed", f"the record of a claim cannot be read: {error!r:.100}") from None
        return found


#: The kinds by which a node says that it holds an entry.
_ASSERTIONS = frozenset({RecordKind.CLAIMED, RecordKind.HEARTBEAT, RecordKind.HANDLING})

_DEFAULTS: Mapping[str, Any] = {
    "node": None,
    "name": "",
    "entry": "",
    "epoch": NEVER,
    "definition": "",
    "slot": None,
    "missed": 0,
    "run": "",
    "held": False,
    "request": None,
    "state": None,
    "part": (0, 1),
}


@dataclass(frozen=True)
class Standing:
    """The standing of an entry in the log. Times are epoch seconds of the brokers' clock.

    Attributes:
        holder: the incarnation that holds the entry; empty if none does.
        name: the name of the holder, or of the last one, for people.
        epoch: the epoch of the present claim, or of the last one.
        reference: the offset of the last UNCLAIMED record, which the next claim must name.
        since: when the entry was claimed for the first time: its slots begin there.
        slot: the last fired slot.
        fired: when that slot was fired.
        run: the task id of that slot.
        handling: the holder runs the task itself, and the run has not ended.
        ended: when the last run on a holder's node ended.
        request: the last request to run now that was answered.
        runs: how often the entry was fired.
        missed: how many slots were missed.
        turns: how often the present holder has fired the entry.
        definition: the hash of the entry's definition on the holder's node.
    """

    holder: str = ""
    name: str = ""
    epoch: int = NEVER
    reference: int = NEVER
    since: float | None = None
    slot: float | None = None
    fired: float | None = None
    run: str = ""
    handling: bool = False
    ended: float | None = None
    request: float | None = None
    runs: int = 0
    missed: int = 0
    turns: int = 0
    definition: str = ""

    def last(self, *, after_end: bool = False) -> float | None:
        """The time after which the next slot comes; None if the entry was never claimed.

        Args:
            after_end: the entry's period begins when a run ends.
        """
        begin = self.slot if self.slot is not None else self.since
        return begin if begin is None or not after_end or self.ended is None else max(begin, self.ended)


class Verdict(Enum):
    """The verdict about a record: the effect that it has on its entry."""

    WON = auto()
    LATE = auto()
    ACCEPTED = auto()
    #: The record is of an earlier claim, and ignored.
    OUTDATED = auto()
    #: The record names the present claim, or a later one, and does not come from its holder.
    CONFLICT = auto()
    #: The record is about no entry.
    GENERAL = auto()


@dataclass
class ClaimLog:
    """The fold of the log's records, in their order.

    Attributes:
        next: the offset after the last record taken.
        outdated: the number of records of an earlier claim, and of records that came twice.
        conflicts: the number of records that did not come from the holder.
        whole: the log's beginning is not missing; if it is, an unknown node that says it is a holder is believed.
    """

    next: int = 0
    whole: bool = True
    outdated: int = 0
    conflicts: int = 0
    _standings: dict[str, Standing] = field(default_factory=dict)

    def standing(self, entry: str) -> Standing:
        """The standing of an entry."""
        return self._standings.get(entry, _UNKNOWN)

    def all(self) -> Mapping[str, Standing]:
        """The standings of all entries that have any, by entry."""
        return self._standings

    def take(self, signal: Signal, offset: int, at: float) -> Verdict:
        """Folds a record. ``at``: its log time, epoch seconds of the brokers' clock."""
        if offset < self.next:
            self.outdated += 1
            return Verdict.OUTDATED
        self.next = offset + 1
        if not signal.entry:
            return Verdict.GENERAL
        before = self.standing(signal.entry)
        if not self.whole and before is _UNKNOWN and signal.kind in _ASSERTIONS:
            before = replace(before, holder=signal.node, name=signal.name, epoch=signal.epoch, since=at)
        verdict = _judge(signal, before)
        if verdict is Verdict.OUTDATED:
            self.outdated += 1
        elif verdict is Verdict.CONFLICT:
            self.conflicts += 1
        elif verdict is not Verdict.LATE:
            self._standings[signal.entry] = _after(signal, before, offset, at)
        return verdict

    # -- checkpoints ---------------------------------------------------------------------------------------------------

    def checkpoint(self, node: str) -> list[Signal]:
        """The state before :attr:`next` as records. :func:`restored` folds them, not :meth:`take`."""
        entries = sorted(self._standings)
        parts = [entries[at : at + _PART] for at in range(0, len(entries), _PART)] or [[]]
        return [
            Signal(
                RecordKind.CHECKPOINT,
                node,
                epoch=self.next,
                state={entry: _facts(self._standings[entry]) for entry in part},
                part=(number, len(parts)),
            )
            for number, part in enumerate(parts)
        ]


def restored(signals: Sequence[Signal]) -> ClaimLog | None:
    """The state in the newest checkpoint of which all parts are there; None if there is none.

    The caller must take the records from the offset :attr:`ClaimLog.next` on, some of which may lie before the checkpoint.
    """
    parts: dict[tuple[str, int], dict[int, Signal]] = {}
    for signal in signals:
        if signal.kind is RecordKind.CHECKPOINT and signal.state is not None:
            parts.setdefault((signal.node, signal.epoch), {})[signal.part[0]] = signal
    complete = [
        (epoch, found) for (_, epoch), found in parts.items() if len(found) == next(iter(found.values())).part[1]
    ]
    if not complete:
        return None
    epoch, found = max(complete, key=lambda each: each[0])
    standings = {entry: Standing(**facts) for signal in found.values() for entry, facts in (signal.state or {}).items()}
    return ClaimLog(next=epoch, _standings=standings)


def _judge(signal: Signal, standing: Standing) -> Verdict:
    if signal.kind is RecordKind.CLAIMING:
        is_free = not standing.holder and signal.epoch == standing.reference
        return Verdict.WON if is_free else Verdict.LATE
    if not standing.holder or signal.epoch < standing.epoch:
        return Verdict.OUTDATED
    if signal.kind is RecordKind.UNCLAIMED:
        # A node that releases an entry on behalf of its holder has fenced the holder before.
        return Verdict.ACCEPTED if signal.epoch == standing.epoch else Verdict.CONFLICT
    is_holders = signal.epoch == standing.epoch and signal.node == standing.holder
    return Verdict.ACCEPTED if is_holders else Verdict.CONFLICT


def _after(signal: Signal, standing: Standing, offset: int, at: float) -> Standing:
    if signal.kind is RecordKind.CLAIMING:
        return replace(
            standing,
            holder=signal.node,
            name=signal.name,
            epoch=offset,
            since=at if standing.since is None else standing.since,
            definition=signal.definition,
            turns=0,
        )
    if signal.kind is RecordKind.UNCLAIMED:
        ended = at if standing.handling else standing.ended
        return replace(standing, holder="", reference=offset, handling=False, ended=ended)
    if signal.kind is RecordKind.HANDLING:
        fired = replace(
            standing,
            fired=at,
            run=signal.run,
            handling=signal.held,
            runs=standing.runs + 1,
            missed=standing.missed + signal.missed,
            turns=standing.turns + 1,
        )
        if signal.request is not None:
            return replace(fired, request=signal.request)
        return replace(fired, slot=signal.slot)
    if signal.kind is RecordKind.CLAIMED and standing.handling and not signal.held:
        return replace(standing, handling=False, ended=at)
    return standing


def _moment(value: Any) -> float | None:
    return None if value is None else moment(value)


def _epoch(value: Any) -> int:
    return whole(value, least=NEVER, most=_FARTHEST)


def _counted(value: Any) -> int:
    return min(whole(value), _MOST_COUNTED)


def _part(value: Any) -> tuple[int, int]:
    number, of = a_list(value)
    return whole(number, most=whole(of, least=1) - 1), of


def _state(value: Any) -> dict[str, dict[str, Any]] | None:
    if value is None:
        return None
    return {
        text(entry): {name: read(facts[name]) for name, read in _FACTS.items() if name in an_object(facts)}
        for entry, facts in an_object(value).items()
    }


#: The readers of a record's fields, and of an entry's facts in a checkpoint; other fields are of a later version.
_READERS: Mapping[str, Callable[[Any], Any]] = {
    **dict.fromkeys(("node", "name", "entry", "definition", "run"), text),
    **dict.fromkeys(("slot", "request"), _moment),
    "epoch": _epoch,
    "missed": lambda value: whole(value, most=_MOST_MISSED),
    "held": flag,
    "state": _state,
    "part": _part,
}
_FACTS: Mapping[str, Callable[[Any], Any]] = {
    **dict.fromkeys(("holder", "name", "run", "definition"), text),
    **dict.fromkeys(("since", "slot", "fired", "ended", "request"), _moment),
    **dict.fromkeys(("epoch", "reference"), _epoch),
    **dict.fromkeys(("runs", "missed", "turns"), _counted),
    "handling": flag,
}

_UNKNOWN = Standing()
_BLANK = asdict(_UNKNOWN)


def _facts(standing: Standing) -> dict[str, Any]:
    return {name: value for name, value in asdict(standing).items() if value != _BLANK[name]}
