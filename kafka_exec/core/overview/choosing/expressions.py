"""Expressions by which an operator chooses tasks: ``args[0] == 42 and not kwargs.customer == "7" or error ~ "timeout"``.

The grammar, in which a path names a part of a task, and a value is a JSON number, text, ``true``, ``false`` or ``null``::

    any        = all ("or" all)*
    all        = one ("and" one)*
    one        = "not" one | "(" any ")" | path operator value
    path       = name ("." name | "[" number "]" | "[" text "]")*
    operator   = "==" | "!=" | "<" | "<=" | ">" | ">=" | "~"

``~`` asks if a text has another one in it. A path that a task does not have equals nothing, is in no order and has no text.
"""

from __future__ import annotations

import json
import operator
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

from kafka_exec.errors import ConfigurationError

#: True if a task, as a mapping of its parts, is chosen.
Predicate = Callable[[Mapping[str, Any]], bool]

_TOKEN = re.compile(
    r"""\s*(?:
        (?P<text>"(?:[^"\\]|\\.)*")
      | (?P<number>-?(?:0|[1-9]\d{0,29})(?:\.\d{1,30})?(?:[eE][+-]?\d{1,3})?)
      | (?P<name>[A-Za-z_]\w*)
      | (?P<sign>==|!=|<=|>=|<|>|~|\(|\)|\[|\]|\.)
    )""",
    re.VERBOSE,
)
_ORDERS: Mapping[str, Callable[[Any, Any], bool]] = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}
_OPERATORS = ("==", "!=", "~", *_ORDERS)
_WORDS = {"true": True, "false": False, "null": None}

#: Parentheses and ``not`` may be in one another so deep.
_DEEPEST = 50


class _Missing:
    """The value of a path that a task does not have."""


class _Token(NamedTuple):
    kind: str
    text: str
    at: int


def parse(text: str, roots: frozenset[str]) -> Predicate:
    """The predicate of an expression. ``roots``: the names with which a path may begin.

    Raises:
        ConfigurationError: it is no expression; the message says where.
    """
    return _Parser(text, roots).whole()


class _Parser:
    def __init__(self, text: str, roots: frozenset[str]) -> None:
        self._text = text
        self._roots = roots
        self._tokens = list(_tokens(text))
        self._next = 0
        self._depth = 0

    def whole(self) -> Predicate:
        found = self._any()
        if self._peek().kind != "end":
            raise self._error("and, or, or the end")
        return found

    def _any(self) -> Predicate:
        parts = [self._all()]
        while self._skip("or"):
            parts.append(self._all())
        return parts[0] if len(parts) == 1 else lambda task: any(part(task) for part in parts)

    def _all(self) -> Predicate:
        parts = [self._one()]
        while self._skip("and"):
            parts.append(self._one())
        return parts[0] if len(parts) == 1 else lambda task: all(part(task) for part in parts)

    def _one(self) -> Predicate:
        self._depth += 1
        if self._depth > _DEEPEST:
            raise ConfigurationError(f"the expression is nested more than {_DEEPEST} times")
        try:
            if self._skip("not"):
                part = self._one()
                return lambda task: not part(task)
            if self._skip("("):
                inner = self._any()
                self._expect(")")
                return inner
            return self._comparison()
        finally:
            self._depth -= 1

    def _comparison(self) -> Predicate:
        path = self._path()
        sign = self._take()
        if sign.text not in _OPERATORS:
            raise self._error(f"one of {' '.join(_OPERATORS)}", sign)
        value = self._value()
        return lambda task: _compare(_at(task, path), sign.text, value)

    def _path(self) -> tuple[str | int, ...]:
        first = self._take()
        if first.kind != "name" or first.text not in self._roots:
            raise self._error(f"one of {', '.join(sorted(self._roots))}", first)
        path: list[str | int] = [first.text]
        while True:
            if self._skip("."):
                path.append(self._take_as("name", "a name").text)
            elif self._skip("["):
                step = self._take()
                if step.kind == "text":
                    path.append(self._text_of(step))
                elif step.kind == "number" and step.text.isdigit():
                    path.append(int(step.text))
                else:
                    raise self._error("a number or a text", step)
                self._expect("]")
            else:
                return tuple(path)

    def _value(self) -> Any:
        token = self._take()
        if token.kind == "text":
            return self._text_of(token)
        if token.kind == "number":
            return json.loads(token.text)
        if token.text in _WORDS:
            return _WORDS[token.text]
        raise self._error('a number, a "text", true, false or null', token)

    def _text_of(self, token: _Token) -> str:
        try:
            found: str = json.loads(token.text)
        except ValueError:
            raise self._error('a "text"', token) from None
        return found

    def _peek(self) -> _Token:
        return self._tokens[self._next]

    def _take(self) -> _Token:
        token = self._peek()
        self._next = min(self._next + 1, len(self._tokens) - 1)
        return token

    def _take_as(self, kind: str, what: str) -> _Token:
        token = self._take()
        if token.kind != kind:
            raise self._error(what, token)
        return token

    def _skip(self, text: str) -> bool:
        token = self._peek()
        if token.kind in ("name", "sign") and token.text == text:
            self._next += 1
            return True
        return False

    def _expect(self, text: str) -> None:
        if not self._skip(text):
            raise self._error(text)

    def _error(self, wanted: str, token: _Token | None = None) -> ConfigurationError:
        found = self._peek() if token is None else token
        told = "the end" if found.kind == "end" else repr(found.text)
        return ConfigurationError(f"{self._text!r}: expected {wanted} at character {found.at + 1}, found {told}")


def _tokens(text: str) -> Iterator[_Token]:
    at = 0
    while at < len(text.rstrip()):
        found = _TOKEN.match(text, at)
        if found is None:
            at += len(text[at:]) - len(text[at:].lstrip())
            raise ConfigurationError(f"{text!r}: character {at + 1} begins no word, number or text")
        kind = found.lastgroup or ""
        yield _Token(kind, found[kind], found.start(kind))
        at = found.end()
    yield _Token("end", "", len(text))


def _at(task: Mapping[str, Any], path: tuple[str | int, ...]) -> Any:
    value: Any = task
    for step in path:
        has_names = isinstance(step, str) and isinstance(value, Mapping) and step in value
        has_places = isinstance(step, int) and isinstance(value, (list, tuple)) and step < len(value)
        if not (has_names or has_places):
            return _Missing
        value = value[step]
    return value


def _compare(found: Any, sign: str, value: Any) -> bool:
    if sign == "!=":
        return not _compare(found, "==", value)
    if found is _Missing:
        return False
    if sign == "==":
        # JSON tells true from 1, and Python does not.
        return bool(found == value) and isinstance(found, bool) == isinstance(value, bool)
    if sign == "~":
        return isinstance(found, str) and isinstance(value, str) and value in found
    both_numbers = all(isinstance(each, (int, float)) and not isinstance(each, bool) for each in (found, value))
    both_texts = isinstance(found, str) and isinstance(value, str)
    return (both_numbers or both_texts) and _ORDERS[sign](found, value)
