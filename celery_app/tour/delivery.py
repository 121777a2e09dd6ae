"""Stops about delivery: publishing, takeover, ends, poison, sharing, versions, priorities."""

from __future__ import annotations

import time
from statistics import mean

from kombu import Queue

import kafka_exec
from celery_app import diary
from celery_app.packages import crash, stay
from celery_app.tasks import add
from celery_app.tour.app import QUEUE, SINGLE, URGENT, app
from celery_app.tour.guide import Elsewhere, Seen, Steps, Stop, Tour

PUBLISHED = 100


def publishing(tour: Tour) -> Steps:
    """Many small tasks, each confirmed by the broker before the next."""
    seconds, results = [], []
    for number in range(PUBLISHED):
        start = time.perf_counter()
        results.append(add.delay(number, number))
        seconds.append(time.perf_counter() - start)
    tour.sent[add.name] += PUBLISHED
    for number, waiting in enumerate(results):
        answer = tour.result(waiting)
        tour.require(answer == 2 * number, f"{number} + {number} came back as {answer}")
    half, most = (1000 * sorted(seconds)[int(part * (PUBLISHED - 1))] for part in (0.5, 0.99))
    yield Seen(
        f"{PUBLISHED} tasks were sent one by one",
        f"each was in Kafka when delay() returned: half within {half:.1f} ms, 99 % within {most:.1f} ms",
        f"all {PUBLISHED} results are right; the last one is record {tour.place(results[-1].id)}",
    )


def any_order(tour: Tour) -> Steps:
    """A slow task, and fast ones behind it in the same partition."""
    slow = stay.apply_async((2.0,), queue=SINGLE)
    fast = [stay.apply_async((0.0,), queue=SINGLE) for _ in range(5)]
    yield None
    for each in [slow, *fast]:
        tour.result(each)
    ends = {entry.task: entry.at for entry in diary.read("end", slow.id, *(each.id for each in fast))}
    before = [each for each in fast if ends[each.id] < ends[slow.id]]
    tour.require(before, "no task that was sent after a slow one ended before it")
    yield Seen(
        "a task of 2 s, and 5 short ones behind it in one partition",
        f"{len(before)} of the short ones ended, and were acknowledged, before it",
        f"it is record {tour.place(slow.id)}, the last of them {tour.place(before[-1].id)}",
    )


def sharing(tour: Tour) -> Steps:
    """More tasks of a partition than its owner has slots for."""
    ran: set[str] = set()
    sent = 0

    def both() -> bool:
        nonlocal sent
        sent += 8
        ran.update(tour.result(each) for each in [stay.apply_async((0.5,), queue=SINGLE) for _ in range(8)])
        return len(ran) > 1

    if len(tour.workers.nodes) > 1:
        tour.until(both, "a task that another worker runs than the one that owns the partition")
    yield Seen(
        f"{sent} tasks were sent to a queue of one partition, which one worker owns",
        "the other worker ran some of them as well",
        f"by {' and '.join(sorted(ran))}",
    )


def priorities(tour: Tour) -> Steps:
    """Tasks of two priorities, and one with a short life, in a paused queue; and a queue that nobody reads."""
    kafka_exec.pause_queue(app, URGENT, by="the tour", reason="so that all wait")
    low = [stay.apply_async((0.05,), queue=URGENT, priority=0) for _ in range(20)]
    high = [stay.apply_async((0.05,), queue=URGENT, priority=1) for _ in range(4)]
    late = stay.apply_async((0.0,), queue=URGENT, expiration=0.1)
    time.sleep(0.2)  # its time to live
    kafka_exec.resume_queue(app, URGENT)
    for each in [*low, *high]:
        tour.result(each)
    tour.require(not diary.read("begin", late.id), "a message ran after its time to live")
    order = [entry.task for entry in diary.read("begin", *(each.id for each in [*low, *high]))]
    ranks = [mean(1 + order.index(each.id) for each in some) for some in (high, low)]
    tour.require(ranks[0] < ranks[1], f"urgent tasks began as number {ranks[0]:.0f}, others as {ranks[1]:.0f}")
    with app.connection_for_write() as connection:
        queue = Queue(f"{QUEUE}.unread", channel=connection.default_channel)
        queue.declare()
        for number in range(5):
            add.apply_async((number, 0), queue=queue.name, ignore_result=True)
        size = queue.queue_declare(passive=True).message_count
        purged = queue.purge()
        queue.delete()
    tour.require(size == purged == 5, f"a queue of 5 messages has told {size}, and {purged} when it was purged")
    yield Seen(
        "20 tasks, then 4 urgent ones and one that lives for 0.1 s, were sent to a paused queue; 5 to one that was purged",
        f"the urgent ones began as number {ranks[0]:.0f} on the average, the others as {ranks[1]:.0f}; the last one expired",
        f"the size of the other queue was {size}, and {purged} were purged",
    )


def poison(tour: Tour) -> Steps:
    """A task that kills the process that runs it."""
    sent = crash.delay()
    yield None
    tour.result(sent, propagate=False)
    runs = len(diary.read("begin", sent.id))
    letter = next((each for each in kafka_exec.dead_letters(app, QUEUE).scan() if each.id == sent.id), None)
    if letter is None or letter.reason != "max-deliveries":
        tour.require(False, f"a task that kills its process became {letter and letter.reason}")
    yield Seen(
        "a task killed the process that ran it",
        f"after {runs} runs it is a dead letter, and the workers live",
        f"dead letter {letter and letter.address}, {letter and letter.reason}",
    )


def versions(tour: Tour) -> Steps:
    """A task that only the next release knows, which comes with the worker that is restarted."""
    sent = app.send_task("celery_app.packages.archive")
    reason = tour.until(lambda: _unknown(tour, sent.id), "that no worker knows the new task")
    yield None
    yield None
    yield None  # the takeover restarts a worker
    node = tour.result(sent)
    yield Seen(
        "a task of the next release was sent before a worker had it",
        f"it waited ({reason}), and ran when a worker with that release was there",
        f"record {tour.place(sent.id)}, run by {node}",
    )


def _unknown(tour: Tour, task_id: str) -> str:
    answer = tour.api("executions", task_id, "why")["reason"]
    return answer if answer == "nobody knows it" else ""


def takeover(tour: Tour) -> Steps:
    """A worker is killed while it runs tasks, and started again with the next release."""
    yield None
    yield None  # a run of a periodic task may begin again as well
    victim = tour.workers.nodes[-1]
    sent = [stay.delay(5.0) for _ in range(8)]
    ids = [each.id for each in sent]
    tour.until(lambda: [entry for entry in diary.read("begin", *ids) if entry.worker == victim], f"a task on {victim}")
    tour.workers.crash(victim, EXAMPLE_RELEASE="2")
    killed = time.time()
    ended = {entry.task for entry in diary.read("end", *ids)}
    lost = {entry.task for entry in diary.read("begin", *ids) if entry.worker == victim} - ended
    for each in sent:
        tour.result(each)
    begins = diary.read("begin", *ids)
    again = [entry for entry in begins if entry.task in lost and entry.at > killed]
    others = [entry for entry in begins if entry.task not in lost and entry.worker != victim]
    tour.require(lost, f"{victim} was killed, and ran nothing")
    tour.require({entry.task for entry in again} == lost, "a task of the killed worker did not begin again")
    tour.require(len(others) == len({entry.task for entry in others}), "a task of another worker began twice")
    yield Seen(
        f"{victim} was killed while it ran {len(lost)} of {len(sent)} tasks",
        f"these, and no others, began again, {max(entry.at for entry in again) - killed:.1f} s later at most",
        f"{len(sent)} results, {len(begins)} begins; record {tour.place(again[0].task)} began again on {again[0].worker}",
    )
    tour.workers.wait_until_ready()


STOPS = [
    Stop("Confirmed publishing", publishing, ("api",)),
    Stop("Any order of ends", any_order, ("api",)),
    Stop("Shared work", sharing),
    Stop("Priorities, TTL, purge …", priorities),
    Stop("Poison tasks", poison),
    Stop("Versions", versions, ("api",)),
    Stop("Takeover", takeover, ("api",)),
]
ELSEWHERE = [
    Elsewhere("All pools", "the workers here run prefork", "./dev test tests/integration/test_worker_pools.py"),
]
