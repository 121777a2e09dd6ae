"""Projects with tests of their own, which pytest runs in a process of its own."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

from tests.integration.workers import ROOT, environment

PROJECTS = ROOT / "tests" / "pytest_projects"

#: pytest-celery lies in a folder of its own (dev).
WITH_CONTAINERS = os.pathsep.join([str(ROOT), str(Path(sys.prefix, "pytest-celery"))])

#: A project has so many seconds, on a machine that does much else.
TIMEOUT = 900

_OPTIONS = ("-rA", "-p", "no:schemathesis", "-p", "no:cacheprovider")
_TESTS = re.compile(r"^def (test_\w+)", re.M)


def run(project: str, folder: Path, *options: str, pythonpath: str = str(ROOT)) -> str:
    """What pytest says of a project, all tests of which must pass. ``folder``: for what the tests write."""
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *_OPTIONS, "--basetemp", str(folder / "tmp"), *options],
        cwd=PROJECTS / project,
        env=environment("", folder, PYTHONPATH=pythonpath),
        capture_output=True,
        text=True,
        timeout=TIMEOUT,
    )
    assert done.returncode == 0, done.stdout[-20_000:] + done.stderr
    return done.stdout


def passed(output: str) -> set[str]:
    """The names of the tests that have passed."""
    return set(re.findall(r"^PASSED \S+::(\w+)", output, re.M))


def names_in(file: str) -> set[str]:
    """The names of the tests in a file of a project."""
    return set(_TESTS.findall((PROJECTS / file).read_text(encoding="utf-8")))
