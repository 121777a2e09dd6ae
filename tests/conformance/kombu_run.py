"""Kombu's ``t/integration/common.py``, all of it, against one broker."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from inspect import isclass
from pathlib import Path
from types import ModuleType

import pytest

from kafka_exec.broker import BrokerError, EmbeddedKafka
from tests.conformance.plugin import Plugin
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
            plugin = Kombu(base)
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


def upstream_names(common: ModuleType) -> set[str]:
    """The tests which Kombu's base classes define or inherit, as ``TestClass::test``."""
    bases = (item for item in vars(common).values() if isclass(item) and item.__module__ == common.__name__)
    return {f"Test{base.__name__}::{test}" for base in bases for test in dir(base) if test.startswith("test_")}


class Kombu(Plugin):
    """Gives the suite its broker, and compares what was collected with upstream."""

    def __init__(self, url: str) -> None:
        super().__init__("kombu", COUNT, url, hangs=HANGS)
        self.url = url

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
        if self.url.startswith(SCHEME):
            self.expect_failures(EXPECTED_FAILURES, ours)


def _name(item: pytest.Item) -> str:
    return "::".join(item.nodeid.split("::")[-2:])
