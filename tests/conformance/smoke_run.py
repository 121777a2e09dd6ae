"""Celery's ``t/smoke`` with Kafka as broker and result back end, in containers that are processes.

Its conftest has a container of Redis for each test, in which some tasks note that they ran: that is a ``redis-server`` here,
without the configuration file that is mounted into the container. Nothing of Celery or of its tests is changed.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any

import pytest

from kafka_exec.broker import BrokerError
from tests.conformance.plugin import Plugin
from tests.conformance.sdist import NoTests, upstream_tests

HERE = Path(__file__).resolve().parent
INAPPLICABLE = HERE / "smoke_inapplicable.txt"
EXPECTED_FAILURES = HERE / "smoke_expected_failures.txt"
COUNT = 234
TIMEOUT = 240

#: The file that is mounted into the container of Redis.
_MOUNTED = "/usr/local/etc/redis/redis.conf"


def run(argv: list[str]) -> int:
    """Runs the suite."""
    try:
        folder = upstream_tests("celery")
        sys.path[:0] = [str(folder), str(Path(sys.prefix, "pytest-celery"))]
        os.environ["PYTHONPATH"] = os.pathsep.join(sys.path[:2])
        options = [
            "-c",
            str(folder / "pyproject.toml"),
            "--rootdir",
            str(folder),
            "-p",
            "no:cacheprovider",
            "-p",
            "no:schemathesis",
        ]
        # It imports a client of Memcached, its back end, when it is collected.
        options += ["--ignore", str(folder / "t" / "smoke" / "tests" / "test_memcached_backend.py")]
        options += ["--disable-warnings", "--timeout", str(TIMEOUT), "-rsfE"]
        return int(pytest.main([str(folder / "t" / "smoke"), *options, *argv], plugins=[Smoke()]))
    except (BrokerError, NoTests) as error:
        print(f"conformance: {error}", file=sys.stderr)
        return 1


class Smoke(Plugin):
    """Has the tests use Kafka, and skips those that are about something else."""

    def __init__(self) -> None:
        super().__init__("smoke", COUNT, "Kafka in processes", hangs=TIMEOUT + 60)

    def pytest_configure(self, config: pytest.Config) -> None:
        # Of two fixtures of a name in plug-ins the one counts that was registered last.
        config.pluginmanager.register(Fixtures())

    @pytest.hookimpl(tryfirst=True)
    def pytest_collection_modifyitems(self, config: pytest.Config, items: list[pytest.Item]) -> None:
        tests = {item.nodeid.rpartition("smoke/tests/")[2]: item for item in items}
        if len(items) != COUNT or len(tests) != COUNT:
            raise pytest.UsageError(
                f"{len(items)} tests were collected, {COUNT} are known: adapt {Path(__file__).name}"
            )
        self.skip(INAPPLICABLE, tests)
        self.expect_failures(EXPECTED_FAILURES, tests)


class Fixtures:
    """The fixtures that choose Kafka."""

    @pytest.fixture(scope="session")
    def docker_client(self) -> Iterator[Any]:
        from kafka_exec.testing.containers import ProcessClient

        with ProcessClient() as client:
            run = client.containers.run

            def without_file(image: str, command: Any = None, **options: Any) -> Any:
                return run(image, [each for each in command or () if each != _MOUNTED], **options)

            client.containers.run = without_file  # type: ignore[method-assign]
            yield client

    @pytest.fixture
    def celery_broker_cluster(self, celery_kafka_broker: Any) -> Generator[Any, None, None]:
        from pytest_celery import CeleryBrokerCluster

        cluster = CeleryBrokerCluster(celery_kafka_broker)
        yield cluster
        cluster.teardown()

    @pytest.fixture
    def celery_backend_cluster(self, celery_kafka_backend: Any) -> Generator[Any, None, None]:
        from pytest_celery import CeleryBackendCluster

        cluster = CeleryBackendCluster(celery_kafka_backend)
        yield cluster
        cluster.teardown()
