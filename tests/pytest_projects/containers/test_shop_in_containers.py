"""Tests of a shop whose workers and Kafka are containers, or, here, processes."""

import time
from datetime import datetime, timedelta, timezone

import pytest
import shop_tasks as shop
from celery import chain, chord, group
from celery.exceptions import TaskRevokedError
from pytest_celery import RESULT_TIMEOUT
from pytest_celery.vendors.worker.tasks import ping

import kafka_exec
from kafka_exec.testing import assert_ran_once, dead_letters, run_until_idle


@pytest.fixture
def default_worker_tasks(default_worker_tasks):
    return {*default_worker_tasks, shop}


@pytest.fixture
def app(celery_setup):
    celery_setup.app.set_current()
    return celery_setup.app


def test_all_is_ready(celery_setup):
    assert celery_setup.ready(ping=True, control=True, docker=True)


def test_a_result(app):
    assert shop.price.delay([3, 4]).get(timeout=RESULT_TIMEOUT) == 7


def test_the_broker_is_kafka(celery_setup):
    topics = celery_setup.broker.container.client.list_topics(timeout=10).topics
    assert f"{celery_setup.broker.container.vhost}.queue.celery" in topics
    assert celery_setup.app.conf.task_acks_late


def test_a_group(app):
    assert group(shop.price.s([each]) for each in range(5))().get(timeout=RESULT_TIMEOUT) == list(range(5))


def test_a_chain(app):
    assert chain(shop.price.s([1]), shop.charge.si(42))().get(timeout=RESULT_TIMEOUT) == "order 42 is paid"


def test_a_chord(app):
    assert chord([shop.price.s([each]) for each in range(5)], shop.total.s())().get(timeout=RESULT_TIMEOUT) == 10


def test_retries(app):
    result = shop.charge.delay(42, fails=2)
    assert result.get(timeout=RESULT_TIMEOUT) == "order 42 is paid"
    run_until_idle(app)
    with pytest.raises(AssertionError, match="begun 3 times"):
        assert_ran_once(app, result)


def test_a_dead_letter(app):
    result = shop.deliver.delay(42)
    with pytest.raises(ValueError, match="42"):
        result.get(timeout=RESULT_TIMEOUT)
    run_until_idle(app)
    assert [letter.id for letter in dead_letters(app)] == [result.id]


def test_a_countdown(app):
    began = time.monotonic()
    shop.price.apply_async(([1],), countdown=1).get(timeout=RESULT_TIMEOUT)
    assert time.monotonic() - began >= 1


def test_an_eta(app):
    due = datetime.now(timezone.utc) + timedelta(seconds=1)
    shop.price.apply_async(([1],), eta=due).get(timeout=RESULT_TIMEOUT)
    assert datetime.now(timezone.utc) >= due


def test_an_ordering_key(app):
    steps = [shop.step.delay(42, each) for each in range(6)]
    times = [each.get(timeout=RESULT_TIMEOUT) for each in steps]
    assert times == sorted(times)


def test_a_deduplicated_task(app):
    first, second = (shop.price.apply_async(([1],), deduplication_id="invoice-9") for _ in range(2))
    assert first.id == second.id
    run_until_idle(app)
    assert_ran_once(app, first)


def test_a_revoked_task(app):
    result = shop.price.apply_async(([1],), countdown=2)
    result.revoke()
    with pytest.raises(TaskRevokedError):
        result.get(timeout=RESULT_TIMEOUT)


def test_a_suspended_task(app):
    result = shop.approve.delay(42)
    run_until_idle(app)
    kafka_exec.resume(app, "approval-42", "yes")
    assert result.get(timeout=RESULT_TIMEOUT) == "yes"


def test_remote_control(celery_setup, app):
    name = celery_setup.worker.hostname()
    assert app.control.inspect().ping() == {name: {"ok": "pong"}}
    assert shop.price.name in app.control.inspect().registered()[name]


def test_the_log_of_a_worker(celery_setup, app):
    shop.price.delay([1])
    celery_setup.worker.wait_for_log("succeeded in")
    celery_setup.worker.assert_log_does_not_exist("Traceback")


def test_a_process_of_the_pool_dies(app):
    result = shop.dies_once.delay()
    assert result.get(timeout=RESULT_TIMEOUT) == "lives"


def test_a_worker_is_restarted(celery_setup, app):
    celery_setup.worker.restart()
    assert shop.price.delay([1]).get(timeout=RESULT_TIMEOUT) == 1


def test_a_worker_is_killed(celery_setup, app):
    worker = celery_setup.worker
    result = shop.long.delay(1)
    worker.wait_for_log("received")
    worker.kill()
    assert (worker.container.status, worker.container.attrs["State"]["ExitCode"]) == ("exited", 137)
    worker.restart()
    assert result.get(timeout=RESULT_TIMEOUT) == "done"


def test_the_broker_is_restarted(celery_setup, app):
    shop.price.delay([1]).get(timeout=RESULT_TIMEOUT)
    celery_setup.broker.restart()
    assert shop.price.delay([2]).get(timeout=RESULT_TIMEOUT) == 2


def test_what_was_sent_meanwhile(celery_setup, app):
    celery_setup.worker.kill("SIGTERM")
    results = [ping.delay() for _ in range(3)]
    celery_setup.worker.restart()
    assert [each.get(timeout=RESULT_TIMEOUT) for each in results] == ["pong"] * 3
