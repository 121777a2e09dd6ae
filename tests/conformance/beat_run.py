"""Celery's ``t/unit/app/test_beat.py``, with our entries and our scheduler, on Kafka as broker.

Its tests take the classes that they judge from ``celery.beat``: there they find ours. The tests of Celery's service derive
their scheduler from ``PersistentScheduler``: for them this is ours too. Nothing else of Celery or of its tests is changed.
"""

from __future__ import annotations

import sys
import uuid
from collections.abc import Generator
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
from celery import beat

from kafka_exec.beat import PeriodicEntry, Scheduler
from kafka_exec.broker import BrokerError, EmbeddedKafka
from tests.conformance.plugin import Plugin
from tests.conformance.sdist import NoTests, upstream_tests

HERE = Path(__file__).resolve().parent
INAPPLICABLE = HERE / "beat_inapplicable.txt"
FILE = "t/unit/app/test_beat.py"
COUNT = 169
TIMEOUT = 60

#: The tests whose scheduler is a ``PersistentScheduler`` with another tick.
SERVICE = "test_Service"


def run(argv: list[str]) -> int:
    """Runs the suite."""
    try:
        folder = upstream_tests("celery")
        sys.path.insert(0, str(folder))
        with EmbeddedKafka() as broker, patch.multiple(beat, ScheduleEntry=PeriodicEntry, Scheduler=Scheduler):
            options = ["-c", str(folder / "pyproject.toml"), "--rootdir", str(folder), "-p", "no:cacheprovider"]
            options += ["--disable-warnings", "--timeout", str(TIMEOUT), "-rsfE"]
            plugin = Beat(f"{broker.url}/c{uuid.uuid4().hex[:8]}")
            return int(pytest.main([str(folder / FILE), *options, *argv], plugins=[plugin]))
    except (BrokerError, NoTests) as error:
        print(f"conformance: {error}", file=sys.stderr)
        return 1


class Beat(Plugin):
    """Compares what was collected with upstream, skips what says nothing, and gives the tests' application its broker."""

    def __init__(self, url: str) -> None:
        super().__init__("beat", COUNT, url, hangs=TIMEOUT + 30)
        self._url = url

    # Before `-k` and `--deselect` take their part of the list away.
    @pytest.hookimpl(tryfirst=True)
    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        tests = {item.nodeid.partition("::")[2]: item for item in items}
        if len(tests) != COUNT:
            raise pytest.UsageError(
                f"{len(tests)} tests were collected, {COUNT} are known: adapt {Path(__file__).name}"
            )
        self.skip(INAPPLICABLE, tests)

    @pytest.hookimpl(wrapper=True)
    def pytest_fixture_setup(self, fixturedef: pytest.FixtureDef[Any]) -> Generator[None, Any, Any]:
        made = yield
        if fixturedef.argname == "celery_config":
            made.update(broker_url=self._url, broker_transport_options={})
        return made

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_call(self, item: pytest.Item) -> Generator[None, None, None]:
        with ExitStack() as stack:
            if f"::{SERVICE}::" in item.nodeid:
                stack.enter_context(patch.object(beat, "PersistentScheduler", Scheduler))
            return (yield)
