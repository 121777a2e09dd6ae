"""The words of the package: one name for one thing, docstrings that say who does what, calls without tricks."""

from __future__ import annotations

import ast
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.snippets import ROOT

FILES = sorted((ROOT / "kafka_exec").rglob("*.py"))
CLASS = re.compile(r"^ *class (\w+)", re.MULTILINE)
Documented = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)

#: A sentence that begins so has no subject.
QUESTIONS = {"What", "Whether", "Who", "Whose", "Whoever", "Whatever", "How", "Where", "Which", "When", "Why"}

#: Names that were others before; the glossary has those that stand now.
FORMER = {"boot", "boots", "House", "Room", "Tenant", "Seam", "Book"}


def name_of(path: Path) -> str:
    return str(path.relative_to(ROOT))


def docstrings(nodes: list[ast.AST]) -> Iterator[str]:
    for node in nodes:
        if isinstance(node, Documented) and (text := ast.get_docstring(node)):
            yield text


def unpacked(nodes: list[ast.AST]) -> Iterator[int]:
    """The lines where a literal is unpacked within a call or another literal, where it could be written out."""
    for node in nodes:
        if isinstance(node, ast.Starred) and isinstance(node.value, (ast.Tuple, ast.List, ast.Set)):
            yield node.lineno
        elif isinstance(node, ast.Dict):
            pairs = zip(node.keys, node.values, strict=True)
            yield from (value.lineno for key, value in pairs if key is None and isinstance(value, ast.Dict))


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_sentences_have_subjects_and_calls_their_arguments(path: Path) -> None:
    nodes = list(ast.walk(ast.parse(path.read_text(encoding="utf-8"))))
    assert [text for text in docstrings(nodes) if text.split()[0].strip(",:") in QUESTIONS] == []
    assert list(unpacked(nodes)) == []
    names = {node.id for node in nodes if isinstance(node, ast.Name)}
    assert names & FORMER == set()


def test_no_two_classes_have_one_name() -> None:
    names = Counter(name for path in FILES for name in CLASS.findall(path.read_text(encoding="utf-8")))
    assert [name for name, number in names.items() if number > 1] == []
