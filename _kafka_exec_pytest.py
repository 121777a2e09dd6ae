"""The fixtures of kafka_exec for pytest; docs/testing.md tells of them.

pytest imports this module in each of its processes, also where no test uses it. So it stands outside of the package, whose
import takes Celery and librdkafka with it; each fixture imports what it needs.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from pathlib import Path

    from celery import Celery

    from kafka_exec.testing import KafkaTime, Workers

#: The variable with the URL of a running broker.
VARIABLE = "KAFKA_TEST_URL"

_URL_HELP = "a running broker for the tests, as kafka-exec://host:9092/prefix; without it an embedded one is started"


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.getgroup("kafka_exec").addoption("--kafka-url", metavar="URL", help=f"{_URL_HELP} (also ${VARIABLE})")
    parser.addini("kafka_url", _URL_HELP, default="")
    parser.addini("kafka_app", "the app under test, as in celery -A: shop, or shop.celery:app", default="")


def pytest_configure(config: pytest.Config) -> None:
    """Adds the fixtures of the vendor for pytest-celery, where that is loaded."""
    if "pytest_celery" in sys.modules:
        from kafka_exec.testing.containers import fixtures

        config.pluginmanager.register(fixtures, "kafka_exec.containers")


@pytest.fixture(scope="session")
def kafka_broker(pytestconfig: pytest.Config) -> Iterator[str]:
    """The URL of the broker of all tests of this process."""
    from kafka_exec.testing import broker

    option = pytestconfig.getoption("--kafka-url")
    with broker(option or os.environ.get(VARIABLE) or pytestconfig.getini("kafka_url")) as url:
        yield url


@pytest.fixture
def kafka_url(kafka_broker: str) -> Iterator[str]:
    """The URL for one test: with a prefix that no other test has. Its topics are deleted after the test."""
    from kafka_exec.testing import own_prefix

    with own_prefix(kafka_broker) as url:
        yield url


@pytest.fixture
def kafka_config(kafka_url: str) -> dict[str, Any]:
    """The settings by which an app uses the test's broker. Override it to add some of yours."""
    from kafka_exec.testing import settings_for

    return settings_for(kafka_url)


@pytest.fixture
def kafka_app(kafka_config: dict[str, Any], pytestconfig: pytest.Config) -> Iterator[Celery]:
    """The app of the ini option ``kafka_app``, pointed to the test's broker; without the option a new one without tasks."""
    from celery import Celery
    from celery.app.utils import find_app

    from kafka_exec.testing import pointed

    name = pytestconfig.getini("kafka_app")
    with pointed(find_app(name) if name else Celery("tests", set_as_current=False), kafka_config) as app:
        yield app


@pytest.fixture
def kafka_workers(
    kafka_app: Celery,
    kafka_config: dict[str, Any],
    pytestconfig: pytest.Config,
    request: pytest.FixtureRequest,
    tmp_path: Path,
) -> Iterator[Workers]:
    """Starts workers: ``kafka_workers.thread()``, ``kafka_workers.process()``."""
    from kafka_exec.testing import Workers

    waits = request.getfixturevalue("kafka_time").file if "kafka_time" in request.fixturenames else None
    with Workers(kafka_app, pytestconfig.getini("kafka_app") or None, kafka_config, tmp_path, waits) as workers:
        yield workers


@pytest.fixture
def kafka_worker(kafka_workers: Workers) -> Any:
    """A worker in a thread, which runs one task after another."""
    return kafka_workers.thread()


@pytest.fixture
def kafka_time(tmp_path: Path) -> Iterator[KafkaTime]:
    """With it tasks with a countdown or an ETA, retries and sleeps of durable tasks go on at once; it has their waits."""
    from kafka_exec.testing import at_once

    with at_once(tmp_path / "kafka-waits") as noted:
        yield noted


@pytest.fixture
def run_until_idle(kafka_app: Celery) -> Callable[..., None]:
    """``run_until_idle(timeout=60)`` returns when all tasks have ended, and all that they have sent."""
    from kafka_exec.testing import run_until_idle

    return lambda timeout=60.0: run_until_idle(kafka_app, timeout)


@pytest.fixture
def dead_letters(kafka_app: Celery) -> Callable[[], list[Any]]:
    """``dead_letters()``: the dead letters of the test's queues, in the order in which they died."""
    from kafka_exec.testing import dead_letters

    return lambda: dead_letters(kafka_app)


@pytest.fixture
def assert_ran_once(kafka_app: Celery) -> Callable[..., None]:
    """``assert_ran_once(task, key=None)``: by the log, a task ran once. The task: a result, an id, a task or its name."""
    from kafka_exec.testing import assert_ran_once

    return lambda task, key=None: assert_ran_once(kafka_app, task, key)
