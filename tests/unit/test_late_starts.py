"""The last look before a task's code starts: a process that was stopped with the task in its hands puts it back."""

from __future__ import annotations

import time

import pytest
from celery import Celery
from celery.exceptions import Reject

import kafka_exec  # noqa: F401 - registers the scheme
from kafka_exec.core.message.envelope import START_BY
from kafka_exec.core.nodes.pauses import Ticks


@pytest.fixture
def app() -> Celery:
    return Celery("t", broker="kafka-exec://127.0.0.1:1/t", backend="kafka-exec://127.0.0.1:1/t", set_as_current=False)


@pytest.mark.parametrize(
    ("start_by", "stopped", "starts"),
    [
        (None, True, True),
        (60.0, True, True),
        (-1.0, False, True),
        (-1.0, True, False),
    ],
    ids=["of any time", "in time", "slow", "stopped"],
)
@pytest.mark.parametrize("own", [False, True], ids=["Celery's handler", "a handler of the task's own"])
def test_a_start_that_comes_after_a_stop_is_put_back(
    app: Celery, start_by: float | None, stopped: bool, starts: bool, own: bool
) -> None:
    called: list[str] = []

    class Base(app.Task):  # type: ignore[misc, name-defined]
        if own:

            def before_start(self, task_id: str, args: object, kwargs: object) -> None:
                called.append(task_id)

    @app.task(base=Base, name="starts-late", shared=False)
    def starts_late() -> None:
        return None

    pauses = starts_late.backend.pauses
    pauses.watch(60.0)
    pauses._ticks = Ticks(2.0, time.time() - (5.0 if stopped else 0.0))
    starts_late.push_request(id="x", **({} if start_by is None else {START_BY: time.monotonic() + start_by}))
    if starts:
        starts_late.before_start("x", (), {})
        assert called == (["x"] if own else [])
    else:
        with pytest.raises(Reject) as raised:
            starts_late.before_start("x", (), {})
        assert raised.value.requeue
        assert called == []
