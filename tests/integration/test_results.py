"""Results as a client sees them, with Celery's own interface, from workers that are processes."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
from celery import chain, chord, group
from celery.exceptions import ImproperlyConfigured, TaskRevokedError, TimeoutError
from celery.result import AsyncResult, GroupResult

from kafka_exec.broker import EmbeddedKafka
from tests.integration.app import make_app
from tests.integration.result_tasks import LITERAL, RICH, Refused
from tests.integration.workers import PATIENCE, ROOT, Crew, crew, environment, until


@pytest.fixture(scope="module")
def made(kafka: EmbeddedKafka, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Crew]:
    """One worker with four children for all tests that harm nobody."""
    with crew(kafka, tmp_path_factory.mktemp("results"), backend="same") as found:
        found.ready(found.start("shared", "-c", "4"))
        yield found


def call(made: Crew, task: str, *args: Any, **options: Any) -> AsyncResult:
    return made.app.tasks[task].apply_async(args, **options)


def other(made: Crew, task_id: str, **conf: Any) -> AsyncResult:
    """A task's result as an app sees it that has not sent the task."""
    return make_app(made.url, made.url, **conf).AsyncResult(task_id)


def shown(made: Crew, task_id: str) -> str:
    """The state of a task that another process shows."""
    return made.command("kafka", "show", task_id, "--json")


def test_a_result_comes_to_who_waits(made: Crew) -> None:
    result = call(made, "add", 2, 3)
    assert result.get(timeout=PATIENCE) == 5
    assert (result.state, result.successful(), result.result) == ("SUCCESS", True, 5)
    assert result.date_done is not None


def test_what_nobody_has_sent_is_pending(made: Crew) -> None:
    result = made.app.AsyncResult("never sent")
    assert (result.state, result.result, result.ready()) == ("PENDING", None, False)


def test_a_running_task_is_started_and_tells_its_own_states(made: Crew) -> None:
    gate = made.gate()
    held = call(made, "hold", str(gate))
    until(lambda: held.state == "STARTED")
    result, told = call(made, "progress", str(gate)), []
    waiter = threading.Thread(target=lambda: result.get(timeout=PATIENCE, on_message=told.append))
    waiter.start()
    until(lambda: result.state == "PROGRESS" and result.info == {"percent": 60})
    assert other(made, result.id).info == {"percent": 60}
    until(lambda: any(meta["result"] == {"percent": 60} for meta in told))
    gate.touch()
    waiter.join(PATIENCE)
    assert result.get(timeout=PATIENCE) == "complete"
    assert [told[-1]["status"], told[-1]["result"]] == ["SUCCESS", "complete"]
    assert held.get(timeout=PATIENCE) is None


def test_a_failure_has_its_exception_and_traceback(made: Crew) -> None:
    result = call(made, "refuse", "reason", 7)
    with pytest.raises(Refused) as caught:
        result.get(timeout=PATIENCE)
    assert caught.value.args == ("reason", 7)
    assert (result.state, result.failed()) == ("FAILURE", True)
    assert "raise Refused(*reasons)" in result.traceback
    assert isinstance(result.get(propagate=False), Refused)
    assert other(made, result.id).traceback == result.traceback


def test_a_task_that_waits_for_its_retry_says_so(made: Crew) -> None:
    waiting = call(made, "flaky", 1, 60)
    until(lambda: waiting.state == "RETRY")
    assert isinstance(waiting.result, Refused)
    assert not waiting.ready()
    waiting.revoke()
    assert call(made, "flaky", 2, 0).get(timeout=PATIENCE) == 2


def test_a_revoked_task_is_revoked_for_who_waits(made: Crew) -> None:
    result = call(made, "echo", 1, countdown=3600)
    result.revoke()
    with pytest.raises(TaskRevokedError):
        result.get(timeout=PATIENCE)
    assert other(made, result.id).state == "REVOKED"


def test_children_and_parents(made: Crew) -> None:
    result = call(made, "spawn")
    assert result.get(timeout=PATIENCE) == "parent"
    child, pair = result.children
    assert (child.get(timeout=PATIENCE), pair.get(timeout=PATIENCE)) == ("child", [1, 2])
    assert len(list(other(made, result.id).collect())) == 4 + 1
    add = made.app.tasks["add"]
    last = chain(add.s(1, 1), add.s(2), add.s(3)).delay()
    assert last.get(timeout=PATIENCE) == 7
    assert last.parent.parent.get(timeout=PATIENCE) == 2
    until(lambda: other(made, last.parent.parent.id).children == [last.parent])


def test_a_group_is_saved_and_restored_anywhere(made: Crew) -> None:
    echo = made.app.tasks["echo"]
    result = group(echo.s(number) for number in range(3)).delay()
    result.save()
    restored = GroupResult.restore(result.id, app=make_app(made.url, made.url))
    assert restored == result
    assert restored.get(timeout=PATIENCE) == [0, 1, 2]
    restored.delete()
    assert GroupResult.restore(result.id, app=made.app) is None


def test_groups_are_joined_and_iterated(made: Crew) -> None:
    echo = made.app.tasks["echo"]
    result = group(echo.s(number) for number in range(50)).delay()
    assert result.join_native(timeout=PATIENCE) == list(range(50))
    assert {meta["result"] for _, meta in result.iter_native()} == set(range(50))
    found = GroupResult(result.id, [other(made, each.id) for each in result.results])
    assert found.join(timeout=PATIENCE) == list(range(50))
    assert found.completed_count() == 50


def test_a_failure_in_a_group_is_raised(made: Crew) -> None:
    tasks = made.app.tasks
    result = group(tasks["echo"].s(1), tasks["refuse"].s("no")).delay()
    with pytest.raises(Refused, match="no"):
        result.get(timeout=PATIENCE)


def test_what_is_forgotten_is_so_everywhere(made: Crew) -> None:
    result = call(made, "echo", 1)
    assert result.get(timeout=PATIENCE) == 1
    another = other(made, result.id)
    assert another.state == "SUCCESS"
    result.forget()
    assert other(made, result.id).state == made.app.AsyncResult(result.id).state == "PENDING"
    with pytest.raises(AssertionError, match="nothing is known"):
        shown(made, result.id)


def test_old_results_expire_and_are_cleaned_up(made: Crew) -> None:
    gate = made.gate()
    held, ended = call(made, "hold", str(gate)), call(made, "echo", 1)
    assert ended.get(timeout=PATIENCE) == 1
    until(lambda: held.state == "STARTED")
    forgetful = make_app(made.url, made.url, result_expires=0.5)
    until(lambda: forgetful.AsyncResult(ended.id).state == "PENDING")
    assert other(made, ended.id).state == "SUCCESS"
    forgetful.backend.cleanup()
    assert other(made, ended.id).state == "PENDING"
    assert other(made, held.id).state == "STARTED"
    gate.touch()
    assert held.get(timeout=PATIENCE) is None


@pytest.mark.timed
def test_a_timeout_is_in_time(made: Crew) -> None:
    gate = made.gate()
    result = call(made, "hold", str(gate))
    began = time.monotonic()
    with pytest.raises(TimeoutError):
        result.get(timeout=0.5)
    assert 0.5 <= time.monotonic() - began < 1.5
    gate.touch()
    assert result.get(timeout=PATIENCE) is None


def test_a_result_of_the_past_is_found_from_a_new_process(made: Crew) -> None:
    result = call(made, "add", 20, 3)
    assert result.get(timeout=PATIENCE) == 23
    assert '"result": 23' in shown(made, result.id)


def test_datetimes_uuids_and_decimals_come_back(made: Crew) -> None:
    result = call(made, "rich")
    assert result.get(timeout=PATIENCE) == RICH
    assert other(made, result.id).result == RICH


def test_an_oversized_result_fails_its_task_and_no_other(made: Crew) -> None:
    result = call(made, "large", 3_000_000)
    with pytest.raises(Exception, match="too large") as caught:
        result.get(timeout=PATIENCE)
    assert type(caught.value).__name__ == "ResultTooLarge"
    assert "return less" in str(caught.value)
    assert call(made, "add", 1, 1).get(timeout=PATIENCE) == 2
    assert call(made, "large", 300_000).get(timeout=PATIENCE) == "x" * 300_000


def test_eight_threads_wait_for_results_of_their_own(made: Crew) -> None:
    found: dict[int, list[int]] = {}

    def ask(number: int) -> None:
        found[number] = [call(made, "add", number, n).get(timeout=PATIENCE) for n in range(20)]

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(2 * PATIENCE)
    assert found == {number: list(range(number, number + 20)) for number in range(8)}


# Pools, serializers, other brokers


@pytest.mark.parametrize("pool", ["solo", "threads"])
def test_other_pools_store_results(kafka: EmbeddedKafka, tmp_path: Any, pool: str) -> None:
    with crew(kafka, tmp_path, backend="same", result_extended=True) as made:
        made.ready(made.start(pool, "-P", pool, "-c", "2"))
        results = group(made.app.tasks["add"].s(1, n) for n in range(20)).delay()
        assert results.get(timeout=PATIENCE) == list(range(1, 21))
        with pytest.raises(Refused):
            call(made, "refuse", "no").get(timeout=PATIENCE)
        first = other(made, results[0].id)
        assert (first.name, first.args, first.kwargs) == ("add", [1, 0], {})
        assert (first.worker, first.retries, first.queue) == (f"{pool}@test", 0, "celery")


@pytest.mark.parametrize(
    ("serializer", "compression"), [("json", "gzip"), ("pickle", None), ("pickle", "gzip"), (LITERAL, None)]
)
def test_any_serializer_and_compression(
    kafka: EmbeddedKafka, tmp_path: Any, serializer: str, compression: str | None
) -> None:
    conf = {"result_serializer": serializer, "result_compression": compression, "result_accept_content": [serializer]}
    with crew(kafka, tmp_path, backend="same", **conf) as made:
        made.ready(made.start("one", "-P", "solo"))
        value = {"a": [1, 2.5, None, "é" * 1000]}
        result = call(made, "echo", value)
        assert result.get(timeout=PATIENCE) == value
        assert other(made, result.id, **conf).result == value
        with pytest.raises(Refused, match="no"):
            call(made, "refuse", "no").get(timeout=PATIENCE)
        saved = GroupResult("a-group", [result], app=made.app)
        saved.save()
        assert GroupResult.restore("a-group", app=make_app(made.url, made.url, **conf)) == saved
        body = chord([made.app.tasks["echo"].s(1), made.app.tasks["echo"].s(2)], made.app.tasks["total"].s())
        assert body.delay().get(timeout=PATIENCE) == 3


def test_results_elsewhere_work_and_chords_are_refused(kafka: EmbeddedKafka, tmp_path: Any, prefix: str) -> None:
    backend = kafka.url.replace("://", "://ann:geheim@") + f"/{prefix}"
    plain = {"result_backend_transport_options": {"kafka": {"security.protocol": "PLAINTEXT"}}}
    with crew(kafka, tmp_path, backend=backend, **plain) as made:
        made.ready(made.start("one", "-P", "solo"))
        assert call(made, "add", 1, 2).get(timeout=PATIENCE) == 3
        with pytest.raises(ImproperlyConfigured) as caught:
            chord([made.app.tasks["add"].s(1, 1)], made.app.tasks["total"].s()).delay()
        assert made.prefix in str(caught.value)
        assert prefix in str(caught.value)
        assert "geheim" not in str(caught.value)


# Clients of other kinds

CLIENT = """
import sys
{patch}
import {module} as green
from tests.integration.app import app
add = app.tasks["add"]
def first(sent):
    return sent.get(timeout=30)
sent = [add.delay(number, 0) for number in range(8)]
running = [green.spawn(first, each) for each in sent]  # all at once: each may begin a drainer of Celery
assert [each.{wait}() for each in running] == list(range(8))
def ask(number):
    return [add.delay(number, n).get(timeout=30) for n in range(5)]
running = [green.spawn(ask, number) for number in range(8)]
found = [each.{wait}() for each in running]
assert found == [list(range(number, number + 5)) for number in range(8)], found
gate = app.tasks["hold"].delay(sys.argv[1])
try:
    gate.get(timeout=0.3)
except app.backend.TimeoutError:
    print("all")
open(sys.argv[1], "w").close()
gate.get(timeout=30)
"""

FORK = """
import os, sys
from tests.integration.app import app
add = app.tasks["add"]
first = add.delay(1, 2)
assert first.get(timeout=30) == 3
child = os.fork()
sent = add.delay(3, 4)
assert sent.get(timeout=30) == 7
assert app.AsyncResult(first.id).get(timeout=30) == 3
if child:
    assert os.waitpid(child, 0)[1] == 0
    assert add.delay(5, 6).get(timeout=30) == 11
    print("all")
"""


def run(made: Crew, script: str) -> str:
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", script, str(made.gate())],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=90,
        env=environment(made.url, made.folder, made.conf, **made.env),
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.parametrize(
    ("module", "patch", "wait"),
    [
        ("gevent", "import gevent.monkey; gevent.monkey.patch_all()", "get"),
        ("eventlet", "import eventlet; eventlet.monkey_patch()", "wait"),
    ],
)
def test_green_threads_wait_at_once(made: Crew, module: str, patch: str, wait: str) -> None:
    assert run(made, CLIENT.format(module=module, patch=patch, wait=wait)) == "all\n"


def test_a_process_forks_after_it_has_waited(made: Crew) -> None:
    assert run(made, FORK) == "all\n"
