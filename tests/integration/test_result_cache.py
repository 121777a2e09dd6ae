"""The cache of results: it answers without Kafka what is settled, and nothing is lost or wrong when it is away."""

from __future__ import annotations

import logging
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from celery import Celery

from kafka_exec.backend.cache.copies import Cache, CopyStep
from kafka_exec.backend.cache.projection import Projection
from kafka_exec.backend.control_plane import ControlPlane, control_plane
from kafka_exec.broker import EmbeddedKafka
from kafka_exec.core.cluster.topology import nodes_topic, state_topic
from kafka_exec.core.results.lifecycle import State
from kafka_exec.core.results.projection import Copy, LogPosition
from kafka_exec.core.results.state_record import StateRecord
from kafka_exec.kafka.nodes.node import Node
from kafka_exec.kafka.publish.partitioner import partition_of
from kafka_exec.kafka.results.states import StateReader
from tests.integration.app import make_app
from tests.integration.redis_tools import RedisServer
from tests.integration.workers import ROOT, crew, environment, until

SECRET = "correct-horse"

#: What a look-up may take when Redis does not answer, seconds: its time-out, and Kafka's answer.
BOUND = 3.0

AWAY = "does not answer"
BACK = "answers again"


@pytest.fixture
def redis(tmp_path: Path) -> Iterator[RedisServer]:
    server = RedisServer(tmp_path)
    yield server
    server.stop()


class Stage:
    """An app whose results are cached, and the nodes in this process that drive its control plane."""

    def __init__(self, url: str, cache_url: str) -> None:
        self.url = url
        self.conf = {"kafka_exec_cache_url": cache_url}
        self.writer = self.app().backend
        self._nodes: list[tuple[Node, ControlPlane]] = []

    def app(self, **conf: Any) -> Celery:
        """The app as another process has it: nothing was sent or watched by it."""
        return make_app(self.url, self.url, **{**self.conf, **conf})

    def start(self, name: str = "a") -> None:
        space = self.writer.space
        node = Node(name, space.cluster, nodes_topic(space.topics))
        plane = control_plane(self.writer, node)
        plane.start()
        self._nodes.append((node, plane))

    def stop(self) -> None:
        """Ends the node that was started first."""
        node, plane = self._nodes.pop(0)
        assert plane.stop(30)
        node.stop()

    def close(self) -> None:
        while self._nodes:
            self.stop()

    @property
    def cache(self) -> Cache:
        """As a process has it that has not used it yet."""
        cache = self.app().backend.cache
        assert cache is not None
        return cache

    def done(self, task_id: str, result: Any) -> None:
        self.writer.store_result(task_id, result, "SUCCESS")

    def wait_until_cached(self, *task_ids: str) -> None:
        cache = self.cache
        until(lambda: all(cache.find(each) is not None for each in task_ids), what=f"{task_ids} in the cache")

    def run(self, script: str, folder: Path, *arguments: str, **env: str) -> str:
        """The output of a script that imports the tests' app."""
        done = subprocess.run(
            [sys.executable, "-W", "ignore", "-c", script, *arguments],
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=90,
            env=environment(self.url, folder, self.conf, RESULT_BACKEND=self.url, **env),
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout


@pytest.fixture
def stage(broker_url: str, redis: RedisServer) -> Iterator[Stage]:
    made = Stage(broker_url, redis.url)
    yield made
    made.close()


@pytest.fixture
def no_kafka(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """From its call on, to ask Kafka for a state is an error."""

    def refuse(self: StateReader, task_id: str) -> None:
        raise AssertionError(f"Kafka was asked for {task_id}")

    return lambda: monkeypatch.setattr(StateReader, "find", refuse)


def lines(caplog: pytest.LogCaptureFixture, purpose: str, text: str) -> list[str]:
    return [line for line in caplog.messages if line.startswith(f"Redis ({purpose}") and text in line]


# Looking up

READ = """
import sys
{patch}
from kafka_exec.kafka.results import states
def refuse(*args):
    raise AssertionError("Kafka was asked")
states.StateReader.find = refuse
states.history = refuse
from tests.integration.app import app
print([app.AsyncResult(each).get(timeout=30) for each in sys.argv[1:]])
"""


@pytest.mark.parametrize(
    ("pool", "patch"),
    [
        ("prefork", ""),
        ("gevent", "import gevent.monkey; gevent.monkey.patch_all()"),
        ("eventlet", "import eventlet; eventlet.monkey_patch()"),
    ],
)
def test_a_result_of_the_past_is_read_without_kafkas_history(
    kafka: EmbeddedKafka, tmp_path: Path, redis: RedisServer, pool: str, patch: str
) -> None:
    with crew(kafka, tmp_path, backend="same", kafka_exec_cache_url=redis.url) as made:
        worker = made.start("one", "-P", pool, "-c", "2")
        made.ready(worker)
        results = [made.app.tasks["echo"].delay({"number": number}) for number in range(3)]
        assert [each.get(timeout=60)["number"] for each in results] == [0, 1, 2]
        stage = Stage(made.url, redis.url)
        stage.wait_until_cached(*(each.id for each in results))
        found = stage.run(READ.format(patch=patch), tmp_path, *(each.id for each in results))
        assert found == "[{'number': 0}, {'number': 1}, {'number': 2}]\n"
        worker.stop()
        assert worker.output.count("Traceback") == 0


def test_results_and_groups_come_from_the_cache(stage: Stage, no_kafka: Callable[[], None]) -> None:
    app = stage.app()
    stage.done("one", 1)
    group = app.GroupResult("both", [app.AsyncResult("one"), app.AsyncResult("two")])
    group.save()
    stage.start()
    stage.wait_until_cached("one", "group:both")
    no_kafka()
    restored = stage.app().GroupResult.restore("both")
    assert restored == group
    assert restored[0].result == 1
    with pytest.raises(AssertionError, match="Kafka was asked for two"):
        restored[1].result  # noqa: B018 - it asks


def test_what_is_not_settled_is_asked_of_kafka(stage: Stage, redis: RedisServer) -> None:
    stage.start()
    reader = stage.app()
    stage.writer.mark_as_failure("slow", ValueError("given up"))
    stage.writer.mark_as_revoked("stopped")
    stage.done("last", 0)
    stage.wait_until_cached("last")
    states = [(reader.AsyncResult("slow").state, reader.AsyncResult("stopped").state)]
    stage.done("slow", "after all")
    stage.done("stopped", "after all")
    # At once, whether it is in the cache by now or not.
    states.append((reader.AsyncResult("slow").state, reader.AsyncResult("stopped").state))
    assert states == [("FAILURE", "REVOKED"), ("SUCCESS", "SUCCESS")]
    stage.wait_until_cached("slow", "stopped")
    assert stage.app().AsyncResult("slow").result == "after all"
    assert len(redis.names("result:*")) == 3


def test_results_expire_in_the_cache_too(stage: Stage, redis: RedisServer) -> None:
    stage.conf["result_expires"] = 1000
    stage.writer = stage.app().backend
    old = StateRecord("old", State.DONE, "SUCCESS", finished=time.time() - 2000, result=1)
    stage.writer._write(old, in_worker=False)
    stage.done("new", 2)
    stage.start()
    stage.wait_until_cached("new")
    (name,) = redis.names("result:new")
    assert 900 < redis.client.ttl(name) <= 1000
    until(lambda: len(redis.names("place:*")) == 16, what="all partitions were read")
    assert redis.names("result:old") == []


def test_a_fork_shares_no_connection(stage: Stage, tmp_path: Path) -> None:
    stage.start()
    for number in range(40):
        stage.done(f"n-{number}", number)
    stage.wait_until_cached(*(f"n-{number}" for number in range(40)))
    script = READ.format(patch="") + (
        "import os\n"
        "child = os.fork()\n"
        "numbers = [app.AsyncResult(f'n-{n}').get(timeout=30) for n in range(0 if child else 20, 20 if child else 40)]\n"
        "assert numbers == list(range(0 if child else 20, 20 if child else 40)), numbers\n"
        "if child:\n"
        "    assert os.waitpid(child, 0)[1] == 0\n"
        "    print('all')\n"
    )
    assert stage.run(script, tmp_path, "n-0").splitlines() == ["[0]", "all"]


# Forgetting


def test_what_is_forgotten_stays_so_for_a_projection_that_is_behind(stage: Stage, redis: RedisServer) -> None:
    stage.done("early", 1)
    stage.start()
    stage.wait_until_cached("early")
    stage.stop()
    stage.app().AsyncResult("early").forget()
    stage.done("late", 2)
    stage.app().AsyncResult("late").forget()
    assert redis.names("result:*") == []
    # A projection that has come as far as the result, not as far as its tombstone.
    cache = stage.cache
    partition = partition_of("late", 16)
    before = cache.places([partition])[partition]
    late = StateRecord("late", State.DONE, "SUCCESS", result=2).encode()
    assert cache.take([CopyStep(partition, before, LogPosition(before.offset, True), {"late": Copy(late, None)})])
    assert len(redis.names("result:late")) == 1
    assert [stage.app().AsyncResult(each).state for each in ("early", "late")] == ["PENDING", "PENDING"]
    stage.start()
    until(lambda: not redis.names("forgotten:*"), what="the tombstones are projected")
    assert redis.names("result:*") == []
    assert [stage.app().AsyncResult(each).state for each in ("early", "late")] == ["PENDING", "PENDING"]
    stage.done("early", 3)
    stage.wait_until_cached("early")


@pytest.mark.timed
def test_what_is_forgotten_while_redis_is_away_goes_with_its_tombstone(stage: Stage, redis: RedisServer) -> None:
    stage.done("one", 1)
    stage.start()
    stage.wait_until_cached("one")
    redis.signal(signal.SIGSTOP)
    began = time.monotonic()
    stage.app().AsyncResult("one").forget()
    assert time.monotonic() - began < BOUND
    assert stage.app().AsyncResult("one").state == "PENDING"
    redis.signal(signal.SIGCONT)
    until(lambda: not redis.names("result:one"), what="the tombstones are projected")


def test_a_cache_that_is_being_filled_does_not_answer(stage: Stage, redis: RedisServer) -> None:
    record = StateRecord("one", State.DONE, "SUCCESS", result=1)
    stage.writer._write(record, in_worker=False)
    partition = partition_of("one", 16)
    cache = stage.cache
    copies: dict[str, Copy | None] = {"one": Copy(record.encode(), None)}
    assert cache.take([CopyStep(partition, LogPosition(), LogPosition(1), copies)])
    assert stage.cache.find("one") is None
    assert cache.take([CopyStep(partition, LogPosition(1), LogPosition(1, True), {})])
    assert stage.cache.find("one") == record
    # Whoever comes from another place changes nothing.
    assert not cache.take([CopyStep(partition, LogPosition(), LogPosition(2), {"one": None})])
    assert stage.cache.find("one") == record


# Faults


def test_redis_is_stopped_emptied_and_back(
    stage: Stage, redis: RedisServer, caplog: pytest.LogCaptureFixture, no_kafka: Callable[[], None]
) -> None:
    caplog.set_level(logging.WARNING, "kafka_exec")
    stage.start()
    stage.done("before", 1)
    stage.wait_until_cached("before")
    app = stage.app()
    assert app.AsyncResult("before").state == "SUCCESS"
    redis.stop()
    began = time.monotonic()
    until(lambda: app.AsyncResult("before").state == "SUCCESS" and lines(caplog, "looking", AWAY))
    assert time.monotonic() - began < 2 * BOUND
    stage.done("meanwhile", 2)
    assert stage.app().AsyncResult("meanwhile").result == 2
    until(lambda: lines(caplog, "filling", AWAY), what="the projection says so")
    redis.start()
    stage.wait_until_cached("before", "meanwhile")
    until(lambda: app.AsyncResult("before").state == "SUCCESS" and lines(caplog, "looking", BACK))
    until(lambda: lines(caplog, "filling", BACK))
    told = [len(lines(caplog, purpose, text)) for purpose in ("looking", "filling") for text in (AWAY, BACK)]
    assert told == [1, 1, 1, 1], caplog.messages
    no_kafka()
    assert [stage.app().AsyncResult(each).result for each in ("before", "meanwhile")] == [1, 2]


@pytest.mark.timed
def test_redis_stands_still_and_the_projection_goes_on_from_its_place(stage: Stage, redis: RedisServer) -> None:
    stage.start()
    stage.done("before", 1)
    stage.wait_until_cached("before")
    kept = redis.names("result:before")
    redis.signal(signal.SIGSTOP)
    app, slowest = stage.app(), 0.0
    for number in range(20):
        began = time.monotonic()
        assert app.AsyncResult("before").state == "SUCCESS"
        stage.done(f"meanwhile-{number}", number)
        slowest = max(slowest, time.monotonic() - began)
    redis.signal(signal.SIGCONT)
    assert slowest < BOUND
    stage.wait_until_cached("before", *(f"meanwhile-{number}" for number in range(20)))
    assert redis.names("result:before") == kept


def test_a_cache_that_was_emptied_is_filled_again(stage: Stage, redis: RedisServer) -> None:
    stage.start()
    for number in range(40):
        stage.done(f"n-{number}", number)
    stage.wait_until_cached(*(f"n-{number}" for number in range(40)))
    redis.client.flushall()
    stage.wait_until_cached(*(f"n-{number}" for number in range(40)))


def test_owners_share_hand_over_and_may_overlap(stage: Stage, redis: RedisServer) -> None:
    backend = stage.writer
    states = state_topic(backend.space.settings, backend.space.topics)
    stage.start("a")
    stage.start("b")
    # One that believes to own all, beside those two.
    other = Projection(backend.space.cluster, states, stage.cache, lambda: (frozenset({0}), 1), None)
    other.start()
    ids = [f"n-{number}" for number in range(300)]
    for each in ids[:100]:
        stage.done(each, each)
    stage.wait_until_cached(*ids[:100])
    other.stop(30)
    for each in ids[100:200]:
        stage.done(each, each)
    stage.stop()
    for each in ids[200:]:
        stage.done(each, each)
    stage.wait_until_cached(*ids)
    assert len(redis.names("result:*")) == 300


# Secrets and mistakes


def test_nothing_shows_the_password(
    kafka: EmbeddedKafka, tmp_path: Path, prefix: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    server = RedisServer(tmp_path, SECRET)
    try:
        with crew(kafka, tmp_path, backend="same", kafka_exec_cache_url=server.url) as made:
            worker = made.start("one", "-P", "solo", "-l", "DEBUG")
            made.ready(worker)
            result = made.app.tasks["echo"].delay(1)
            assert result.get(timeout=60) == 1
            Stage(made.url, server.url).wait_until_cached(result.id)
            shown = [worker.output, made.app.bugreport(), made.app.conf.humanize(), repr(made.app.backend.cache)]
            for command in (["report"], ["inspect", "conf"], ["inspect", "stats"]):
                shown.append(made.command(*command, *(["--timeout", "2"] if command[0] == "inspect" else [])))
            with made.app.connection_for_write() as connection:
                shown += [repr(connection.info()), repr(connection.connect().space.settings)]
            misled = Stage(made.url, server.url_with(f"{SECRET}-not"))
            assert misled.app().AsyncResult(result.id).get(timeout=60) == 1
            app = misled.app()
            until(lambda: app.AsyncResult(result.id).result == 1 and lines(caplog, "looking", AWAY))
            assert SECRET not in "".join([*shown, *caplog.messages])
    finally:
        server.stop()
