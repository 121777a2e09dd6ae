"""Periodic entries of Celery with the options of kafka_exec, such as which nodes may fire them."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from functools import partial
from typing import Any

from celery import beat

from kafka_exec.beat.rules import parsed, rule_of, text_of
from kafka_exec.beat.run_messages import BeginRun
from kafka_exec.core.beat.agenda import Plan
from kafka_exec.core.beat.claimant import Firing
from kafka_exec.core.beat.schedule import Asked, CatchUp, Grid, Policy, definition_hash
from kafka_exec.core.message.envelope import FENCE, ORDERING_KEY
from kafka_exec.errors import ConfigurationError

#: The header by which a fired task's request has the slot that it was fired for, epoch seconds.
SLOT = "slot"

#: The option by which an entry says when its slots begin.
START = "start"

_OURS = Policy.names() | {START}

#: The options of Celery that have a meaning for an entry that runs on its node.
_ON_NODE = frozenset({"headers"})

#: The fields of an entry that was added at run time.
_GIVEN = frozenset({"task", "schedule", "args", "kwargs", "options"})


class PeriodicEntry(beat.ScheduleEntry):  # type: ignore[misc]
    """Celery's entry. The options of kafka_exec may stand beside Celery's own keys, or among its ``options``."""

    options: dict[str, Any]

    def __init__(self, *args: Any, ours: Mapping[str, Any] | None = None, **kwargs: Any) -> None:
        told = {name: kwargs.pop(name) for name in _OURS & kwargs.keys()}
        super().__init__(*args, **kwargs)
        among = {name: value for name, value in self.options.items() if name in _OURS}
        self.ours = {**(ours or {}), **among, **told}
        self.options = {name: value for name, value in self.options.items() if name not in _OURS}

    def __reduce__(self) -> tuple[Any, ...]:
        return partial(type(self), ours=self.ours), super().__reduce__()[1]

    def update(self, other: Any) -> None:
        """Takes over another entry's definition, with the options of kafka_exec."""
        super().update(other)
        self.ours = getattr(other, "ours", {})

    def editable_fields_equal(self, other: Any) -> bool:
        """True if another entry has the same definition, with the options of kafka_exec."""
        return super().editable_fields_equal(other) and self.ours == getattr(other, "ours", {})

    def plan(self, catch_up: str, **changes: Any) -> Plan:
        """The entry's plan for the core, which decides when to fire it.

        Args:
            catch_up: the catch-up of an entry that has none of its own.
            changes: the changes at run time.

        Raises:
            ConfigurationError: an option of the entry is wrong.
        """
        try:
            policy = Policy.read(self.ours, catch_up)
            rule = rule_of(self.schedule, _time(self.ours.get(START)))
            if policy.after_end and (not isinstance(rule, Grid) or rule.start is not None):
                raise ConfigurationError("after_end goes with an interval that has no start")
            if isinstance(rule, Asked) and policy.catch_up is not CatchUp.ONE and "catch_up" in self.ours:
                raise ConfigurationError(
                    "catch_up goes with no schedule that is asked by is_due: nobody knows what it missed"
                )
            if policy.on_node and (wrong := self.options.keys() - _ON_NODE):
                raise ConfigurationError(f"an entry with on_node sends no message: remove {', '.join(sorted(wrong))}")
            return Plan(rule, policy, self.definition(policy), **changes)
        except ConfigurationError as error:
            raise ConfigurationError(f"periodic entry {self.name}: {error}") from None

    def definition(self, policy: Policy) -> str:
        """The hash of the entry's whole definition."""
        return definition_hash(
            self.task,
            text_of(self.schedule),
            _plain(self.args),
            _plain(self.kwargs),
            _plain(self.options),
            policy.facts(),
            _time(self.ours.get(START)),
        )

    def facts(self, catch_up: str) -> dict[str, Any]:
        """The facts that the entry's row in Kafka has."""
        plan = self.plan(catch_up)
        return {
            "definition": plan.definition,
            "task": self.task,
            "schedule": text_of(self.schedule),
            "policy": plan.policy.facts(),
            "start": _time(self.ours.get(START)),
        }

    def fired(self, firing: Firing, policy: Policy, runs: int) -> PeriodicEntry:
        """A copy of the entry with the options of one firing."""
        entry = type(self)(**dict(self))
        options = {
            ORDERING_KEY: policy.lane(self.name, runs),
            **({} if policy.max_duration is None else {"time_limit": policy.max_duration}),
            **self.options,
        }
        entry.options = {
            **options,
            "headers": {**(options.get("headers") or {}), SLOT: firing.slot},
            "task_id": firing.run,
            "retry": False,
        }
        return entry

    def run(self, firing: Firing, policy: Policy, fence: int, hostname: str) -> BeginRun:
        """One firing as a run on this node. ``fence``: the claim's epoch, greater than that of each claim before it."""
        request = {
            **(self.options.get("headers") or {}),
            "id": firing.run,
            "root_id": firing.run,
            "task": self.task,
            "retries": 0,
            "hostname": hostname,
            SLOT: firing.slot,
            FENCE: fence,
            "timelimit": (None, policy.max_duration),
            "delivery_info": {},
            # This flag keeps Celery from publishing in retry() and replace(): the process that runs the task does it all.
            "is_eager": True,
        }
        return BeginRun(self.task, tuple(self.args or ()), dict(self.kwargs or {}), request)


def entry_of(name: str, given: Mapping[str, Any], app: Any) -> PeriodicEntry:
    """Makes an entry that was added at run time from its stored definition.

    Raises:
        ConfigurationError: an option of the entry is wrong.
    """
    unknown = given.keys() - _GIVEN - _OURS
    if unknown:
        raise ConfigurationError(f"periodic entry {name}: nobody knows {', '.join(sorted(unknown))}")
    if not isinstance(given.get("task"), str) or not isinstance(given.get("schedule"), (str, int, float)):
        raise ConfigurationError(f"periodic entry {name}: it needs the name of a task, and a schedule")
    try:
        schedule = parsed(str(given["schedule"]), app)
    except ConfigurationError as error:
        raise ConfigurationError(f"periodic entry {name}: {error}") from None
    entry = PeriodicEntry(**{**given, "name": name, "app": app, "schedule": schedule})
    entry.plan("one")
    return entry


def _time(value: Any) -> float | None:
    if value is None or isinstance(value, (int, float)):
        return value
    if isinstance(value, str):
        try:
            value = datetime.fromisoformat(value)
        except ValueError:
            raise ConfigurationError(f"start must be a time, not {value!r}") from None
    if isinstance(value, datetime):
        if value.tzinfo is None:
            raise ConfigurationError(f"start must say its time zone: {value}")
        return value.timestamp()
    raise ConfigurationError(f"start must be a time, not {value!r}")


def _plain(value: Any) -> Any:
    """Arguments in a form that is the same in all processes, to compare definitions: it has no addresses of objects."""
    if isinstance(value, Mapping):
        return {str(key): _plain(each) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(each) for each in value]
    return value if isinstance(value, (str, int, float, bool, type(None))) else type(value).__qualname__
