"""The plug-in of all suites: a watch over each test, lists of exceptions with reasons, and the count at the end."""

from __future__ import annotations

import faulthandler
import os
import re
import sys
from collections import Counter
from collections.abc import Generator, Mapping
from pathlib import Path

import pytest

#: A test, whose parameters may have colons, and a reason.
_EXCEPTION = re.compile(r"(?P<test>[^\[]*?(\[.*\])?): (?P<reason>.+)")

_OUTCOMES = ("passed", "failed", "xfailed", "skipped")


def exceptions(file: Path) -> dict[str, str]:
    """Reads ``test: reason`` lines.

    Raises:
        pytest.UsageError: one has no reason.
    """
    lines = (line.strip() for line in file.read_text().splitlines())
    entries = {}
    for line in lines:
        if line and not line.startswith("#"):
            found = _EXCEPTION.fullmatch(line)
            if found is None:
                raise pytest.UsageError(f"{file.name}: no test and reason: {line!r}")
            entries[found["test"]] = found["reason"]
    return entries


class Plugin:
    """Ends a test that hangs where no timeout can interrupt it, and counts each test once.

    Args:
        suite: whose tests they are.
        count: how many upstream has.
        where: the broker, for the report.
        hangs: seconds after which a test is beyond its timeout for good.
    """

    def __init__(self, suite: str, count: int, where: str, *, hangs: float) -> None:
        self.suite = suite
        self.count = count
        self.where = where
        self.outcomes: Counter[str] = Counter()
        self._hangs = hangs
        self._stderr = os.dup(sys.stderr.fileno())

    def skip(self, file: Path, items: Mapping[str, pytest.Item]) -> None:
        """Skips the tests that a file lists, by file, class or name: they say nothing here."""
        for listed, reason in exceptions(file).items():
            within = (f"{listed}::", f"{listed}[")
            marked = [test for name, test in items.items() if name == listed or name.startswith(within)]
            if not marked:
                raise pytest.UsageError(f"{file.name}: no such test: {listed!r}")
            for test in marked:
                test.add_marker(pytest.mark.skip(reason=f"inapplicable: {reason}"))

    def expect_failures(self, file: Path, items: Mapping[str, pytest.Item]) -> None:
        """Marks the tests that a file lists: each must fail."""
        for test, reason in exceptions(file).items():
            if test not in items:
                raise pytest.UsageError(f"{file.name}: no such test: {test!r}")
            items[test].add_marker(pytest.mark.xfail(reason=reason, strict=True))

    # A timeout cannot interrupt a call into librdkafka that never returns: then say where it is, and end.
    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self) -> Generator[None, object, object]:
        faulthandler.dump_traceback_later(self._hangs, exit=True, file=self._stderr)
        try:
            return (yield)
        finally:
            faulthandler.cancel_dump_traceback_later()

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Counts a failing set-up or teardown as a failure, and no subtest: they are part of their test."""
        if type(report) is not pytest.TestReport:
            return
        if report.outcome == "skipped" and hasattr(report, "wasxfail"):
            self.outcomes["xfailed"] += 1
        elif report.when == "call" or report.outcome != "passed":
            self.outcomes[report.outcome] += 1

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        counts = ", ".join(f"{self.outcomes[outcome]} {outcome}" for outcome in _OUTCOMES)
        terminalreporter.write_line(
            f"conformance {self.suite}: {counts} of {self.count} (upstream's tests, {self.where})"
        )
