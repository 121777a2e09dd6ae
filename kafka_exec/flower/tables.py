"""Tables of what the API answers: columns, and the acts on a row with the forms that ask for them."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

from kafka_exec.core.overview.times import time_of
from kafka_exec.flower.forms import BY_NAME, IN_PATH, FormField, fields

#: A thing in an answer of the API.
Facts = Mapping[str, Any]

#: Fields that are times, epoch seconds.
_TIMES = frozenset(
    {"at", "created", "deadline", "due", "finished", "fired", "heard", "last", "next", "since", "started", "until"}
)


class Column(NamedTuple):
    """A column of a table.

    Attributes:
        text: the name of a field, or a function of the facts and of now, epoch seconds.
        link: the address below ``/kafka/`` to which it leads; empty: to none.
    """

    title: str
    text: str | Callable[[Facts, float], str]
    link: Callable[[Facts], str] = lambda facts: ""

    def of(self, facts: Facts, now: float) -> str:
        """The text for a row."""
        if isinstance(self.text, str):
            return shown(self.text, facts.get(self.text))
        return self.text(facts, now)


class PageAct(NamedTuple):
    """An act on a row, by an operation of the API.

    Attributes:
        path: the parts of the operation's path.
        fields: those of the body that the user fills.
        given: what they have at first.
        applies: tells if there is something to act on.
    """

    label: str
    operation: str
    path: Callable[[Facts], Mapping[str, str]]
    fields: tuple[str, ...] = ()
    given: Callable[[Facts], Facts] = lambda facts: {}
    applies: Callable[[Facts], bool] = lambda facts: True


class ListPage(NamedTuple):
    """A page that lists things.

    Attributes:
        operation: the name of the operation that lists them.
        rows: the field of its answer that has them.
        acts: on each row.
        acts_on_all: on all that the filter chooses; their facts are the filter.
    """

    title: str
    operation: str
    columns: tuple[Column, ...]
    acts: tuple[PageAct, ...] = ()
    acts_on_all: tuple[PageAct, ...] = ()
    rows: str = "items"


def shown(name: str, value: Any) -> str:
    """The text of a field for people."""
    if value is None or value is False or value == [] or value == {}:
        return ""
    if value is True:
        return "yes"
    if name in _TIMES and isinstance(value, (int, float)):
        return time_of(value)
    if isinstance(value, list) and all(isinstance(each, str) for each in value):
        return ", ".join(value)
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


class TableCell(NamedTuple):
    """A cell of a table. ``title``: its column's; ``link``: the address below ``/kafka/``."""

    title: str
    text: str
    link: str


class ActForm(NamedTuple):
    """The form of an act. ``hint``: says what it does; ``hidden``: the fields that are filled already."""

    label: str
    operation: str
    hint: str
    hidden: Mapping[str, str]
    fields: list[FormField]


class TableRow(NamedTuple):
    """A row of a table."""

    cells: list[TableCell]
    forms: list[ActForm]


def table(columns: Iterable[Column], acts: Iterable[PageAct], found: Iterable[Facts], now: float) -> list[TableRow]:
    """The rows for some things. ``now``: epoch seconds."""
    columns, acts = list(columns), list(acts)
    return [
        TableRow([TableCell(each.title, each.of(facts, now), each.link(facts)) for each in columns], forms(acts, facts))
        for facts in found
    ]


def forms(acts: Iterable[PageAct], facts: Facts) -> list[ActForm]:
    """The forms of the acts that apply to a thing."""
    return [_form(each, facts) for each in acts if each.applies(facts)]


def _form(act: PageAct, facts: Facts) -> ActForm:
    operation = BY_NAME[act.operation]
    hidden = {IN_PATH + name: value for name, value in act.path(facts).items()}
    asked = {name: operation.body[name] for name in act.fields}
    return ActForm(
        act.label, act.operation, operation.text, hidden, fields(asked, act.given(facts), operation.required)
    )
