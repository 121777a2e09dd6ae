"""The shape of the package: small files, small folders, and a page from which somebody finds them."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from tests.snippets import ROOT, section

PACKAGE = ROOT / "kafka_exec"
FOLDERS = [folder for folder in (PACKAGE, *PACKAGE.rglob("*")) if folder.is_dir() and folder.name != "__pycache__"]
FILES = sorted(PACKAGE.rglob("*.py"))
PAGE = ROOT / "docs" / "how-it-works.md"

MOST_FILES, MOST_LINES = 12, 400

#: A row of the page's table: a question, and the file that answers it.
_ROW = re.compile(r"^\| ([^|]+\?) \| `([^`]+)` \|$", re.MULTILINE)


def name_of(path: Path) -> str:
    return str(path.relative_to(ROOT))


def first_line(path: Path) -> str:
    return (ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or "").partition("\n")[0]


def answers() -> dict[str, str]:
    """The files that the page names, by what they answer."""
    return dict(_ROW.findall(section(PAGE.read_text(encoding="utf-8"), "The code")))


@pytest.mark.parametrize("folder", FOLDERS, ids=name_of)
def test_a_folder_is_seen_at_a_glance(folder: Path) -> None:
    assert len(list(folder.glob("*.py"))) <= MOST_FILES
    assert (folder / "__init__.py").is_file()


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_a_file_is_small_and_says_what_is_in_it(path: Path) -> None:
    assert len(path.read_text(encoding="utf-8").splitlines()) <= MOST_LINES
    assert first_line(path)


def reads_a_clock(path: Path) -> bool:
    tree = list(ast.walk(ast.parse(path.read_text(encoding="utf-8"))))
    called = {each.func.attr for each in tree if isinstance(each, ast.Call) and isinstance(each.func, ast.Attribute)}
    imported = {each.name for node in tree if isinstance(node, (ast.Import, ast.ImportFrom)) for each in node.names}
    imported |= {node.module for node in tree if isinstance(node, ast.ImportFrom) and node.module}
    return bool(called & {"now", "utcnow", "today"} or imported & {"time"})


def test_what_decides_gets_the_time_as_an_argument() -> None:
    """So a test lets years pass in no time, and the time that counts may be that of the log."""
    assert [name_of(path) for path in FILES if PACKAGE / "core" in path.parents and reads_a_clock(path)] == []
    assert reads_a_clock(PACKAGE / "kafka" / "publish" / "clock.py")


def test_the_page_names_every_folder() -> None:
    told = section(PAGE.read_text(encoding="utf-8"), "The code")
    for folder in FOLDERS[1:]:
        name = str(folder.relative_to(PACKAGE))
        top, _, inner = name.partition("/")
        assert f"`{name}`" in told or (f"`{top}`" in told and f"`{inner}`" in told), f"{name} is not on the page"


#: Questions of a newcomer, each with words by which the first line of the file says that it is the one.
QUESTIONS = {
    "What happens to a key's lane when its task is retried?": ("lane", "retr"),
    "When is a worker declared lost?": ("lost",),
    "How is the body of a chord published once?": ("transaction", "control"),
    "Where is a header decoded?": ("header",),
    "Which thread commits offsets?": ("commit", "thread"),
}


@pytest.mark.parametrize(("question", "words"), QUESTIONS.items())
def test_somebody_who_has_read_the_page_finds_the_file(question: str, words: tuple[str, ...]) -> None:
    path = PACKAGE / answers()[question]
    assert path.is_file()
    assert all(word in first_line(path).lower() for word in words), first_line(path)


def test_every_row_of_the_page_names_a_file() -> None:
    found = answers()
    assert set(QUESTIONS) <= set(found)
    assert [name for name in found.values() if not (PACKAGE / name).is_file()] == []
