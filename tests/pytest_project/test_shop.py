"""Tests of an application, with the fixtures of kafka_exec."""

import time

import pytest
import shop

import kafka_exec
from kafka_exec.testing import NotIdle


def test_a_result(kafka_worker):
    assert shop.price.delay([3, 4]).get(timeout=30) == 7


def test_all_that_a_task_sends(kafka_worker, kafka_time, run_until_idle, assert_ran_once):
    shop.order.delay(42, [3, 4])
    run_until_idle()
    assert_ran_once(shop.order)
    assert_ran_once(shop.price)
    assert_ran_once(shop.charge, key="order-42")
    assert kafka_time.of(shop.charge) == [7 * 86400]  # a week, which nobody has waited


def test_retries(kafka_worker, kafka_time, run_until_idle, assert_ran_once):
    result = shop.charge.delay(42, fails=2)
    run_until_idle()
    assert result.get() == "order 42 is paid"
    assert kafka_time.of(result) == [60, 120]
    with pytest.raises(AssertionError, match="begun 3 times"):
        assert_ran_once(result)


def test_a_dead_letter(kafka_worker, kafka_time, run_until_idle, dead_letters):
    shop.deliver.delay(42)
    run_until_idle()
    (letter,) = dead_letters()
    assert letter.task == "shop.deliver"
    assert "Busy(42)" in letter.error
    assert len(kafka_time.of(shop.deliver)) == 2


def test_a_durable_task_sleeps(kafka_worker, kafka_time, run_until_idle):
    result = shop.subscribe.delay("anna")
    run_until_idle()
    assert result.get() == "anna pays again"
    assert kafka_time.of(result) == [30 * 86400]


def test_a_suspended_task_is_idle(kafka_worker, run_until_idle):
    result = shop.approve.delay(42)
    run_until_idle()
    assert result.state == "SUSPENDED"
    kafka_exec.resume(shop.app, "approval-42", "yes")
    run_until_idle()
    assert result.get() == "yes"


def test_a_crash(kafka_workers, kafka_time, run_until_idle, assert_ran_once):
    first = kafka_workers.process("-c", "1")
    result = shop.charge.delay(42, fails=1)
    assert result.get(timeout=30) == "order 42 is paid"
    first.kill()
    kafka_workers.process("-c", "1")
    shop.price.delay([1])
    run_until_idle(timeout=60)
    assert_ran_once(shop.price)
    assert kafka_time.of(result) == [60]


def test_what_does_not_end_is_named(kafka_worker, run_until_idle):
    result = shop.lonely.delay()
    with pytest.raises(NotIdle, match=f"{result.id} .*nobody"):
        run_until_idle(timeout=2)


def test_nothing_is_left_of_other_tests(kafka_worker, run_until_idle, dead_letters):
    run_until_idle()
    assert dead_letters() == []


def test_a_countdown_takes_its_time_without_the_fixture(kafka_worker, run_until_idle):
    began = time.monotonic()
    shop.price.apply_async(([1],), countdown=1)
    run_until_idle()
    assert time.monotonic() - began >= 1
