"""Celery's ``t/integration`` with one broker and result back end: all but ``test_backend.py``, which needs an Azure account.

Many of its tests skip themselves unless the result back end's URL begins with ``redis``: not for its results, but because
they use a Redis server as a notebook in which their tasks note that they ran. For these there is one, a process of its
own. Their guard is opened by the URL in their configuration: a ``str`` that answers ``startswith("redis")`` with yes to a
module of the suite that asks, and to nobody else. Nothing of Celery or of its tests is changed otherwise.
"""

from __future__ import annotations

import contextlib
import os
import sys
import uuid
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any

import pytest

from kafka_exec.broker import BrokerError, EmbeddedKafka
from tests.bench.servers import PEERS, NoPeer, redis
from tests.conformance.plugin import Plugin
from tests.conformance.sdist import NoTests, upstream_tests

HERE = Path(__file__).resolve().parent
INAPPLICABLE = HERE / "celery_inapplicable.txt"
EXPECTED_FAILURES = HERE / "celery_expected_failures.txt"
SCHEME = "kafka-exec://"
SUITE = "t.integration."
COUNT = 407
TIMEOUT = 240

#: It asks for the URL not to skip, but to be content with less of Redis.
NO_GUARD = "test_group_args_and_kwargs"


def run(argv: list[str]) -> int:
    """Runs the suite; ``--peer redis`` or ``--peer rabbitmq`` shows how it judges an established broker."""
    argv = list(argv)
    peer = None
    if "--peer" in argv:
        at = argv.index("--peer")
        peer = argv[at + 1] if at + 1 < len(argv) else ""
        if peer not in ("redis", "rabbitmq"):
            print("conformance: --peer needs redis or rabbitmq", file=sys.stderr)
            return 2
        del argv[at : at + 2]
    try:
        folder = upstream_tests("celery")
        sys.path.insert(0, str(folder))
        with contextlib.ExitStack() as stack:
            notebook = stack.enter_context(_notebook())
            broker, results = stack.enter_context(_broker(peer, notebook))
            _set_environment(folder, broker, results, notebook)
            options = [
                "-c",
                str(folder / "pyproject.toml"),
                "--rootdir",
                str(folder),
                "-p",
                "no:cacheprovider",
            ]
            options += ["--ignore", str(folder / "t" / "integration" / "test_backend.py")]
            options += ["-p", "celery.contrib.pytest", "--disable-warnings", "--timeout", str(TIMEOUT), "-rsxXfE"]
            plugin = Celery(broker, results, has_notebook=notebook is not None)
            return int(pytest.main([str(folder / "t" / "integration"), *options, *argv], plugins=[plugin]))
    except (BrokerError, NoTests, NoPeer) as error:
        print(f"conformance: {error}", file=sys.stderr)
        return 1


@contextlib.contextmanager
def _notebook() -> Iterator[str | None]:
    with contextlib.ExitStack() as stack:
        try:
            url = stack.enter_context(redis()).url
        except NoPeer:
            url = None
        yield url


@contextlib.contextmanager
def _broker(peer: str | None, notebook: str | None) -> Iterator[tuple[str, str]]:
    """The URLs of broker and result back end; RabbitMQ has its results in Redis."""
    if peer is None:
        with EmbeddedKafka() as broker:
            url = f"{broker.url}/c{uuid.uuid4().hex[:8]}"
            yield url, url
    else:
        with PEERS[peer]() as established:
            yield established.url, established.results or notebook or "redis://"


def _set_environment(folder: Path, broker: str, results: str, notebook: str | None) -> None:
    """Sets the variables that the suite reads, and those that the commands need that it starts."""
    os.environ["TEST_BROKER"] = broker
    os.environ["TEST_BACKEND"] = results
    if notebook is not None:
        _, _, address = notebook.partition("//")
        os.environ["REDIS_HOST"], _, os.environ["REDIS_PORT"] = address.partition("/")[0].partition(":")
    os.environ["PYTHONPATH"] = os.pathsep.join([str(folder), os.environ.get("PYTHONPATH", "")]).rstrip(os.pathsep)
    os.environ.setdefault("WORKER_LOGLEVEL", "INFO")  # as upstream does: some tests read the log
    os.environ["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])


class OpenedGuard(str):
    """The URL of a result back end, which lets in the tests that want a Redis server for their notes."""

    is_open = False

    def startswith(self, prefix: Any, *args: Any) -> bool:
        asks = sys._getframe(1).f_globals.get("__name__", "")
        wanted = "redis" in ([prefix] if isinstance(prefix, str) else prefix)
        return (wanted and OpenedGuard.is_open and asks.startswith(SUITE)) or super().startswith(prefix, *args)


class Celery(Plugin):
    """Compares what was collected with upstream, marks the exceptions, and opens the guards."""

    def __init__(self, broker: str, results: str, *, has_notebook: bool) -> None:
        super().__init__("celery", COUNT, broker, hangs=TIMEOUT + 30)
        self._ours = broker.startswith(SCHEME)
        self._has_notebook = has_notebook

    # Before `-k` and `--deselect` take their part of the list away.
    @pytest.hookimpl(tryfirst=True)
    def pytest_collection_modifyitems(self, config: pytest.Config, items: list[pytest.Item]) -> None:
        tests = {_name(item): item for item in items}
        if len(items) != COUNT or len(tests) != COUNT:
            raise pytest.UsageError(
                f"{len(items)} tests were collected, {COUNT} are known: adapt {Path(__file__).name}"
            )
        for item in items:
            # In front of the five minutes which upstream gives some of them.
            item.add_marker(pytest.mark.timeout(config.getoption("timeout")), append=False)
        # One test leaves a mark for all that follow it in the process: "never wait for a result".
        items.sort(key=lambda item: "/test_worker.py::" not in item.nodeid)
        if self._ours:
            self.skip(INAPPLICABLE, tests)
            self.expect_failures(EXPECTED_FAILURES, tests)

    @pytest.hookimpl(wrapper=True)
    def pytest_fixture_setup(self, fixturedef: pytest.FixtureDef[Any]) -> Generator[None, Any, Any]:
        made = yield
        if fixturedef.argname == "celery_config":
            made["result_backend"] = OpenedGuard(made["result_backend"])
        return made

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_setup(self, item: pytest.Item) -> None:
        OpenedGuard.is_open = self._has_notebook and NO_GUARD not in item.name

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(self) -> Generator[None, pytest.TestReport, pytest.TestReport]:
        report = yield
        if not self._has_notebook and report.skipped and isinstance(report.longrepr, tuple):
            file, line, reason = report.longrepr
            if "requires redis result" in reason.lower():
                report.longrepr = (file, line, "Skipped: no redis-server")
        return report


def _name(item: pytest.Item) -> str:
    return item.nodeid.rpartition("integration/")[2]
