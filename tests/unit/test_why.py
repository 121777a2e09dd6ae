"""The reason why a task does not run: one answer for each thing that may keep it, and a sentence for each answer."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from kafka_exec.core.control.waiting import Suspension
from kafka_exec.core.message.dead import Letter, LetterAddress
from kafka_exec.core.message.envelope import dead_letter_headers
from kafka_exec.core.nodes.heartbeat import Heartbeat, NodeState, Seen
from kafka_exec.core.overview.sentences import sentence
from kafka_exec.core.overview.standing import MessageStanding, QueuePartition, TaskRecord
from kafka_exec.core.overview.why import (
    Answer,
    Buried,
    DelayedMessage,
    Evidence,
    Reason,
    Searched,
    decide,
    lacks_knower,
    last_knower,
)
from kafka_exec.core.queue.lanes import STOPPED, Lane, Run, Ticket
from kafka_exec.core.queue.ledger import Ledger
from kafka_exec.core.queue.pausing import Pause, QueuePauses
from kafka_exec.core.queue.progress import Progress
from kafka_exec.core.results.lifecycle import State
from kafka_exec.core.results.state_record import Raised, StateRecord

NOW = 1000.0
PLACE = ("s.queue.q", 0, 7)
SEARCHED = Searched("s", 2, True, 30 * 86400.0, 10_000)
WAITING = MessageStanding("q", PLACE, 900.0, "work")
RUNNING = WAITING._replace(incarnation="i1")
BEHIND = WAITING._replace(is_blocked=True, key="k", ahead=3, head="h")
WHERE = dead_letter_headers((), reason="rejected", error="no", topic="s.queue.q", partition=3, offset=5)
LETTER = Buried("q", Letter(LetterAddress(3, 17), 950.0, None, b"", WHERE))

LOST = Buried("q", replace(LETTER.letter, headers=[*WHERE, ("dead-reason", b"lost-record")]))


def evidence(task_id: str = "t", **facts: Any) -> Evidence:
    return Evidence(task_id, NOW, SEARCHED, **facts)


def state(of: State, **facts: Any) -> StateRecord:
    return StateRecord("t", of, of.value, **facts)


def node(
    name: str = "one", found: NodeState = NodeState.ALIVE, *, active: int = 0, tasks: tuple[str, ...] | None = ("work",)
) -> tuple[Seen, NodeState]:
    beat = Heartbeat("i1", "here", 1, slots=4, active=active, queues=("q",), tasks=tasks)
    return Seen(name, beat, 990.0), found


ALIVE = (node(),)

#: Each answer, by the facts from which it follows, with what its sentence must say.
ANSWERS: list[tuple[Reason, dict[str, Any], list[str]]] = [
    (Reason.UNKNOWN, {}, ["unknown under the prefix s", "2 queues", "30 days", "no state"]),
    (Reason.NOT_FOUND, {"state": state(State.WRONG_NODE)}, ["has the state WRONG_NODE", "not found"]),
    (Reason.WAITS_FOR_TIME, {"delay": DelayedMessage("q", 4, 2000.0)}, ["for its time, @2000", "level 4", "queue q"]),
    (Reason.WAITS_FOR_TIME, {"delay": DelayedMessage("q", 4, 2000.0, True)}, ["for its retry, @2000"]),
    (Reason.WAITS_FOR_TIME, {"standings": (WAITING._replace(due=1001.0),), "nodes": ALIVE}, ["@1001"]),
    (Reason.WAITS_FOR_TIME, {"state": state(State.SCHEDULED, due=2000.0, queue="q")}, ["@2000"]),
    (Reason.BEHIND, {"standings": (BEHIND,)}, ["behind 3 tasks of key k", "not read"]),
    (
        Reason.BEHIND,
        {"state": state(State.GROUP, ordering_key="k", position=3)},
        ["behind 3 tasks of key k", "not read"],
    ),
    (Reason.BEHIND_ITSELF, {"standings": (BEHIND._replace(key=""),)}, ["earlier message of the same task"]),
    (Reason.NO_WORKER, {"standings": (WAITING,)}, ["queue q, which no living worker reads"]),
    (Reason.NO_WORKER, {"standings": (WAITING,), "nodes": (node(found=NodeState.LOST),)}, ["no living worker"]),
    (
        Reason.PAUSED,
        {"standings": (WAITING,), "nodes": ALIVE, "pauses": QueuePauses(Pause("ann", 900.0, "a move", 2000.0))},
        ["queue q, which is paused by ann since @900 until @2000 (a move): celery kafka queues resume q lets"],
    ),
    (
        Reason.PAUSED,
        {"standings": (WAITING._replace(key="k"),), "pauses": QueuePauses(keys={"k": Pause("ann", 900.0)})},
        ["queue q, whose key k is paused by ann since @900: celery kafka queues resume q --key k lets"],
    ),
    (
        Reason.NEXT,
        {"standings": (WAITING,), "nodes": ALIVE, "pauses": QueuePauses(Pause("ann", 1.0, until=NOW))},
        ["about to begin"],
    ),
    (Reason.RUNNING, {"standings": (RUNNING,), "nodes": ALIVE, "pauses": QueuePauses(Pause("ann", 1.0))}, ["runs"]),
    (Reason.NOBODY_KNOWS, {"standings": (WAITING,), "nodes": (node(tasks=("other",)),)}, ["knows work: none"]),
    (Reason.NO_SLOT, {"standings": (WAITING,), "nodes": (node(active=4),), "before": 5}, ["all 4 slots", "5 tasks"]),
    (Reason.NEXT, {"standings": (WAITING,), "nodes": ALIVE}, ["about to begin"]),
    (Reason.NEXT, {"standings": (WAITING._replace(due=NOW),), "nodes": ALIVE}, ["about to begin"]),
    (Reason.RUNNING, {"standings": (WAITING, RUNNING), "nodes": ALIVE}, ["runs at one"]),
    (Reason.NEXT, {"standings": (WAITING,), "nodes": (node(tasks=None),)}, ["about to begin"]),
    (Reason.RUNNING, {"standings": (RUNNING,), "nodes": ALIVE}, ["runs at one"]),
    (
        Reason.LOST,
        {"standings": (RUNNING,), "nodes": (node(found=NodeState.LOST),)},
        ["one, which was last heard @990"],
    ),
    (Reason.LOST, {"standings": (RUNNING,)}, ["a worker, which is gone: no worker reads queue q"]),
    (Reason.REVOKED, {"standings": (WAITING,), "nodes": ALIVE, "revoked": 900.0}, ["was revoked @900: the worker"]),
    (Reason.REVOKED, {"delay": DelayedMessage("q", 4, 2000.0), "revoked": 900.0}, ["was revoked @900"]),
    (Reason.REVOKED, {"revoked": 900.0}, ["was revoked @900"]),
    (Reason.REVOKED, {"state": state(State.REVOKED, finished=950.0)}, ["was revoked @950"]),
    (Reason.DEAD, {"letter": LETTER, "state": state(State.FAILED)}, ["rejected (no)", "kafka dead replay q 3:17"]),
    (Reason.DEAD, {"letter": LOST}, ["cannot be replayed: its message was deleted"]),
    (
        Reason.SUSPENDED,
        {"suspension": Suspension("c", "t", 1.0, 1, 2, 5000.0)},
        ["for c until @5000", "1 of 2", "resume c"],
    ),
    (Reason.SUSPENDED, {"suspension": Suspension("c", "t", 1.0, 0, 0, 5000.0)}, ["is suspended until @5000"]),
    (Reason.SUSPENDED, {"state": state(State.SUSPENDED)}, ["has not taken"]),
    (Reason.ENDED, {"state": state(State.DONE, finished=950.0, worker="one")}, ["ended: DONE @950 at one"]),
    (Reason.ENDED, {"state": state(State.DONE, finished=950.0), "letter": LETTER}, ["ended: DONE"]),
    (Reason.ENDED, {"state": state(State.FAILED, exception=Raised("E", "x"))}, ["ended: FAILED (E: x)"]),
]


def say(at: float) -> str:
    return f"@{at:g}"


@pytest.mark.parametrize(("reason", "facts", "words"), ANSWERS)
def test_each_answer_follows_from_its_facts_and_has_a_sentence(
    reason: Reason, facts: dict[str, Any], words: list[str]
) -> None:
    found = decide(evidence(**facts))
    assert found.reason is reason
    said = sentence(found, say)
    assert said.startswith("t ")
    assert [word for word in words if word not in said] == [], said
    assert found.as_json()["reason"] == reason.value


def test_no_reason_is_left_out() -> None:
    assert {reason for reason, *_ in ANSWERS} == set(Reason)


@pytest.mark.parametrize(
    ("head", "words"),
    [
        ({"delay": DelayedMessage("q", 4, 2000.0, True)}, "the first, h, waits for its retry, @2000"),
        ({"suspension": Suspension("c", "h", 1.0, 0, 1, None)}, "the first, h, is suspended for c"),
        ({"standings": (RUNNING,), "nodes": ALIVE}, "the first, h, runs at one"),
        ({"standings": (WAITING,)}, "the first, h, waits in queue q, which no living worker reads"),
        (
            {"standings": (WAITING,), "pauses": QueuePauses(Pause("ann", 900.0))},
            "the first, h, waits in queue q, which is paused by ann since @900: celery kafka queues resume q",
        ),
    ],
)
def test_a_task_behind_others_tells_what_the_first_of_them_waits_for(head: dict[str, Any], words: str) -> None:
    found = decide(evidence(standings=(BEHIND,), head=evidence("h", **head)))
    assert words in sentence(found, say)
    assert found.as_json()["head"]["id"] == "h"


@pytest.mark.parametrize(
    "head",
    [{"state": state(State.FAILED, exception=Raised("E", "no"))}, {"letter": LETTER, "state": state(State.FAILED)}],
)
def test_a_key_that_a_failure_has_stopped_tells_the_error_and_the_command(head: dict[str, Any]) -> None:
    found = decide(evidence(standings=(BEHIND._replace(is_stopped=True),), head=evidence("h", **head)))
    said = sentence(found, say)
    assert "the failure of h has stopped" in said
    assert "no): celery kafka keys unblock k" in said


def test_a_worker_that_is_gone_is_named_if_it_knew_the_task() -> None:
    blank = evidence(standings=(WAITING,), nodes=(node(tasks=("other",)),))
    assert lacks_knower(blank)
    assert not lacks_knower(evidence(standings=(WAITING,), nodes=ALIVE))
    found = decide(replace(blank, knower=node("old")[0]))
    assert "old knew it, last heard @990" in sentence(found, say)


def test_the_last_node_that_knew_a_task_is_found_also_by_heartbeats_without_names() -> None:
    def beat(name: str, at: float, tasks: tuple[str, ...] | None) -> Seen:
        return Seen(name, Heartbeat(name, "here", 1, tasks=tasks), at)

    beats = [beat("a", 1, ("work",)), beat("b", 2, ("work",)), beat("a", 3, None), beat("b", 4, ()), beat("b", 5, None)]
    last = last_knower(beats, "work")
    assert last is not None
    assert (last.name, last.at) == ("a", 3)
    assert last_knower(beats, "other") is None


def test_the_end_of_a_run_counts_before_the_journal_tells_it_and_that_of_another_message_does_not() -> None:
    ended = state(State.FAILED, topic=PLACE[0], partition=PLACE[1], offset=PLACE[2])
    assert decide(evidence(standings=(RUNNING,), nodes=ALIVE, state=ended)).reason is Reason.ENDED
    other = replace(ended, offset=6)
    assert decide(evidence(standings=(RUNNING,), nodes=ALIVE, state=other)).reason is Reason.RUNNING


def test_a_copy_that_waits_for_the_retry_of_its_task_does_not_hide_the_retry() -> None:
    copy = WAITING._replace(is_blocked=True, head="t")
    assert (
        decide(evidence(standings=(copy,), delay=DelayedMessage("q", 2, 2000.0, True))).reason is Reason.WAITS_FOR_TIME
    )
    assert decide(evidence(standings=(copy, RUNNING), nodes=ALIVE)).reason is Reason.RUNNING


def test_a_search_that_was_cut_says_so() -> None:
    found = decide(Evidence("t", NOW, SEARCHED._replace(is_cut=True, results=False)))
    said = sentence(found, say)
    assert "of some topics only 10000 messages were read" in said
    assert "states of tasks are not kept in Kafka here" in said


def test_a_long_error_is_cut() -> None:
    found = Answer("t", Reason.ENDED, {"state": "FAILED", "at": None, "node": None, "error": "e" * 1000})
    assert len(sentence(found, say)) < 300


# -- the standing of a message -----------------------------------------------------------------------------------------

K = Lane("key", "k")


def record(offset: int, lane: Lane | None = None, run: Run | None = None) -> TaskRecord:
    ticket = None if lane is None else Ticket(lane, run or Run(f"t{offset}", 0))
    return TaskRecord(offset, float(offset), ticket, f"t{offset}" if run is None else run.task_id, "work")


def partition(ledger: Ledger, *records: TaskRecord) -> QueuePartition:
    return QueuePartition("q", "s.queue.q", 0, ledger, records)


def ledger() -> Ledger:
    return Ledger("id", Progress(0))


def test_a_message_behind_a_run_of_its_key_names_it() -> None:
    of = ledger()
    of.start(0, "i1")
    made = partition(of, record(0, K), record(1, K), record(2, K), record(3))
    [behind], [head], [free] = (made.standings(f"t{n}") for n in (2, 0, 3))
    assert (behind.key, behind.ahead, behind.head, behind.is_stopped) == ("k", 2, "t0", False)
    assert (head.incarnation, head.is_blocked) == ("i1", False)
    assert (free.incarnation, free.is_blocked, free.place) == ("", False, ("s.queue.q", 0, 3))


@pytest.mark.parametrize(("run", "stopped"), [(Run("h", 1), False), (Run("h", STOPPED), True)])
def test_a_message_of_a_held_key_names_the_task_for_which_the_key_waits(run: Run, stopped: bool) -> None:
    of = ledger()
    of.end(0)
    of.hold(K, run)
    [found] = partition(of, record(0, K), record(1, K), record(2, K)).standings("t2")
    assert (found.ahead, found.head, found.is_stopped) == (2, "h", stopped)


def test_a_parked_message_has_its_place_though_those_before_it_were_not_read() -> None:
    of = ledger()
    of.hold(K, Run("h", STOPPED))
    of.park(K, [1, 2])
    [found] = partition(of, record(2, K)).standings("t2")
    assert (found.is_blocked, found.ahead, found.head) == (True, 2, "h")


def test_what_has_ended_has_no_standing_and_only_what_may_begin_is_before_a_message() -> None:
    of = ledger()
    of.end(0)
    of.start(1, "i1")
    made = partition(of, record(0), record(1), record(2), record(3, K), record(4, K), record(5))
    assert made.standings("t0") == []
    [last] = made.standings("t5")
    assert made.ready_before(last) == 2
    assert made.ready_before(last._replace(place=("s.queue.q", 1, 5))) == 3
    assert made.ready_before(last._replace(at=2.5)) == 1
