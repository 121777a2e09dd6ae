"""A state that is too large for its topic is told nevertheless, ever smaller, until it fits: a task must come to its end."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Any

from kafka_exec.core.record.plain import cut, cut_middle, shown
from kafka_exec.core.results.state_record import Raised, StateRecord

#: So much stays of arguments, tracebacks and exceptions that are cut, characters.
_ARGUMENTS = 200
_TRACEBACK = 8_000
_EXCEPTION = 10_000

#: What stays at last of any text that is not needed.
_LEAST = 100

#: Makes what a task has raised no longer than so many characters: as it is stored, and as it is told.
Shorten = Callable[[int], tuple[Any, Raised]]


def smaller(record: StateRecord, shorten: Shorten | None) -> Iterator[StateRecord]:
    """A record, then the same ever smaller: its arguments give way, its traceback, its children, then what was raised.

    Args:
        shorten: None: the task has raised nothing. What it has returned is never cut.
    """
    yield record
    if record.args is not None or record.kwargs is not None:
        record = replace(record, args=_left_out(record.args), kwargs=_left_out(record.kwargs))
        yield record
    if record.traceback is not None and len(record.traceback) > _TRACEBACK:
        record = replace(record, traceback=cut_middle(record.traceback, _TRACEBACK))
        yield record
    if record.children:
        record = replace(record, children=None)
        yield record
    if shorten is not None:
        result, exception = shorten(_EXCEPTION)
        yield replace(record, result=result, exception=exception)
        result, exception = shorten(_LEAST)
        yield replace(_without_long_texts(record), result=result, exception=exception, args=None, kwargs=None)


def _left_out(arguments: Any) -> Any:
    """What stands in the place of arguments, in their form."""
    if arguments is None or not arguments:
        return arguments
    told = f"left out, too large to be stored: {shown(arguments, _ARGUMENTS)}"
    return {"…": told} if isinstance(arguments, Mapping) else [told]


def _without_long_texts(record: StateRecord) -> StateRecord:
    changes: dict[str, Any] = {}
    for name, value in vars(record).items():
        if isinstance(value, str) and name not in ("id", "state", "status", "previous"):
            changes[name] = cut(value, _LEAST)
    return replace(record, **changes)
