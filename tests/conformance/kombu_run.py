"""Kombu's ``t/integration/common.py``, all of it, against one broker."""

from __future__ import annotations

import contextlib
import faulthandler
import os
import sys
from collections import Counter
from collections.abc import Generator, Iterator
from inspect import isclass
from pathlib import Path
from types import ModuleType

import pytest

from kafka_exec.broker import BrokerError, EmbeddedKafka
from tests.conformance.sdist import NoTests, upstream_tests

HERE = Path(__file__).resolve().parent
SUITE = HERE / "kombu_suite.py"
EXPECTED_FAILURES = HERE / "kombu_expected_failures.txt"
COUNT = 47
TIMEOUT = 60
HANGS = 90
SCHEME = "kafka-exec://"
BROKER = pytest.StashKey[str]()


def run(argv: list[str]) -> int:
    """Runs the suite; ``--url`` names another broker, to see how the suite judges an established transport."""
    argv = list(argv)
    url = None
    if "--url" in argv:
        at = argv.index("--url")
        if at + 1 == len(argv):
            print("conformance: --url needs a broker URL", file=sys.stderr)
            return 2
        url = argv[at + 1]
        del argv[at : at + 2]
    try:
        sys.path.insert(0, str(upstream_tests("kombu")))
        with _broker(url) as base:
            plugin = Plugin(base, _expected_failures() if base.startswith(SCHEME) else {})
            options = ["-p", "no:cacheprovider", "--timeout", str(TIMEOUT)]
            return int(pytest.main([str(SUITE), *options, *argv], plugins=[plugin]))
    except (BrokerError, NoTests) as error:
        print(f"conformance: {error}", file=sys.stderr)
        return 1


@contextlib.contextmanager
def _broker(url: str | None) -> Iterator[str]:
    if url is not None:
        yield url.rstrip("/")
        return
    with EmbeddedKafka() as broker:
        yield broker.url


def _expected_failures() -> dict[str, str]:
    """Reads ``TestClass::test: reason`` lines."""
    lines = (line.strip() for line in EXPECTED_FAILURES.read_text().splitlines())
    entries = (line.partition(": ") for line in lines if line and not line.startswith("#"))
    return {test: reason for test, _, reason in entries}


def upstream_names(common: ModuleType) -> set[str]:
    """The tests which Kombu's base classes define or inherit, as ``TestClass::test``."""
    bases = (item for item in vars(common).values() if isclass(item) and item.__module__ == common.__name__)
    return {f"Test{base.__name__}::{test}" for base in bases for test in dir(base) if test.startswith("test_")}


class Plugin:
    """Gives the suite its broker, compares what was collected with upstream, and counts."""

    def __init__(self, url: str, expected_failures: dict[str, str]) -> None:
        self.url = url
        self.expected_failures = expected_failures
        self.outcomes: Counter[str] = Counter()
        self.stderr = os.dup(sys.stderr.fileno())

    def pytest_configure(self, config: pytest.Config) -> None:
        config.stash[BROKER] = self.url

    # Before `-k` and `--deselect` take their part of the list away.
    @pytest.hookimpl(tryfirst=True)
    def pytest_collection_modifyitems(self, items: list[pytest.Function]) -> None:
        from t.integration import common

        upstream = upstream_names(common)
        ours = {_name(item): item for item in items if item.function.__module__ == common.__name__}
        if len(upstream) != COUNT:
            raise pytest.UsageError(f"upstream has {len(upstream)} tests, {COUNT} were known: adapt {SUITE.name}")
        if set(ours) != upstream or len(items) != COUNT:
            raise pytest.UsageError(
                f"not the tests of upstream: {sorted(set(ours) ^ upstream) or 'some of them twice'}"
            )
        for test, reason in self.expected_failures.items():
            if test not in ours or not reason:
                raise pytest.UsageError(f"{EXPECTED_FAILURES.name}: no such test, or no reason: {test!r}")
            ours[test].add_marker(pytest.mark.xfail(reason=reason, strict=True))

    # A timeout cannot interrupt a call into librdkafka that never returns: then say where it is, and end.
    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self) -> Generator[None, object, object]:
        faulthandler.dump_traceback_later(HANGS, exit=True, file=self.stderr)
        try:
            return (yield)
        finally:
            faulthandler.cancel_dump_traceback_later()

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Counts each test once, and a failing set-up or teardown as a failure."""
        if report.when == "call" and report.outcome == "skipped" and hasattr(report, "wasxfail"):
            self.outcomes["xfailed"] += 1
        elif report.when == "call" or report.outcome != "passed":
            self.outcomes[report.outcome] += 1

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        counts = ", ".join(f"{self.outcomes[outcome]} {outcome}" for outcome in ("passed", "failed", "xfailed"))
        other = f", {self.outcomes['skipped']} skipped" if self.outcomes["skipped"] else ""
        terminalreporter.write_line(f"conformance kombu: {counts}{other} of {COUNT} (upstream's tests, {self.url})")


def _name(item: pytest.Item) -> str:
    return "::".join(item.nodeid.split("::")[-2:])
