"""Tasks that make durable calls: the worker sees which ones do, and makes their begins durable before they run."""

from __future__ import annotations

from typing import Any

import pytest
from celery import Celery

import kafka_exec


@pytest.fixture
def app() -> Celery:
    return Celery("durable", broker="kafka-exec://127.0.0.1:1", set_as_current=False)


def plain(self: Any) -> int:
    return 1


def stepping(self: Any) -> Any:
    return self.step(plain)


def within(self: Any) -> list[Any]:
    return [(lambda: self.suspend("x"))() for _ in range(1)]


def by_a_helper(self: Any) -> Any:
    return stepping(self)


@pytest.mark.parametrize("retrying", [None, kafka_exec.RetryPolicy()], ids=["no policy", "a policy"])
@pytest.mark.parametrize(
    ("function", "said", "durable"),
    [
        (plain, None, False),
        (stepping, None, True),
        (within, None, True),
        (by_a_helper, None, False),
        (by_a_helper, True, True),
        (stepping, False, False),
    ],
    ids=["none", "a step", "in a function within", "in a helper", "said", "denied"],
)
def test_a_task_is_durable_if_it_says_so_or_its_code_shows_it(
    app: Celery, function: Any, said: bool | None, durable: bool, retrying: Any
) -> None:
    options = {} if said is None else {"durable": said}
    task = app.task(function, name="t", bind=True, shared=False, retrying=retrying, **options)
    app.finalize()
    assert app.tasks["t"].durable is durable
    assert hasattr(task, "_run_through") is durable


def test_a_task_that_is_a_class_without_a_name_is_looked_at_too(app: Celery) -> None:
    class Waiting(kafka_exec.Task):
        def run(self) -> Any:
            return self.suspend("x")

    task = app.register_task(Waiting())
    app.finalize()
    assert task.durable is True
    assert hasattr(task, "_run_through")
