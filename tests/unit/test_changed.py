"""Tests that a change can break, chosen in small trees of files and in this one."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests import changed
from tests.changed import ALWAYS, ROOT, Tree, base, changed_since, entry_points, mentions, tree_with

TREE = Tree(
    {
        "kafka_exec/__init__.py": "from kafka_exec.transport import Transport",
        "kafka_exec/core/__init__.py": "",
        "kafka_exec/core/lanes.py": "",
        "kafka_exec/core/work.py": "def f():\n    from .lanes import Lane",
        "kafka_exec/cli.py": "",
        "kafka_exec/transport.py": "from kafka_exec.core import work\nSTARTS = 'kafka_exec.worker:Starts', 'kafka'",
        "kafka_exec/worker.py": "",
        "tests/conftest.py": "@pytest.fixture(scope='session')\ndef kafka():\n    import kafka_exec.broker",
        "tests/django_project/shop/tasks.py": "",
        "tests/integration/app.py": "import kafka_exec",
        "tests/integration/child.py": "",
        "tests/integration/test_child.py": "CHILD = Path(__file__).with_name('child.py')",
        "tests/integration/test_command.py": "run('-A', 'tests.integration.app:app', 'kafka', 'nodes')",
        "tests/integration/test_django.py": "PROJECT = ROOT / 'tests' / 'django_project'",
        "tests/integration/test_fixture.py": "def test_it(kafka): ...",
        "tests/integration/test_page.py": "PAGE = ROOT / 'docs' / 'django.md'",
        "tests/integration/test_program.py": "run('-c', 'from tests.integration import app; app')",
        "tests/unit/conftest.py": "",
        "tests/unit/test_docs.py": "'''A page of kafka_exec.worker, child.py and django.md.'''",
        "tests/unit/test_lanes.py": "from kafka_exec.core import lanes",
        "tests/unit/test_scenarios.py": "FILES = Path('scenarios').glob('*.txt')",
        "tests/unit/test_work.py": "from kafka_exec.core.work import Work",
    },
    {"kafka": "kafka_exec.cli"},
    gone=["kafka_exec/broker.py"],
)

RUN_THE_APP = {"command", "program"}


@pytest.mark.parametrize(
    ("path", "tests"),
    [
        # A module, by imports: also by those within functions, and those of what it imports.
        ("kafka_exec/core/lanes.py", {"lanes", "work", *RUN_THE_APP}),
        ("kafka_exec/core/work.py", {"work", *RUN_THE_APP}),
        # A package counts for its own file; what it imports, for those that import itself.
        ("kafka_exec/core/__init__.py", {"lanes", "work", *RUN_THE_APP}),
        ("kafka_exec/__init__.py", {"lanes", "work", "fixture", *RUN_THE_APP}),
        ("kafka_exec/transport.py", RUN_THE_APP),
        # Names in strings: of a module, of an entry point, of a file, of a folder.
        ("kafka_exec/worker.py", RUN_THE_APP),
        ("kafka_exec/cli.py", {"command"}),
        ("tests/integration/child.py", {"child"}),
        ("tests/django_project/shop/tasks.py", {"django"}),
        ("docs/django.md", {"page"}),
        ("tests/unit/scenarios/gaps.txt", {"scenarios"}),
        # A fixture's module, for those who ask for it. It is no longer there.
        ("kafka_exec/broker.py", {"fixture"}),
        ("tests/integration/test_page.py", {"page"}),
        ("docs/delays.md", set()),
    ],
)
def test_a_change_breaks_those_that_need_it(path: str, tests: set[str]) -> None:
    names = {test.rpartition("/test_")[2].removesuffix(".py") for test in TREE.broken_by({path})}
    assert names == tests | {"docs"}, "and those that read the whole tree"


def test_a_central_change_breaks_all() -> None:
    for path in ("setup.cfg", "dev", "tests/conftest.py", ".gitignore"):
        assert TREE.broken_by({path}) == TREE.tests
    assert TREE.broken_by({"tests/unit/conftest.py"}) == {test for test in TREE.tests if "/unit/" in test}


def test_several_changes_break_what_each_does() -> None:
    both = TREE.broken_by({"kafka_exec/cli.py"}) | TREE.broken_by({"docs/django.md"})
    assert TREE.broken_by({"kafka_exec/cli.py", "docs/django.md"}) == both


@pytest.mark.parametrize(
    ("source", "found"), [("from . import a", ("p.q", ["a"])), ("from ..r import b as c", ("p.r", ["b"]))]
)
def test_relative_imports_are_read(source: str, found: tuple[str, list[str]]) -> None:
    assert mentions(source, "p.q").imports == [found]


def test_entry_points_are_read() -> None:
    assert entry_points((ROOT / "setup.cfg").read_text())["kafka"] == "kafka_exec.cli"


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A repository with two commits on main."""
    monkeypatch.setattr(changed, "ROOT", tmp_path)
    git(tmp_path, "init", "--quiet", "--initial-branch", "main")
    for name in ("one", "two"):
        commit(tmp_path, name)
    return tmp_path


def git(folder: Path, *arguments: str) -> str:
    author = ["-c", "user.name=a", "-c", "user.email=a@localhost", "-c", "commit.gpgsign=false"]
    return subprocess.check_output(["git", *author, *arguments], cwd=folder, text=True).strip()


def commit(folder: Path, name: str) -> None:
    (folder / name).write_text(name)
    git(folder, "add", name)
    git(folder, "commit", "--quiet", "--message", name)


def test_on_main_the_last_commit_and_the_working_tree_count(repository: Path) -> None:
    (repository / "one").write_text("other")
    (repository / "näw").write_text("new")
    assert changed_since(base()) == {"one", "two", "näw"}


def test_on_a_branch_all_since_it_left_main_counts(repository: Path) -> None:
    git(repository, "checkout", "--quiet", "-b", "branch", "main~1")
    commit(repository, "three")
    commit(repository, "four")
    git(repository, "mv", "three", "five")
    assert changed_since(base()) == {"four", "five"}


def test_of_this_tree_the_tests_that_need_a_file_are_found() -> None:
    assert all((ROOT / test).is_file() for test in ALWAYS)
    tree = tree_with(set())
    named_here = {"tests/unit/test_changed.py"}
    assert tree.broken_by({"celery_app/demo.py"}) == ALWAYS | named_here | {
        "tests/integration/test_example_app.py",
        "tests/chaos/test_tour.py",
    }
    broken = tree.broken_by({"tests/integration/workers.py"})
    assert {"tests/integration/test_round_trip.py", "tests/integration/test_takeover.py"} <= broken
