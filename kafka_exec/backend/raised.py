"""Exceptions of tasks in the form that is stored: of any type, with any arguments, they must be readable again."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from typing import Any

from celery.utils.serialization import UnpickleableExceptionWrapper, ensure_serializable

from kafka_exec.core.record.plain import cut, plain, shown
from kafka_exec.core.results.state_record import Raised

#: A shortened exception keeps so many arguments.
_MOST_ARGUMENTS = 20
_LONGEST_NAME = 200  # characters

_SCALARS = (bool, int, float, type(None))


def described(error: BaseException) -> dict[str, Any]:
    """An exception in Celery's form, of texts only: for exceptions that Celery itself cannot prepare."""
    kind = type(error)
    return {"exc_type": str(kind.__name__), "exc_message": (shown(error),), "exc_module": str(kind.__module__)}


def unwrapped(error: UnpickleableExceptionWrapper, encode: Callable[[Any], Any]) -> dict[str, Any]:
    """An exception that could not be pickled, in Celery's form, with its own type instead of its wrapper's."""
    return {
        "exc_type": str(error.exc_cls_name),
        "exc_message": ensure_serializable(error.exc_args, encode),
        "exc_module": str(error.exc_module),
    }


def facts(stored: Any) -> Raised | None:
    """The facts of an exception in Celery's form; None if ``stored`` is something else."""
    parts = _parts(stored)
    if parts is None:
        return None
    kind, message, module = parts
    return Raised(kind, plain(message), module)


def shorter(stored: Any, longest: int) -> dict[str, Any]:
    """An exception in Celery's form, with arguments of plain types that have ``longest`` characters together at most."""
    kind, message, module = _parts(stored) or ("Exception", stored, None)
    every = list(message) if isinstance(message, (list, tuple)) else [message]
    some = every[:_MOST_ARGUMENTS]
    longest = max(1, longest // max(1, len(some)))
    told = [_shorter(argument, longest) for argument in some]
    if len(every) > len(some):
        told.append(f"… and {len(every) - len(some)} more")
    return {
        "exc_type": cut(kind, _LONGEST_NAME),
        "exc_message": told,
        "exc_module": None if module is None else cut(module, _LONGEST_NAME),
    }


def _shorter(argument: Any, longest: int) -> Any:
    if isinstance(argument, str):
        return cut(argument, longest)
    if isinstance(argument, bytes):
        return bytes(argument[:longest])
    return argument if type(argument) in _SCALARS and plain(argument) is argument else shown(argument, longest)


def revived(stored: Any) -> BaseException | None:
    """An exception of its own type, made without calling its class: some classes take other arguments than they keep.

    The exception lacks the attributes that only that call would have set. It is returned only if its text can be shown
    without them; otherwise None.
    """
    kind, message, module = _parts(stored) or ("", None, None)
    found: Any = sys.modules.get(module or "")
    for name in kind.split("."):
        found = getattr(found, name, None)
    if not (isinstance(found, type) and issubclass(found, BaseException)):
        return None
    arguments = tuple(message) if isinstance(message, (list, tuple)) else (message,)
    try:
        error = found.__new__(found, *arguments)
        error.args = arguments
        is_shown = isinstance(str(error), str) and isinstance(repr(error), str)
    except Exception:
        return None
    return error if is_shown else None


def _parts(stored: Any) -> tuple[str, Any, str | None] | None:
    """The type, arguments and module of a stored exception; None if it is not an exception."""
    if isinstance(stored, UnpickleableExceptionWrapper):
        return str(stored.exc_cls_name), stored.exc_args, str(stored.exc_module)
    if isinstance(stored, BaseException):
        told = described(stored)
        try:
            return type(stored).__qualname__, stored.args, told["exc_module"]
        except Exception:
            return told["exc_type"], told["exc_message"], told["exc_module"]
    if not isinstance(stored, Mapping) or "exc_type" not in stored:
        return None
    module = stored.get("exc_module")
    return str(stored["exc_type"]), stored.get("exc_message"), module if isinstance(module, str) else None
