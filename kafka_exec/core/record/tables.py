"""Tables of states and events in Markdown, for the pages that are printed from them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import Enum
from typing import Any


def markdown(
    title: str, origin: str, columns: Sequence[str], rows: Mapping[Any, Mapping[Any, Sequence[Any]]], others: str
) -> str:
    """A page with a section for each state.

    Args:
        origin: a sentence about where the page comes from.
        columns: the names of the event's column, and of those of a cell's fields.
        rows: by state and event, the cells. All are enumerations; a field of a cell is a member, a tuple of them, or None.
        others: the heading of the list of the events that a state has no cell for.
    """
    lines = [f"# {title}", "", origin, ""]
    for state, row in rows.items():
        lines += [f"## {state.value}", ""]
        if row:
            lines += [_line(columns), "|" + "---|" * len(columns)]
            lines += [_line([event.value, *map(_text, cell)]) for event, cell in row.items()]
            lines.append("")
        lines += [f"{others}: {', '.join(_name(event) for event in _events(rows) if event not in row)}.", ""]
    return "\n".join(lines)


def _events(rows: Mapping[Any, Mapping[Any, Any]]) -> Any:
    return type(next(event for row in rows.values() for event in row))


def _line(texts: Sequence[str]) -> str:
    return f"| {' | '.join(texts)} |"


def _text(found: Any) -> str:
    if isinstance(found, tuple):
        return ", ".join(each.value for each in found)
    return _name(found) if isinstance(found, Enum) else ""


def _name(member: Enum) -> str:
    """The name of a state or an event: its value without what follows a colon."""
    return str(member.value).partition(":")[0]
