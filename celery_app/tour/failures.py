"""Stops about failures: retries by a policy, and a dead letter that is corrected and replayed."""

from __future__ import annotations

import kafka_exec
from celery_app.app import QUEUE, app
from celery_app.packages import lines_of
from celery_app.tasks import nap
from celery_app.tour.guide import Seen, Steps, Stop, Tour

NAPS = 20


def retries(tour: Tour) -> Steps:
    """Tasks that fail by chance, and are retried until they succeed."""
    sent = [nap.delay(0.2) for _ in range(NAPS)]
    yield None
    for each in sent:
        tour.result(each)
    attempts = [tour.api("executions", each.id)["attempts"] for each in sent]
    yield Seen(
        f"{NAPS} tasks that fail three times in ten",
        f"{sum(number > 1 for number in attempts)} of them were retried, and all have succeeded",
        f"{sum(attempts)} runs, {max(attempts)} of one task at most",
    )


def dead_letters(tour: Tour) -> Steps:
    """A task gets the name of a file that does not exist, and an operator corrects it."""
    path = str(tour.file())
    sent = lines_of.delay(path + "x")
    yield None
    tour.result(sent, propagate=False)
    letters = [each for each in kafka_exec.dead_letters(app, QUEUE).scan() if each.id == sent.id]
    tour.require(len(letters) == 1, f"{len(letters)} dead letters of a task that has failed")
    answer = tour.api("executions", sent.id, "retry", body={"args": [path]})
    found = tour.until(lambda: _done(tour, sent.id), "the end of a replayed task")
    yield Seen(
        "a task failed, since its file did not exist; its dead letter was listed, corrected and replayed",
        f"the same task, by its id, then counted {found['result']} lines",
        f"dead letter {letters[0].address}, {letters[0].reason}; replayed: {answer['replayed']}",
    )


def _done(tour: Tour, task_id: str) -> dict[str, object]:
    found: dict[str, object] = tour.api("executions", task_id)
    return found if found["state"] == "DONE" else {}


STOPS = [Stop("Retries by a policy", retries, ("api",)), Stop("Dead letters", dead_letters, ("api",))]
