"""Smaller versions of a state record that is too large for its topic, so that the end of a task can always be written."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Any

from kafka_exec.core.record.plain import cut, cut_middle, shown
from kafka_exec.core.results.state_record import Raised, StateRecord

#: The lengths to which arguments, tracebacks and exceptions are cut, characters.
_ARGUMENTS = 200
_TRACEBACK = 8_000
_EXCEPTION = 10_000

#: The length to which all texts are cut in the smallest version, characters.
_LEAST = 100

#: Returns the exception of a task, cut to so many characters: as a result, and as the record's ``exception``.
Shorten = Callable[[int], tuple[Any, Raised]]


def smaller(record: StateRecord, shorten: Shorten | None) -> Iterator[StateRecord]:
    """The record, then smaller versions of it: without arguments, traceback, children, at last with a cut exception.

    Args:
        shorten: cuts the exception; None: the task has raised none. The result of a task is never cut.
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


#: The replacement for arguments begins so.
_LEFT_OUT = "left out, too large to be stored: "


def _left_out(arguments: Any) -> Any:
    """The replacement for arguments that are left out: again a list or a mapping."""
    if arguments is None or not arguments:
        return arguments
    told = f"{_LEFT_OUT}{shown(arguments, _ARGUMENTS)}"
    return {"…": told} if isinstance(arguments, Mapping) else [told]


def is_left_out(arguments: Any) -> bool:
    """True if the arguments in a state record are a replacement for those of the task."""
    values = list(arguments.values() if isinstance(arguments, Mapping) else arguments or ())
    return len(values) == 1 and isinstance(values[0], str) and values[0].startswith(_LEFT_OUT)


def _without_long_texts(record: StateRecord) -> StateRecord:
    changes: dict[str, Any] = {}
    for name, value in vars(record).items():
        if isinstance(value, str) and name not in ("id", "state", "status", "previous"):
            changes[name] = cut(value, _LEAST)
    return replace(record, **changes)
