"""Periodic entries: which of their times, the slots, are due, and what becomes of those that were missed.

Slots are points in time that follow from the schedule alone, not from when somebody looks. The last one that was fired is in
the log of claims; what is due are the slots after it. Times are epoch seconds of the brokers' clock.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from enum import Enum
from hashlib import blake2b
from typing import Any, NamedTuple, Protocol, TypeVar

from kafka_exec.core.beat.claimant import CLAIM_WAIT
from kafka_exec.errors import ConfigurationError

#: A slot is missed when it is late by more than this, seconds: longer than it takes to notice a lost node and take over.
MISSED_AFTER = 15.0

#: Slots of one entry that are fired in one go; the rest of a long past follows in the next ones.
MOST_AT_ONCE = 100

#: Missed slots are counted up to this number.
_MOST_COUNTED = 1000

_E = TypeVar("_E", bound=Enum)

_SHORTEST, _LONGEST = 0.05, 100 * 366 * 86400.0


class CatchUp(Enum):
    """What becomes of slots that were missed since no node was there."""

    SKIP = "skip"
    ONE = "one"
    ALL = "all"


class Overlap(Enum):
    """What becomes of a slot that comes while a run of the node's own is under way."""

    QUEUE = "queue"
    SKIP = "skip"
    REPLACE = "replace"


class Rule(Protocol):
    """When an entry is due."""

    def after(self, time: float) -> float:
        """The first slot after a time."""


@dataclass(frozen=True)
class Grid:
    """Every so many seconds.

    Args:
        period: seconds.
        start: a slot that is one; None: slots follow the one before, the first one the time of the first claim.

    Raises:
        ConfigurationError: the period is shorter than 50 ms, or no number.
    """

    period: float
    start: float | None = None

    def __post_init__(self) -> None:
        _seconds("the period of a schedule", self.period, _SHORTEST)
        if self.start is not None and not math.isfinite(self.start):
            raise ConfigurationError(f"the start of a schedule must be a time, not {self.start!r}")

    def after(self, time: float) -> float:
        if self.start is None:
            return time + self.period
        if time < self.start:
            return self.start
        steps = math.floor((time - self.start) / self.period) + 1
        slot = self.start + steps * self.period
        return slot if slot > time else self.start + (steps + 1) * self.period


@dataclass(frozen=True)
class Calendar:
    """Times that somebody else computes: crontab, solar.

    Args:
        next_after: the first slot after a time.
    """

    next_after: Callable[[float], float]

    def after(self, time: float) -> float:
        found = self.next_after(time)
        if not found > time:
            raise ConfigurationError(f"a schedule names {found!r} as the next time after {time!r}")
        return found


#: Who must be asked whether it is time is asked this often at most, and at least, seconds.
_OFTEN, _SELDOM = 0.05, 300.0


@dataclass(frozen=True)
class Asked:
    """Times that nobody can know before they come: somebody is asked, again and again. A slot is when the answer was yes.

    Args:
        ask: whether it is time, and in how many seconds to ask again, of the last slot and the time.
    """

    ask: Callable[[float, float], tuple[bool, float]]

    def after(self, time: float) -> float:
        """When it is asked first after a slot: as was said at the slot."""
        return time + self.answer(time, time)[1]

    def answer(self, last: float, now: float) -> tuple[bool, float]:
        """Tells whether it is time now, and in how many seconds to ask again."""
        yes, wait = self.ask(last, now)
        if type(wait) not in (int, float) or math.isnan(wait):
            raise ConfigurationError(f"a schedule says that it is to be asked again in {wait!r} seconds")
        return bool(yes), min(max(wait, _OFTEN), _SELDOM)


class Due(NamedTuple):
    """What is to be fired now.

    Attributes:
        slots: in their order.
        missed: how many before them are not fired, and never will be.
        passed: the last slot that is missed and not followed by one that is fired; None: there is none.
        again: who was asked says no, and is to be asked again at this time; None: nobody was.
    """

    slots: tuple[float, ...] = ()
    missed: int = 0
    passed: float | None = None
    again: float | None = None


def due(rule: Rule, last: float, now: float, catch_up: CatchUp) -> Due:
    """The slots that are due.

    Args:
        last: the last slot that was fired or passed over; before the first one the time at which the entry began.
        now: the time.
        catch_up: which of the missed ones are fired.
    """
    if isinstance(rule, Asked):
        yes, wait = rule.answer(last, now)
        return Due((now,)) if yes else Due(again=now + wait)
    if catch_up is CatchUp.ALL:
        return Due(tuple(_slots(rule, last, now, MOST_AT_ONCE)))
    begin, missed = _shortened(rule, last, now)
    slots = _slots(rule, begin, now, _MOST_COUNTED)
    if not slots:
        return Due()
    missed += len(slots) - 1
    latest = slots[-1]
    if catch_up is CatchUp.SKIP and now - latest > MISSED_AFTER:
        return Due((), missed + 1, latest)
    return Due((latest,), missed)


def _slots(rule: Rule, last: float, now: float, most: int) -> list[float]:
    found: list[float] = []
    while len(found) < most and (slot := rule.after(found[-1] if found else last)) <= now:
        found.append(slot)
    return found


def _shortened(rule: Rule, last: float, now: float) -> tuple[float, int]:
    """A later time to begin at, from which few slots are due, and how many are left out."""
    slots = _slots(rule, last, now, _MOST_COUNTED)
    if len(slots) < _MOST_COUNTED:
        return last, 0
    if isinstance(rule, Grid):
        # In steps from a slot: the same floating-point numbers would follow one by one, only later.
        steps = math.floor((now - slots[-1]) / rule.period) - 1
        return (slots[-1] + steps * rule.period, len(slots) + steps) if steps > 0 else (slots[-1], len(slots))
    window = (slots[-1] - last) / _MOST_COUNTED
    while rule.after(now - window) > now:
        window *= 2
    return max(slots[-1], now - window), len(slots)


# -- what an entry says -------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Policy:
    """What an entry says beside its schedule.

    Attributes:
        catch_up: what becomes of missed slots.
        max_running: how many of its runs may be under way at a time; others wait in their queue.
        max_duration: after this time a run is stopped, seconds; None: never.
        max_executions_on_node: so often one node fires it, then another one may; None: as often as it can.
        labels: a node must have all of them to claim it.
        on_node: the node that holds it runs it itself; no message is sent.
        overlap: of such an entry: what becomes of a slot that comes during a run.
        after_end: of such an entry: its period begins when a run ends.
        claim_heartbeat: time between two repetitions of its claim, seconds; None: as the settings say.
        claim_wait: the longest that a node waits before it claims the entry when it is free, seconds.
        takeover_wait: how long the node that holds it must be lost before another one takes it over, seconds.

    Raises:
        ConfigurationError: a value is wrong.
    """

    catch_up: CatchUp = CatchUp.ONE
    max_running: int = 1
    max_duration: float | None = None
    max_executions_on_node: int | None = None
    labels: frozenset[str] = frozenset()
    on_node: bool = False
    overlap: Overlap = Overlap.QUEUE
    after_end: bool = False
    claim_heartbeat: float | None = None
    claim_wait: float = CLAIM_WAIT
    takeover_wait: float = 0.0

    @classmethod
    def read(cls, given: Mapping[str, Any], catch_up: str) -> Policy:
        """The policy of an entry's options. ``catch_up``: what counts if it does not say.

        Raises:
            ConfigurationError: a value is wrong, or two do not go together.
        """
        for name in ("on_node", "after_end"):
            if type(given.get(name, False)) is not bool:
                raise ConfigurationError(f"{name} must be true or false, not {given[name]!r}")
        labels = given.get("labels") or ()
        if isinstance(labels, str) or not all(isinstance(label, str) and label for label in labels):
            raise ConfigurationError(f"labels must be a list of texts, not {labels!r}")
        for name in ("max_running", "max_executions_on_node"):
            if (value := given.get(name)) is not None and (type(value) is not int or value < 1):
                raise ConfigurationError(f"{name} must be a whole number greater than 0, not {value!r}")
        for name, least in (("max_duration", _SHORTEST), ("claim_heartbeat", 1.0)):
            if given.get(name) is not None:
                _seconds(name, given[name], least)
        for name in ("claim_wait", "takeover_wait"):
            _seconds(name, given.get(name, 0.0), 0.0)
        found = cls(
            catch_up=read_catch_up(given.get("catch_up", catch_up)),
            max_running=given.get("max_running") or 1,
            max_duration=given.get("max_duration"),
            max_executions_on_node=given.get("max_executions_on_node"),
            labels=frozenset(labels),
            on_node=given.get("on_node", False),
            overlap=_read("overlap", Overlap, given.get("overlap", Overlap.QUEUE.value)),
            after_end=given.get("after_end", False),
            claim_heartbeat=given.get("claim_heartbeat"),
            claim_wait=given.get("claim_wait", cls.claim_wait),
            takeover_wait=given.get("takeover_wait", cls.takeover_wait),
        )
        found._check()
        return found

    def _check(self) -> None:
        if not self.on_node and (self.after_end or self.overlap is not Overlap.QUEUE):
            raise ConfigurationError(
                "after_end, and an overlap other than queue, need on_node: a beat does not know when a worker's run ends"
            )
        if self.on_node and self.max_running > 1:
            raise ConfigurationError("max_running must be 1 with on_node: the node runs one at a time")
        if self.after_end and self.overlap is not Overlap.QUEUE:
            raise ConfigurationError(
                "after_end goes with no overlap: the next run is due when the one before has ended"
            )

    @classmethod
    def names(cls) -> frozenset[str]:
        """The names under which an entry may say something."""
        return frozenset(cls.__dataclass_fields__)

    def able(self, labels: Collection[str]) -> bool:
        """Whether a node with these labels may claim the entry."""
        return self.labels <= frozenset(labels)

    def lane(self, entry: str, runs: int) -> str:
        """The ordering key of a run: those of one key run one after the other. ``runs``: how many were before it."""
        return f"beat {entry}" if self.max_running == 1 else f"beat {entry} {runs % self.max_running}"

    def facts(self) -> dict[str, Any]:
        """The same as JSON has it."""
        return {
            "catch_up": self.catch_up.value,
            "max_running": self.max_running,
            "max_duration": self.max_duration,
            "max_executions_on_node": self.max_executions_on_node,
            "labels": sorted(self.labels),
            "on_node": self.on_node,
            "overlap": self.overlap.value,
            "after_end": self.after_end,
            "claim_heartbeat": self.claim_heartbeat,
            "claim_wait": self.claim_wait,
            "takeover_wait": self.takeover_wait,
        }


def read_catch_up(value: Any) -> CatchUp:
    """What becomes of missed slots, by its name.

    Raises:
        ConfigurationError: there is none of this name.
    """
    return _read("catch_up", CatchUp, value)


def _read(what: str, kind: type[_E], value: Any) -> _E:
    try:
        return kind(value)
    except ValueError:
        names = ", ".join(str(each.value) for each in kind)
        raise ConfigurationError(f"{what} must be one of {names}, not {value!r}") from None


def definition_hash(*facts: Any) -> str:
    """What tells one definition of an entry from another; the facts are JSON, or texts that say the same everywhere."""
    return blake2b(json.dumps(facts, sort_keys=True, default=repr).encode(), digest_size=8).hexdigest()


def _seconds(what: str, value: object, least: float) -> None:
    if type(value) not in (int, float) or not least <= value <= _LONGEST:  # type: ignore[operator]
        raise ConfigurationError(f"{what} must be a number of seconds from {least} to {_LONGEST:.0f}, not {value!r}")
