"""Expressions that choose tasks: what each operator says, and that any text is an expression or a clear error."""

from __future__ import annotations

import json
import operator
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from kafka_exec.core.overview.choosing.expressions import parse
from kafka_exec.core.overview.choosing.filters import PARTS, TaskFilter, expression
from kafka_exec.core.results.lifecycle import State
from kafka_exec.core.results.state_record import Raised, StateRecord
from kafka_exec.errors import ConfigurationError

ROOTS = frozenset({"args", "kwargs", "name", "n"})
TASK = {
    "args": [42, {"a": [1, "x"]}],
    "kwargs": {"customer": "7", "odd key": True, "none": None},
    "name": "mail",
    "n": 3,
}


@pytest.mark.parametrize(
    ("text", "is_so"),
    [
        ("args[0] == 42", True),
        ("args[0] == 42.0", True),
        ("args[0] != 42", False),
        ('args[0] == "42"', False),
        ("args[9] == 42", False),
        ("args[9] != 42", True),
        ("args[1].a[1] == \"x\"", True),
        ('kwargs.customer == "7"', True),
        ("kwargs.customer == 7", False),
        ('kwargs["odd key"] == true', True),
        ('kwargs["odd key"] == 1', False),
        ("kwargs.none == null", True),
        ("kwargs.missing == null", False),
        ("kwargs.missing.more[3] != null", True),
        ('name ~ "ai"', True),
        ('name ~ "z"', False),
        ("n ~ 3", False),
        ("n < 4", True),
        ("n <= 3", True),
        ("n > 3", False),
        ("n >= 3", True),
        ('n < "4"', False),
        ('name < "n"', True),
        ("n == 3 and name == \"mail\"", True),
        ("n == 4 or name == \"mail\"", True),
        ("not n == 4", True),
        ("not not n == 3", True),
        ("n == 3 or n == 3 and n == 4", True),
        ("(n == 3 or n == 3) and n == 4", False),
        ("not n == 4 and n == 3", True),
        ("not (n == 4 or n == 3)", False),
        ("n>2and n<4", True),
        ("n == -3", False),
        ("n < 1e3", True),
    ],
)  # fmt: skip
def test_what_an_expression_says(text: str, is_so: bool) -> None:
    assert parse(text, ROOTS)(TASK) is is_so


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("", "expected one of args, kwargs, n, name at character 1, found the end"),
        ("m == 1", "expected one of args, kwargs, n, name at character 1, found 'm'"),
        ("n = 1", "character 3 begins no word, number or text"),
        ("n == ", 'expected a number, a "text", true, false or null at character 6, found the end'),
        ("n == x", "found 'x'"),
        ("n 1", "expected one of == != ~ < <= > >= at character 3, found '1'"),
        ("n == 1 1", "expected and, or, or the end at character 8, found '1'"),
        ("(n == 1", "expected ) at character 8, found the end"),
        ("args[x] == 1", "expected a number or a text at character 6, found 'x'"),
        ("args[-1] == 1", "found '-1'"),
        ("args. == 1", "expected a name at character 7, found '=='"),
        ('n == "\\x"', 'expected a "text" at character 6'),
        ("(" * 60 + "n == 1", "nested more than 50 times"),
        ("not " * 60 + "n == 1", "nested more than 50 times"),
        ('n == "open', "character 6 begins no word, number or text"),
    ],
)
def test_what_is_no_expression_is_refused_with_the_place(text: str, error: str) -> None:
    with pytest.raises(ConfigurationError) as raised:
        parse(text, ROOTS)
    assert error in str(raised.value)


WORDS = ["n", "==", "1", "(", ")", "and", "or", "not", "[", "]", ".", '"', "~", " "]


@given(st.text() | st.lists(st.sampled_from(WORDS)).map(" ".join))
@example("n == " + "9" * 5000)
@example("n == 1e999")
@example("n == 007")
def test_any_text_is_an_expression_or_refused(text: str) -> None:
    try:
        found = parse(text, ROOTS)
    except ConfigurationError:
        return
    assert found(TASK) in (True, False)


NAMES = {"==": operator.eq, "!=": operator.ne, "<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge}


@given(st.integers(-99, 99) | st.floats(-9, 9), st.sampled_from(sorted(NAMES)), st.integers(-99, 99))
def test_numbers_compare_as_python_does(found: float, sign: str, value: int) -> None:
    assert parse(f"n {sign} {json.dumps(value)}", ROOTS)({"n": found}) is NAMES[sign](found, value)


def combined() -> st.SearchStrategy[tuple[str, Any]]:
    """Expressions with parentheses wherever they may be, each with its value."""
    leaves = st.sampled_from([("n == 3", True), ("n == 4", False)])
    return st.recursive(
        leaves,
        lambda below: (
            st.tuples(below, below).map(lambda two: (f"({two[0][0]}) and ({two[1][0]})", two[0][1] and two[1][1]))
            | st.tuples(below, below).map(lambda two: (f"({two[0][0]}) or ({two[1][0]})", two[0][1] or two[1][1]))
            | below.map(lambda one: (f"not ({one[0]})", not one[1]))
        ),
        max_leaves=8,
    )


@given(combined())
def test_words_combine_as_python_does(found: tuple[str, bool]) -> None:
    assert parse(found[0], ROOTS)(TASK) is found[1]


RECORD = StateRecord(
    "t1",
    State.FAILED,
    "FAILURE",
    name="mail.send",
    queue="mail",
    worker="one@test",
    ordering_key="k7",
    created=10.0,
    started=20.0,
    finished=30.0,
    args=[42],
    kwargs={"customer": "7"},
    exception=Raised("TimeoutError", message="too late"),
)


@pytest.mark.parametrize(
    ("chosen", "is_so"),
    [
        (TaskFilter(), True),
        (TaskFilter(name="mail.*"), True),
        (TaskFilter(name="mail"), False),
        (TaskFilter(states={State.FAILED, State.DONE}), True),
        (TaskFilter(states={State.DONE}), False),
        (TaskFilter(states=()), False),
        (TaskFilter(queue="m*"), True),
        (TaskFilter(queue="x*"), False),
        (TaskFilter(key="k7"), True),
        (TaskFilter(key="k8"), False),
        (TaskFilter(worker="*@test"), True),
        (TaskFilter(worker="two*"), False),
        (TaskFilter(since=30.0), True),
        (TaskFilter(since=30.5), False),
        (TaskFilter(until=30.5), True),
        (TaskFilter(until=30.0), False),
        (TaskFilter(where=expression('error ~ "too late" and args[0] == 42 and kwargs.customer == "7"')), True),
        (TaskFilter(where=expression('key == "k7" and state == "FAILED" and status == "FAILURE"')), True),
        (TaskFilter(where=expression("result == 1")), False),
        (TaskFilter(name="mail.*", queue="x"), False),
    ],
)
def test_what_a_filter_chooses(chosen: TaskFilter, is_so: bool) -> None:
    assert chosen.matches(RECORD) is is_so
    assert chosen.chooses_all is (chosen == TaskFilter())


@pytest.mark.parametrize("state", State)
def test_a_glance_leaves_out_what_no_state_of_the_filter_names_and_never_what_it_chooses(state: State) -> None:
    value = StateRecord("t", state, "PENDING").encode()
    assert TaskFilter().glance()(value)
    for other in State:
        assert TaskFilter(states={other}).glance()(value) is (other is state)
        assert TaskFilter(states={other, state}).glance()(value)
    assert not TaskFilter(states=()).glance()(value)


def test_a_task_of_which_little_is_known_is_chosen_by_what_is_known() -> None:
    bare = StateRecord("t2", State.RUNNING, "STARTED")
    assert TaskFilter(states={State.RUNNING}).matches(bare)
    assert not TaskFilter(name="*").matches(bare)
    assert not TaskFilter(since=1.0).matches(bare)


def test_each_part_can_be_named() -> None:
    for part in PARTS:
        expression(f"{part} == 1")
