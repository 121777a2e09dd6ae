"""What a repeated run sends says so, and its end, if a lost run has sent it before, is told from all other ends."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from celery import Celery, Task, chain, group
from celery._state import pop_current_task, push_current_task

from kafka_exec.app.sending import addressed
from kafka_exec.core.message.envelope import CREATED, RECORD_HEADER, REPEATED, Message, encode, ticket_of
from kafka_exec.core.queue.lanes import Lane, Run, Ticket
from kafka_exec.core.results.lifecycle import State
from kafka_exec.core.results.state_record import StateRecord

SINCE = 1000.0
LATER, BEFORE = SINCE + 0.5, SINCE - 0.5

OWN, PARENT, OTHER = "own", "parent", "other"


@pytest.mark.parametrize(
    ("state", "parent", "created", "copy_of", "copy_created", "ends"),
    [
        # The next task of a chain, a callback, a part of a chord: the parent's run has sent both.
        (State.DONE, PARENT, LATER, PARENT, LATER + 9, True),
        (State.FAILED, PARENT, LATER, PARENT, LATER + 9, True),
        (State.REVOKED, PARENT, LATER, PARENT, LATER + 9, True),
        (State.DONE, PARENT, SINCE, PARENT, LATER, True),
        # It has not ended.
        (State.RUNNING, PARENT, LATER, PARENT, LATER + 9, False),
        (State.DELAYED, PARENT, LATER, PARENT, LATER + 9, False),
        # It has replaced itself.
        (State.DONE, OWN, LATER, PARENT, LATER + 9, True),
        (State.FAILED, OWN, LATER, PARENT, LATER + 9, False),
        # It is another task that was given the same id, or the same callback of a failed task that was replayed.
        (State.DONE, OTHER, LATER, PARENT, LATER + 9, False),
        (State.FAILED, OTHER, LATER, PARENT, LATER + 9, False),
        (State.DONE, PARENT, BEFORE, PARENT, LATER, False),
        (State.FAILED, PARENT, BEFORE, PARENT, LATER, False),
        # A chain that failed has failed it, and then its parent has succeeded.
        (State.FAILED, PARENT, None, PARENT, LATER, False),
        # A retry: the task's own failure, before a replay or in the run that was lost, does not end it.
        (State.DONE, PARENT, BEFORE, PARENT, BEFORE, True),
        (State.FAILED, PARENT, BEFORE, PARENT, BEFORE, False),
        (State.FAILED, PARENT, LATER, PARENT, LATER, False),
        # A retry of a task that no task has sent.
        (State.DONE, None, BEFORE, None, BEFORE, True),
        # A replacement, of a task that may be a replacement too.
        (State.DONE, OWN, LATER, OWN, LATER + 9, True),
        (State.FAILED, PARENT, LATER, OWN, LATER + 9, False),
        (State.FAILED, OWN, LATER, OWN, LATER + 9, False),
    ],
)
def test_a_copy_does_not_run_if_its_first_one_has_ended(
    state: State, parent: str | None, created: float | None, copy_of: str | None, copy_created: float, ends: bool
) -> None:
    record = StateRecord(OWN, state, "", parent=parent, created=created)
    assert record.ends_copy(parent=copy_of, created=copy_created, since=SINCE) is ends


@pytest.fixture
def task() -> Iterator[Task]:
    app = Celery(set_as_current=False)

    @app.task(name="t", shared=False)
    def run() -> None: ...

    yield run
    app.close()


def sent_by(task: Task, options: dict[str, Any], **request: Any) -> dict[str, Any]:
    """The options with which a run of a task, with this request, sends another one."""
    task.push_request(id=PARENT, called_directly=False, **request)
    push_current_task(task)
    try:
        return addressed("t", None, (), {}, options)
    finally:
        pop_current_task()
        task.pop_request()


def test_a_first_run_sends_no_header_nor_does_what_is_sent_anew(task: Task) -> None:
    assert REPEATED not in sent_by(task, {"task_id": OWN})["headers"]
    assert REPEATED not in sent_by(task, {}, **{REPEATED: SINCE})["headers"]
    assert REPEATED not in addressed("t", None, (), {}, {"headers": {REPEATED: SINCE}})["headers"]


@pytest.mark.parametrize(
    "options",
    [
        {"task_id": OWN},
        {"task_id": PARENT},
        {"task_id": PARENT, "retries": 1},
        {"task_id": OWN, "headers": {REPEATED: 1.0}},
    ],
    ids=["another task", "its replacement", "its retry", "with the header of its message"],
)
def test_a_repeated_run_says_so_in_all_that_it_sends(task: Task, options: dict[str, Any]) -> None:
    place = {"topic": "q", "partition": 1, "offset": 2}
    sent = sent_by(task, options, **{REPEATED: SINCE, RECORD_HEADER: place})
    assert sent["headers"][REPEATED] == SINCE
    assert sent["headers"][CREATED] > SINCE


def test_callbacks_have_the_ids_that_a_copy_of_their_task_would_send(task: Task) -> None:
    named = task.s().set(task_id="named")
    canvas = [group(task.s(), task.s()), chain(task.s(), task.s())]
    callback = task.si(1)
    sent = addressed("t", None, (), {}, {"link": [callback, named, *canvas], "link_error": callback})
    first, *others = sent["link"]
    assert others == [named, *canvas]
    ids = [first["options"]["task_id"], sent["link_error"][0]["options"]["task_id"]]
    assert len(set(ids)) == 2
    assert "task_id" not in callback.options  # it may be sent with another task
    again = sent_by(task, {"link": sent["link"], "link_error": sent["link_error"], "task_id": PARENT, "retries": 1})
    assert [again["link"][0]["options"]["task_id"], again["link_error"][0]["options"]["task_id"]] == ids


def test_a_copy_has_a_lane_in_which_it_waits_for_a_task_of_its_id() -> None:
    message = Message(b"", "application/json", "utf-8", {"task": "t", "id": OWN, REPEATED: SINCE}, {})
    assert ticket_of(encode(message), b"", "q", 0) == Ticket(Lane("id", OWN), Run(OWN, 0), task="t")
