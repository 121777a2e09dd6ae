"""Tests with the fixtures of celery.contrib.pytest."""

import pytest


def test_a_task(celery_app, celery_worker, kafka_time, run_until_idle, assert_ran_once, dead_letters):
    @celery_app.task(name="double")
    def double(number):
        return 2 * number

    celery_worker.reload()
    assert celery_app.conf.task_acks_late  # as in production, with kafka_exec
    result = double.apply_async((21,), countdown=3600)
    run_until_idle()
    assert result.get() == 42
    assert kafka_time.of("double") == [3600]
    assert_ran_once("double")
    assert dead_letters() == []


def test_another_has_topics_of_its_own(celery_app, celery_worker, assert_ran_once):
    with pytest.raises(AssertionError, match="no message of it was sent"):
        assert_ran_once("double")
