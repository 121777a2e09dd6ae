"""The table of behaviours names tests that exist."""

from __future__ import annotations

import ast
import re
from collections import Counter
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TABLE = ROOT / "docs" / "behaviours.md"

ID = re.compile(r"\d{3}-\d{2,3}|[PU]-\d{2}")
TEST = re.compile(r"(tests/[\w/]+\.py)((?:::\w+)+)")


def rows() -> list[list[str]]:
    """The cells of the tables' rows, without their headings."""
    lines = [line for line in TABLE.read_text(encoding="utf-8").splitlines() if line.startswith("|")]
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    return [row for row in cells if row[0] != "id" and not set(row[0]) <= set("-:")]


@cache
def defined_in(path: Path) -> frozenset[str]:
    """The tests of a file, those of classes as ``Class::test``."""

    def names(body: list[ast.stmt], within: str) -> list[str]:
        found = []
        for node in body:
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)) and node.name.startswith("test"):
                found.append(f"{within}::{node.name}")
            elif isinstance(node, ast.ClassDef) and node.name.startswith("Test"):
                found.extend(names(node.body, f"{within}::{node.name}"))
        return found

    return frozenset(names(ast.parse(path.read_text(encoding="utf-8")).body, ""))


@pytest.mark.parametrize("row", rows(), ids=lambda row: row[0])
def test_a_behaviour_is_shown_by_tests_that_exist(row: list[str]) -> None:
    assert len(row) == 3, "a row has an id, a behaviour and its tests"
    name, behaviour, tests = row
    assert ID.fullmatch(name)
    assert behaviour
    named = re.findall(r"`([^`]*)`", tests)
    assert named
    assert re.sub(r"`[^`]*`", "", tests).strip() == ""
    for test in named:
        found = TEST.fullmatch(test)
        assert found, f"{test} is no test's name"
        path = ROOT / found[1]
        assert path.is_file(), f"{found[1]} does not exist"
        assert found[2] in defined_in(path), f"{found[1]} has no {found[2]}"


def test_each_behaviour_stands_there_once() -> None:
    assert [name for name, count in Counter(row[0] for row in rows()).items() if count > 1] == []
    assert rows()


def test_the_table_can_be_read() -> None:
    assert f"::{test_the_table_can_be_read.__name__}" in defined_in(Path(__file__))
