"""As much of PromQL as the alert rules and the dashboard use, over scrapes of the exporter. A package parses it."""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Iterable, Sequence
from datetime import timedelta
from functools import singledispatch
from itertools import pairwise
from typing import Any, NamedTuple

import promql_parser as promql

Labels = frozenset[tuple[str, str]]
#: An instant vector. A metric's name is no part of its labels.
Vector = dict[Labels, float]


class Sample(NamedTuple):
    """A sample of a scrape."""

    name: str
    labels: dict[str, str]
    value: float


class Scrape(NamedTuple):
    """The samples of a scrape; ``at``: seconds. A series that is not in the latest scrape is over."""

    at: float
    samples: Sequence[Sample]


_ARITHMETIC: dict[str, Callable[[float, float], float]] = {"+": operator.add}
_COMPARISONS: dict[str, Callable[[float, float], bool]] = {">": operator.gt, "==": operator.eq}
_OVER_TIME: dict[str, Callable[[Iterable[float]], float]] = {"min_over_time": min, "max_over_time": max}
_AGGREGATES: dict[str, Callable[[Iterable[float]], float]] = {"sum": sum, "max": max}


def evaluate(text: str, scrapes: Sequence[Scrape]) -> Vector:
    """The value of an expression at the time of the last scrape."""
    found = _value(promql.parse(text), scrapes)
    assert isinstance(found, dict), f"{text} is no vector"
    return found


@singledispatch
def _value(node: Any, scrapes: Sequence[Scrape]) -> Any:
    raise NotImplementedError(f"{type(node).__name__}: {node}")


@_value.register
def _(node: promql.NumberLiteral, scrapes: Sequence[Scrape]) -> Any:
    return node.val


@_value.register
def _(node: promql.ParenExpr, scrapes: Sequence[Scrape]) -> Any:
    return _value(node.expr, scrapes)


@_value.register
def _(node: promql.VectorSelector, scrapes: Sequence[Scrape]) -> Any:
    return {frozenset(each.labels.items()): each.value for each in scrapes[-1].samples if _selects(node, each)}


@_value.register
def _(node: promql.MatrixSelector, scrapes: Sequence[Scrape]) -> Any:
    found: dict[Labels, list[float]] = {}
    begin = scrapes[-1].at - node.range.total_seconds()
    for scrape in scrapes:
        if scrape.at > begin:
            for labels, value in _value(node.vector_selector, [scrape]).items():
                found.setdefault(labels, []).append(value)
    return found


@_value.register
def _(node: promql.Call, scrapes: Sequence[Scrape]) -> Any:
    (argument,) = node.args
    found = _value(argument, scrapes)
    if node.func.name == "absent":
        return {} if found else {frozenset[tuple[str, str]](): 1.0}
    if node.func.name == "increase":
        return {labels: _increase(values) for labels, values in found.items() if len(values) > 1}
    if node.func.name == "abs":
        return {labels: abs(value) for labels, value in found.items()}
    return {labels: _OVER_TIME[node.func.name](values) for labels, values in found.items()}


def _increase(values: Sequence[float]) -> float:
    """The increase of a counter, which begins anew with its process, without Prometheus' extrapolation."""
    return sum(after - before if after >= before else after for before, after in pairwise(values))


@_value.register
def _(node: promql.AggregateExpr, scrapes: Sequence[Scrape]) -> Any:
    kept = set() if node.modifier is None else set(node.modifier.labels)
    groups: dict[Labels, list[float]] = {}
    for labels, value in _value(node.expr, scrapes).items():
        groups.setdefault(frozenset(each for each in labels if each[0] in kept), []).append(value)
    return {labels: _AGGREGATES[str(node.op)](values) for labels, values in groups.items()}


@_value.register
def _(node: promql.BinaryExpr, scrapes: Sequence[Scrape]) -> Any:
    left, right, name = _value(node.lhs, scrapes), _value(node.rhs, scrapes), str(node.op)
    assert node.modifier is None or node.modifier.matching is None, f"{node} matches some labels only"
    if name == "and":
        return {labels: value for labels, value in left.items() if labels in right}
    if name == "unless":
        return {labels: value for labels, value in left.items() if labels not in right}
    pairs = {
        labels: (value, right[labels] if isinstance(right, dict) else right)
        for labels, value in left.items()
        if not isinstance(right, dict) or labels in right
    }
    if name in _ARITHMETIC:
        return {labels: _ARITHMETIC[name](*pair) for labels, pair in pairs.items()}
    return {labels: pair[0] for labels, pair in pairs.items() if _COMPARISONS[name](*pair)}


def _selects(node: promql.VectorSelector, sample: Sample) -> bool:
    assert (node.matchers.or_matchers, node.offset, node.at) == ([], None, None), f"{node} is not known here"
    return sample.name == node.name and all(_matches(each, sample) for each in node.matchers.matchers)


def _matches(matcher: promql.Matcher, sample: Sample) -> bool:
    value = sample.labels.get(matcher.name, "")
    if matcher.op is promql.MatchOp.Equal:
        return value == matcher.value
    assert matcher.op is promql.MatchOp.Re, f"{matcher} is not known here"
    return re.fullmatch(matcher.value, value) is not None


def seconds(text: str) -> float:
    """The seconds of a duration such as ``5m``."""
    found: timedelta = promql.parse_duration(text)
    return found.total_seconds()
