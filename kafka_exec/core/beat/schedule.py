"""Schedules of periodic entries: the slots that are due, and those that were missed.

A slot is a point in time that follows from the schedule alone, not from the time at which a node looks. The last fired slot
is in the log of claims; the slots after it are due. Times are epoch seconds of the brokers' clock.
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

#: A slot is missed when it is late by more seconds than this, which is longer than a takeover from a lost node takes.
MISSED_AFTER = 15.0

#: At most so many slots of an entry are fired in one transaction. If more are due, the next transactions fire them.
MOST_AT_ONCE = 100

#: Missed slots are counted up to this number.
_MOST_COUNTED = 1000

_E = TypeVar("_E", bound=Enum)

_SHORTEST, _LONGEST = 0.05, 100 * 366 * 86400.0


class CatchUp(Enum):
    """The treatment of missed slots, which came while no node held the entry: one is fired, all are, or none."""

    SKIP = "skip"
    ONE = "one"
    ALL = "all"


class Overlap(Enum):
    """The treatment of a slot that comes during a run on the node: it waits, counts as missed, or stops the run."""

    QUEUE = "queue"
    SKIP = "skip"
    REPLACE = "replace"


class Rule(Protocol):
    """The slots of an entry."""

    def after(self, time: float) -> float:
        """The first slot after the given time."""


@dataclass(frozen=True)
class Grid:
    """Slots at a regular interval.

    Args:
        period: the interval, seconds.
        start: one of the slots; None: each slot follows the one before, and the first one follows the first claim.

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
    """Slots that a given function computes: those of a crontab, or of the sun.

    Args:
        next_after: returns the first slot after a time.
    """

    next_after: Callable[[float], float]

    def after(self, time: float) -> float:
        found = self.next_after(time)
        if not found > time:
            raise ConfigurationError(f"a schedule names {found!r} as the next time after {time!r}")
        return found


#: The shortest and the longest time between two questions to a schedule that must be asked, seconds.
_OFTEN, _SELDOM = 0.05, 300.0


@dataclass(frozen=True)
class Asked:
    """Slots that cannot be computed ahead: the node asks the schedule again and again. A slot is the time of a yes.

    Args:
        ask: called with the last slot and the time now; returns True if the entry is due, and the seconds until the next
            question.
    """

    ask: Callable[[float, float], tuple[bool, float]]

    def after(self, time: float) -> float:
        """The time of the first question after a slot, as the schedule answers at the slot."""
        return time + self.answer(time, time)[1]

    def answer(self, last: float, now: float) -> tuple[bool, float]:
        """True if the entry is due now, and the seconds until the next question."""
        yes, wait = self.ask(last, now)
        if type(wait) not in (int, float) or math.isnan(wait):
            raise ConfigurationError(f"a schedule says that it is to be asked again in {wait!r} seconds")
        return bool(yes), min(max(wait, _OFTEN), _SELDOM)


class Due(NamedTuple):
    """The slots to fire now.

    Attributes:
        slots: the slots in ascending order.
        missed: the number of missed slots before them.
        passed: the last missed slot, if no slot after it is fired; else None.
        again: the schedule was asked and has said no: the time of the next question; else None.
    """

    slots: tuple[float, ...] = ()
    missed: int = 0
    passed: float | None = None
    again: float | None = None


def due(rule: Rule, last: float, now: float, catch_up: CatchUp) -> Due:
    """The slots that are due.

    Args:
        last: the last slot that was fired or missed; before the first one, the time at which the entry began.
        now: the time.
        catch_up: the treatment of missed slots.
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
    """A later time after which fewer slots are due, and the number of slots before it."""
    slots = _slots(rule, last, now, _MOST_COUNTED)
    if len(slots) < _MOST_COUNTED:
        return last, 0
    if isinstance(rule, Grid):
        # Whole steps from a slot: counting one by one would lead to the same slot, only later.
        steps = math.floor((now - slots[-1]) / rule.period) - 1
        return (slots[-1] + steps * rule.period, len(slots) + steps) if steps > 0 else (slots[-1], len(slots))
    window = (slots[-1] - last) / _MOST_COUNTED
    while rule.after(now - window) > now:
        window *= 2
    return max(slots[-1], now - window), len(slots)


# -- the options of an entry --------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Policy:
    """The options of an entry beside its schedule.

    Attributes:
        catch_up: the treatment of missed slots.
        max_running: how many of its runs may be under way at a time; others wait in their queue.
        max_duration: the time limit of a run, seconds; None: none.
        max_executions_on_node: after so many firings a node passes the entry on; None: never.
        labels: a node must have all of these labels to claim the entry.
        on_node: the node that holds the entry runs the task itself; no message is sent.
        overlap: with on_node: the treatment of a slot that comes during a run.
        after_end: with on_node: the period begins when a run ends.
        claim_heartbeat: the time between two repetitions of the claim, seconds; None: as the settings say.
        claim_wait: the longest time that a node waits before it claims the entry when it is free, seconds.
        takeover_wait: the time for which the holder must be lost before another node takes the entry over, seconds.

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
        """The policy of an entry's options. ``catch_up``: the default of that option.

        Raises:
            ConfigurationError: a value is wrong, or two values do not go together.
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
        """The names of all options."""
        return frozenset(cls.__dataclass_fields__)

    def able(self, labels: Collection[str]) -> bool:
        """True if a node with these labels may claim the entry."""
        return self.labels <= frozenset(labels)

    def lane(self, entry: str, runs: int) -> str:
        """The ordering key of a run: runs of one key do not overlap. ``runs``: the number of runs before it."""
        return f"beat {entry}" if self.max_running == 1 else f"beat {entry} {runs % self.max_running}"

    def facts(self) -> dict[str, Any]:
        """The policy as a JSON object."""
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
    """The treatment of missed slots with this name.

    Raises:
        ConfigurationError: no treatment has this name.
    """
    return _read("catch_up", CatchUp, value)


def _read(what: str, kind: type[_E], value: Any) -> _E:
    try:
        return kind(value)
    except ValueError:
        names = ", ".join(str(each.value) for each in kind)
        raise ConfigurationError(f"{what} must be one of {names}, not {value!r}") from None


def definition_hash(*facts: Any) -> str:
    """The hash of an entry's definition. The facts must be JSON values, or have the same ``repr`` in every process."""
    return blake2b(json.dumps(facts, sort_keys=True, default=repr).encode(), digest_size=8).hexdigest()


def _seconds(what: str, value: object, least: float) -> None:
    if type(value) not in (int, float) or not least <= value <= _LONGEST:  # type: ignore[operator]
        raise ConfigurationError(f"{what} must be a number of seconds from {least} to {_LONGEST:.0f}, not {value!r}")
