"""Tests that a change can break: the files that ``./dev test --changed`` runs. It needs Python and git, nothing else.

A test can be broken by each file that it needs, directly or through others. A file needs

- the modules that it imports, wherever in it the import stands;
- what it names in a string: a module (``-A tests.integration.app:app``, Celery's settings), a program with imports, a
  file (``child.py``, ``django.md``) or its folder, or an entry point of setup.cfg (``celery kafka nodes``);
- the conftest.py whose fixtures its functions ask for.

So a test that runs workers needs all that the app of its workers imports. Packages above a module count for their own
file only: else all would need all that ``kafka_exec/__init__.py`` imports.
"""

from __future__ import annotations

import ast
import configparser
import re
import subprocess
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]

#: Folders with modules that tests need.
ROOTS = ("kafka_exec", "celery_app", "tests")

#: Folders of tests, which nobody names to read what is in them.
SUITES = {"unit", "integration", "chaos"}

#: A change of one of these may break any test.
CENTRAL = {"dev", "setup.cfg", "pyproject.toml"}

#: Tests that read the whole tree, so that any change may break them; they take seconds.
ALWAYS = {f"tests/unit/test_{name}.py" for name in ("behaviours", "docs", "pages", "structure", "words")}

#: Other tests read these only if they name them. Of further files that no test names all tests may know.
PAGES = ("docs/", "README.md")

_WORD = re.compile(r"[\w.-]+")


@dataclass
class Mentions:
    """The names of other modules that a Python file has in it.

    Attributes:
        imports: the modules of imports, each with the names that are taken from it.
        words: all words of its strings, docstrings aside.
        arguments: the names of its functions' arguments, which may be fixtures.
        fixtures: the names of the fixtures that it defines.
    """

    imports: list[tuple[str, list[str]]] = field(default_factory=list)
    words: set[str] = field(default_factory=set)
    arguments: set[str] = field(default_factory=set)
    fixtures: set[str] = field(default_factory=set)


def mentions(source: str, package: str) -> Mentions:
    """Reads a Python file that is in a package."""
    found, tree = Mentions(), ast.parse(source)
    nodes = [*ast.walk(tree)]
    docstrings = {
        id(node.body[0].value)
        for node in nodes
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef))
        and node.body
        and isinstance(node.body[0], ast.Expr)
    }
    for node in nodes:
        if isinstance(node, ast.Import):
            found.imports += [(alias.name, []) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            above = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            start = ".".join(filter(None, [*above, node.module]))
            found.imports.append((start, [alias.name for alias in node.names]))
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in docstrings:
            found.words.update(word.strip(".") for word in _WORD.findall(node.value))
            found.imports += _program(node.value)
        elif isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            found.arguments.update(argument.arg for argument in node.args.args)
            if any("fixture" in ast.unparse(each) for each in node.decorator_list):
                found.fixtures.add(node.name)
    return found


def _program(text: str) -> list[tuple[str, list[str]]]:
    """The imports of a string that is a program."""
    try:
        return mentions(text, "").imports if "import " in text else []
    except SyntaxError:
        return []


class Tree:
    """Files of a repository, and which of them need which.

    Args:
        sources: the text of each Python file, by its path.
        entries: the modules of entry points, by the names of these.
        gone: paths of Python files that are no longer there; others may need them still.
    """

    def __init__(self, sources: dict[str, str], entries: dict[str, str], gone: Iterable[str] = ()) -> None:
        self._mentions = dict.fromkeys(gone, Mentions())
        self._mentions |= {path: mentions(text, _module(path.rpartition("/")[0])) for path, text in sources.items()}
        self._paths = {_module(path): path for path in self._mentions}
        self._names = {path: _names(path) for path in self._mentions}
        self._entries = entries
        self._conftests = [path for path in self._mentions if path.endswith("/conftest.py")]
        self.tests = {path for path in sources if re.fullmatch(r"tests/.*/test_\w+\.py", path)}
        self._needed_by = cache(lambda path: {*self._imported(path), *self._named(path), *self._asked_for(path)})

    def broken_by(self, changed: set[str]) -> set[str]:
        """The tests that changed files can break."""
        if changed & CENTRAL:
            return self.tests
        found = ALWAYS & self.tests
        for path in changed - self._mentions.keys():
            readers = {file for file in self._mentions if self._is_read(path, file)}
            if not readers and not path.startswith(PAGES):
                return self.tests
            changed = changed | readers
        for path in changed & {*self._conftests}:
            found.update(test for test in self.tests if test.startswith(path.removesuffix("conftest.py")))
        return found | {test for test in self.tests if changed & self._needs(test)}

    def _is_read(self, path: str, by: str) -> bool:
        return by.startswith("tests/") and not self._mentions[by].words.isdisjoint(_names(path))

    def _needs(self, test: str) -> set[str]:
        """The files that a test needs, directly or through others, and the packages above them."""
        found, new = {test}, [test]
        while new:
            more = self._needed_by(new.pop()) - found
            found |= more
            new += more
        return found | {above for path in found for above in self._above(path)}

    def _imported(self, path: str) -> Iterator[str]:
        for module, names in self._mentions[path].imports:
            parts = [self._paths.get(f"{module}.{name}") for name in names]
            yield from filter(None, parts)
            # A package of which only modules are taken counts as one above them.
            if module in self._paths and not (parts and all(parts)):
                yield self._paths[module]

    def _named(self, path: str) -> Iterator[str]:
        words = self._mentions[path].words
        for word in words:
            parts = word.split(".")
            modules = [".".join(parts[:length]) for length in range(2, len(parts) + 1)]
            yield from (self._paths[module] for module in modules if module in self._paths)
        if not path.startswith("kafka_exec/"):  # it starts no processes, and reads no files of this tree
            yield from (self._paths[module] for name, module in self._entries.items() if name in words)
            yield from (file for file, names in self._names.items() if names & words)

    def _asked_for(self, path: str) -> Iterator[str]:
        for conftest in self._conftests:
            is_below = path.startswith(conftest.removesuffix("conftest.py"))
            if is_below and self._mentions[path].arguments & self._mentions[conftest].fixtures:
                yield conftest

    def _above(self, path: str) -> Iterator[str]:
        parts = _module(path).split(".")
        packages = (".".join(parts[:length]) for length in range(1, len(parts)))
        yield from (self._paths[package] for package in packages if package in self._paths)


def _names(path: str) -> set[str]:
    """The names by which tests read a file: its own, and those of its folders in tests/."""
    *folders, name = path.split("/")
    return {name, *(folders[1:] if folders[:1] == ["tests"] else [])} - SUITES


def _module(path: str) -> str:
    return path.removesuffix(".py").removesuffix("/__init__").replace("/", ".")


def entry_points(setup: str) -> dict[str, str]:
    """The modules of the entry points in a setup.cfg, by the names of these."""
    parser = configparser.ConfigParser()
    parser.read_string(setup)
    lines = "\n".join(parser["options.entry_points"].values()).splitlines()
    pairs = (line.split("=") for line in lines if line.strip())
    return {name.strip(): target.partition(":")[0].strip() for name, target in pairs}


def base() -> str:
    """The commit that the working tree is compared with: where the branch left main; on main itself the one before HEAD."""
    head = _git("rev-parse", "HEAD").strip()
    mains = _git("for-each-ref", "--format=%(refname)", "refs/heads/main", "refs/remotes/origin/main").split()
    left = (_git("merge-base", "HEAD", main).strip() for main in mains)
    return next((commit for commit in left if commit != head), "HEAD~1")


def changed_since(commit: str) -> set[str]:
    """The files that differ from a commit's, those that git does not know yet among them."""
    told = _git("diff", "--name-only", "--no-renames", "-z", commit)
    return {*filter(None, (told + _git("ls-files", "--others", "--exclude-standard", "-z")).split("\0"))}


def tree_with(changed: set[str]) -> Tree:
    """This repository's files, with those that a change has taken away."""
    files = [path for folder in ROOTS for path in sorted((ROOT / folder).rglob("*.py"))]
    files += sorted(ROOT.glob("*.py"))
    sources = {path.relative_to(ROOT).as_posix(): path.read_text(encoding="utf-8") for path in files}
    gone = [path for path in changed if path.endswith(".py") and path not in sources]
    return Tree(sources, entry_points((ROOT / "setup.cfg").read_text(encoding="utf-8")), gone)


def selected() -> list[str]:
    """The test files to run."""
    commit = base()
    changed = changed_since(commit)
    tree = tree_with(changed)
    # The slow ones run when they are named only.
    found = sorted(path for path in tree.broken_by(changed) if not path.startswith("tests/chaos/"))
    print(f"{len(changed)} files differ from {commit[:12]}: {len(found)} of {len(tree.tests)} test files can tell")
    return found


def _git(*arguments: str) -> str:
    return subprocess.check_output(["git", *arguments], cwd=ROOT, text=True)


if __name__ == "__main__":
    print("\n".join(selected()))
