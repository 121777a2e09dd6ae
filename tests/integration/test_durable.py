"""Durable tasks: what they have done is done once, and a suspended one goes on once, whatever is killed."""

from __future__ import annotations

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from celery import chain, chord, group
from celery.exceptions import TaskRevokedError

import kafka_exec
from kafka_exec.broker import EmbeddedKafka
from kafka_exec.errors import CorrelationInUse, NonDeterministic, NotDurable, ResultTooLarge, SuspensionTimedOut
from kafka_exec.kafka.log.history import history
from tests.integration.suspensions import suspended
from tests.integration.workers import PATIENCE, Crew, Worker, crew, until

#: Few partitions, so that a worker that starts again has little to take over.
CONF = {"kafka_exec_partitions": {"queue": 2, "state": 2, "control": 2}, "kafka_exec_session_timeout": 3}


@pytest.fixture(scope="module")
def made(kafka: EmbeddedKafka, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Crew]:
    """A crew whose one worker nobody kills."""
    with crew(kafka, tmp_path_factory.mktemp("durable"), backend="same", **CONF) as found:
        found.ready(found.start("one", "-c", "4"))
        yield found


@pytest.fixture
def own(kafka: EmbeddedKafka, tmp_path: Path) -> Iterator[Crew]:
    """A crew whose workers are killed."""
    with crew(kafka, tmp_path, backend="same", **CONF) as found:
        found.ready(found.start("one", "-c", "4"))
        yield found


def send(made: Crew, name: str, *args: Any, **options: Any) -> Any:
    return made.app.tasks[name].apply_async(args, **options)


def mark(made: Crew, result: Any) -> Path:
    """The file that exists as soon as a task is where it is to be killed."""
    return Path(f"{made.effects.path}-durable-{result.id}")


def restart(made: Crew) -> Worker:
    """Kills the worker, and starts another one."""
    made.workers[-1].kill()
    again = made.start(f"again{len(made.workers)}", "-c", "4")
    made.ready(again)
    return again


def count(made: Crew, task_id: str) -> dict[str, int]:
    """The number of lines of a task, by their kind."""
    found: dict[str, int] = {}
    for effect in made.effects.everything():
        if effect.task == task_id:
            found[effect.what] = found.get(effect.what, 0) + 1
    return found


def test_a_workflow_does_each_step_once_and_waits_without_a_slot(made: Crew) -> None:
    results = {name: send(made, "workflow", name) for name in ("a", "b", "c", "d", "e", "f", "g", "h")}
    for result in results.values():
        suspended(result)  # all eight, with four slots
    assert results["a"].info == {"correlation_id": "approve-a", "callbacks": 1, "got": []}
    for name in results:
        assert kafka_exec.resume(made.app, f"approve-{name}", {"by": name}).outcome == "continued"
        assert kafka_exec.resume(made.app, f"approve-{name}", {"by": "other"}).outcome == "already"
    for name, result in results.items():
        assert result.get(timeout=PATIENCE) == [1, {"by": name}, 2, [3, 7], 21]
        assert count(made, result.id) == {"step1": 1, "step2": 1, "end": 1}


def test_callbacks_may_come_early_and_twice_and_at_once_and_each_caller_learns_what_came_of_his(made: Crew) -> None:
    assert kafka_exec.resume(made.app, "early", "first", "a") == ("kept", 1, 0)
    assert kafka_exec.resume(made.app, "early", "copy", "a") == ("already", 1, 0)
    result = send(made, "wait", "early", {"callbacks": ["a", "b", "c"]})
    suspended(result)
    assert kafka_exec.resume(made.app, "early", "stranger", "z") == ("unexpected", 1, 3)
    assert kafka_exec.resume(made.app, "early", "second", "b") == ("counted", 2, 3)
    told = {"correlation_id": "early", "callbacks": ["a", "b", "c"], "got": ["a", "b"]}
    until(lambda: result.info == told, what="who has called back")
    lines = made.command("kafka", "history", result.id, "--json").splitlines()
    assert [each["detail"] for each in map(json.loads, lines) if each["what"] == "called back"][-1] == "2 of 3: a, b"
    with ThreadPoolExecutor(8) as threads:
        outcomes = list(threads.map(lambda _: kafka_exec.resume(made.app, "early", "last", "c").outcome, range(8)))
    assert sorted(outcomes) == ["already"] * 7 + ["continued"]
    assert result.get(timeout=PATIENCE) == {"a": "first", "b": "second", "c": "last"}
    assert count(made, result.id) == {"begin": 2, "end": 1}


def test_a_deadline_fails_the_task_or_continues_it_and_a_late_callback_changes_nothing(made: Crew) -> None:
    failing = send(made, "wait", "slow", {"timeout": 1})
    going_on = send(made, "wait", "lazy", {"timeout": 10, "callbacks": 2, "on_timeout": "continue"})
    suspended(going_on)
    assert kafka_exec.resume(made.app, "lazy", "one of two", "a").outcome == "counted"
    with pytest.raises(SuspensionTimedOut, match="0 callbacks of suspension slow"):
        failing.get(timeout=PATIENCE)
    assert going_on.get(timeout=PATIENCE) == ["lazy", {"a": "one of two"}]
    assert kafka_exec.resume(made.app, "slow").outcome == "too late"
    assert count(made, failing.id) == {"begin": 2}


def test_a_callback_for_which_no_task_waits_becomes_a_dead_letter(kafka: EmbeddedKafka, tmp_path: Path) -> None:
    with crew(kafka, tmp_path, backend="same", **CONF, kafka_exec_resume_timeout=2) as made:
        made.ready(made.start("one", "-c", "1"))
        assert kafka_exec.resume(made.app, "nobody", {"n": 1}, timeout=PATIENCE).outcome == "kept"

        def letters() -> list[Any]:
            told = made.command("kafka", "dead", "list", "control", "--json")
            return [json.loads(line) for line in told.splitlines()]

        until(lambda: any(each["reason"] == "resume-unknown" for each in letters()), what="the dead letter")


def test_one_correlation_id_may_be_used_again_but_not_by_two_at_once(made: Crew) -> None:
    result = send(made, "loop", "again", 3)
    suspended(result)
    for number in range(3):
        until(lambda n=number: kafka_exec.resume(made.app, "again", n).outcome == "continued", what="a suspension")  # type: ignore[misc]
    assert result.get(timeout=PATIENCE) == [0, 1, 2]
    first = send(made, "wait", "mine")
    suspended(first)
    with pytest.raises(CorrelationInUse, match=f"task {first.id} waits"):
        send(made, "wait", "mine").get(timeout=PATIENCE)
    kafka_exec.resume(made.app, "mine", "yes")
    assert first.get(timeout=PATIENCE) == "yes"


def test_a_suspended_task_keeps_its_lane_and_its_place_in_a_canvas(made: Crew) -> None:
    head = send(made, "wait", "head", ordering_key="k")
    behind = [send(made, "work", ordering_key="k") for _ in range(3)]
    suspended(head)
    other = send(made, "work", ordering_key="other")
    other.get(timeout=PATIENCE)
    wait, add = made.app.tasks["wait"], made.app.tasks["add"]
    chained = chain(wait.si("chained"), add.s(1)).apply_async()
    header = [wait.si("part"), add.si(1, 1)]
    body = chord(header)(made.app.tasks["total"].s())
    grouped = group(wait.si("g1"), wait.si("g2")).apply_async()
    for name, data in {"head": 1, "chained": 2, "part": 3, "g1": 4, "g2": 5}.items():
        until(lambda n=name, d=data: kafka_exec.resume(made.app, n, d).outcome != "kept", what=name)  # type: ignore[misc]
    assert chained.get(timeout=PATIENCE) == 3
    assert body.get(timeout=PATIENCE) == 5
    assert grouped.get(timeout=PATIENCE) == [4, 5]
    for each in behind:
        each.get(timeout=PATIENCE)
    ends = [effect.task for effect in made.effects.all() if effect.task in {head.id, *(each.id for each in behind)}]
    assert ends == [head.id, *(each.id for each in behind)]


def test_a_function_that_catches_its_suspension_is_suspended_all_the_same(made: Crew) -> None:
    result = send(made, "catching", "caught")
    suspended(result)
    assert kafka_exec.resume(made.app, "caught", "answer").outcome == "continued"
    assert result.get(timeout=PATIENCE) == "answer"
    assert count(made, result.id) == {"caught": 1, "end": 1}


def test_a_function_that_makes_another_call_fails_and_says_which(made: Crew) -> None:
    result = send(made, "changed", "change")
    suspended(result)
    kafka_exec.resume(made.app, "change")
    with pytest.raises(NonDeterministic, match="was step 'one' in an earlier run, and is step 'other' now"):
        result.get(timeout=PATIENCE)
    assert count(made, result.id) == {"step1": 1}


def test_a_retry_finds_what_was_done_before_it(made: Crew) -> None:
    result = send(made, "retried", 3)
    assert result.get(timeout=PATIENCE) == 1
    assert count(made, result.id) == {"step1": 1, "step2": 1, "end": 1}


def test_values_larger_than_a_page_are_found_again_and_one_larger_than_a_message_is_refused(made: Crew) -> None:
    result = send(made, "heavy", "heavy", 6, 300_000)
    suspended(result)
    kafka_exec.resume(made.app, "heavy")
    assert result.get(timeout=PATIENCE) == [300_000] * 6
    with pytest.raises(ResultTooLarge, match="step effect of task"):
        send(made, "heavy", "too heavy", 1, 2_000_000).get(timeout=PATIENCE)


def test_an_answer_that_leaves_no_room_for_the_steps_in_the_message_goes_without_them(made: Crew) -> None:
    result = send(made, "heavy", "heavy answer", 6, 2000)
    suspended(result)
    answer = "x" * (made.app.backend.space.cluster.largest - 8000)
    assert kafka_exec.resume(made.app, "heavy answer", answer).outcome == "continued"
    assert result.get(timeout=PATIENCE) == [2000] * 6
    assert count(made, result.id) == {**{f"step{each}": 1 for each in range(6)}, "end": 1}


def test_it_waits_for_other_tasks_and_raises_what_one_of_them_raised(made: Crew) -> None:
    assert send(made, "gather", list(range(40))).get(timeout=PATIENCE) == [each + 1 for each in range(40)]
    assert send(made, "gather", [5]).get(timeout=PATIENCE) == 6
    assert send(made, "gather", []).get(timeout=PATIENCE) == []
    with pytest.raises(ValueError, match="no"):
        send(made, "gather", [1, -1, 2]).get(timeout=PATIENCE)


def test_it_waits_for_tasks_that_were_sent_before_whether_they_have_ended_or_not(made: Crew) -> None:
    past, failed = send(made, "add", 1, 2), send(made, "fail", "no")
    assert past.get(timeout=PATIENCE) == 3
    assert send(made, "awaits", [past.id]).get(timeout=PATIENCE) == 3
    grouped = send(made, "awaits", [past.id, past.id], 1, PATIENCE, True)
    assert grouped.get(timeout=PATIENCE) == [[3, 3], 1], "of a group the list"
    later = [send(made, "wait", "later 1"), send(made, "wait", "later 2")]
    waiting = send(made, "awaits", [later[0].id, past.id, later[1].id], 2)
    two = send(made, "awaits", [later[1].id])
    suspended(waiting)
    suspended(two)
    for each in (1, 2):
        until(lambda n=each: kafka_exec.resume(made.app, f"later {n}", n).outcome == "continued", what="both")  # type: ignore[misc]
    assert waiting.get(timeout=PATIENCE) == [1, 3, 2, 1, 2]
    assert two.get(timeout=PATIENCE) == 2
    assert count(made, waiting.id) == {"begin": 2, "end": 1}
    with pytest.raises(ValueError, match="no"):
        failed.get(timeout=PATIENCE)
    with pytest.raises(ValueError, match="no"):
        send(made, "awaits", [failed.id]).get(timeout=PATIENCE)
    at_once = [send(made, "add", each, 0) for each in range(10)]
    all_of_them = [send(made, "awaits", [each.id]) for each in at_once]
    assert [each.get(timeout=PATIENCE) for each in all_of_them] == list(range(10))


def test_a_task_that_was_sent_before_may_be_revoked_or_unknown(made: Crew) -> None:
    head = send(made, "wait", "never")
    revoked = send(made, "awaits", [head.id])
    with pytest.raises(SuspensionTimedOut, match="1 of 2 tasks have ended within 1 s"):
        send(made, "awaits", ["nobody", send(made, "add", 1, 1).id], 0, 1).get(timeout=PATIENCE)
    suspended(head)
    suspended(revoked)
    head.revoke()
    with pytest.raises(TaskRevokedError):
        revoked.get(timeout=PATIENCE)
    with pytest.raises(TaskRevokedError):
        send(made, "awaits", [head.id]).get(timeout=PATIENCE)


def test_a_dead_letter_that_is_replayed_goes_on_where_it_failed(made: Crew) -> None:
    result = send(made, "stumbling")
    with pytest.raises(ValueError, match="not yet"):
        result.get(timeout=PATIENCE)
    mark(made, result).touch()
    until(lambda: "stumbling" in made.command("kafka", "dead", "list", "celery"), what="the dead letter")
    made.command("kafka", "dead", "replay", "celery", "--task", "stumbling", "--yes")
    made.effects.wait_for([result.id])
    assert count(made, result.id) == {"step1": 1, "end": 1}


def test_the_history_of_a_task_has_its_messages_runs_steps_and_its_end_in_order(made: Crew) -> None:
    result = send(made, "workflow", "told")
    suspended(result)
    kafka_exec.resume(made.app, "approve-told", 1)
    assert result.get(timeout=PATIENCE)[0] == 1
    told = [json.loads(line) for line in made.command("kafka", "history", result.id, "--json").splitlines()]
    whats = [each["what"] for each in told]
    assert whats[0] == "sent"
    assert whats.count("continued") == whats.count("suspended") == 4
    assert [each["detail"] for each in told if each["what"] == "step"] == ["effect", "effect-2"]
    assert whats.index("suspended") < whats.index("continued")
    assert "started" in whats
    assert "DONE" in whats
    assert all(each["offset"] >= 0 and each["topic"].startswith(made.prefix) for each in told)
    assert result.id in made.command("kafka", "history", result.id)
    tree = [json.loads(line) for line in made.command("kafka", "history", result.id, "--tree", "--json").splitlines()]
    assert [each["name"] for each in tree if each["depth"] == 0] == ["workflow"]
    assert {each["name"] for each in tree if each["depth"] > 0} >= {"add"}


def test_a_suspended_task_that_is_revoked_ends_at_once(made: Crew) -> None:
    result = send(made, "wait", "revoked")
    suspended(result)
    result.revoke()
    with pytest.raises(TaskRevokedError):
        result.get(timeout=PATIENCE)
    assert kafka_exec.resume(made.app, "revoked").outcome == "already"
    assert count(made, result.id) == {"begin": 1}


def test_the_command_resumes_a_task(made: Crew) -> None:
    result = send(made, "wait", "by hand")
    suspended(result)
    assert json.loads(made.command("kafka", "resume", "by hand", '{"ok": true}', "--json"))["outcome"] == "continued"
    assert result.get(timeout=PATIENCE) == {"ok": True}


def test_outside_of_a_worker_steps_are_plain_calls_and_nothing_is_suspended(
    made: Crew, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EFFECTS", str(made.effects.path))
    assert made.app.tasks["steps"].apply((3,)).get() == [0, 1, 4]
    with pytest.raises(NotDurable, match="only in a worker"):
        made.app.tasks["wait"].apply(("x",)).get()


@pytest.mark.parametrize("pool", ["threads", "gevent"])
def test_other_pools_suspend_and_continue_too(kafka: EmbeddedKafka, tmp_path: Path, pool: str) -> None:
    with crew(kafka, tmp_path, backend="same", **CONF) as made:
        made.ready(made.start("one", "-P", pool, "-c", "4"))
        results = {name: send(made, "workflow", name) for name in ("a", "b", "c")}
        for result in results.values():
            suspended(result)
        for name, result in results.items():
            assert kafka_exec.resume(made.app, f"approve-{name}", name).outcome == "continued"
            assert result.get(timeout=PATIENCE) == [1, name, 2, [3, 7], 21]
            assert count(made, result.id) == {"step1": 1, "step2": 1, "end": 1}
        assert send(made, "awaits", [result.id]).get(timeout=PATIENCE) == [1, name, 2, [3, 7], 21]


def test_each_change_of_a_state_is_a_signal_with_the_state_before(kafka: EmbeddedKafka, tmp_path: Path) -> None:
    with crew(kafka, tmp_path, backend="same", **CONF) as made:
        made.ready(made.start("one", "-c", "2", env={"TRANSITIONS": "1"}))
        result = send(made, "wait", "signalled")
        suspended(result)
        kafka_exec.resume(made.app, "signalled", 1)
        assert result.get(timeout=PATIENCE) == 1
        with pytest.raises(ValueError, match="no"):
            send(made, "fail", "no").get(timeout=PATIENCE)
        hooks = [effect.what for effect in made.effects.everything() if effect.what in ("prerun", "postrun")]
        assert hooks == ["prerun", "postrun"] * 3, "two runs of the one, and one of the other"
        told = [effect.what for effect in made.effects.everything() if "->" in effect.what]
        assert [each for each in told if not each.endswith("->RUNNING")] == ["RUNNING->SUSPENDED", "RUNNING->DONE"]
        # The start of a short run is not written: its end comes before.
        assert {each for each in told if each.endswith("->RUNNING")} <= {"SCHEDULED->RUNNING", "SUSPENDED->RUNNING"}


def test_the_records_of_a_task_that_has_succeeded_are_removed_and_those_of_one_that_has_failed_when_it_expires(
    made: Crew,
) -> None:
    done, failed = send(made, "steps", 3), send(made, "gather", [1, -1])
    assert done.get(timeout=PATIENCE) == [0, 1, 4]
    with pytest.raises(ValueError, match="no"):
        failed.get(timeout=PATIENCE)
    topic = f"{made.prefix}.steps"

    def kept(task_id: str) -> set[str]:
        last = {}
        for partition in range(2):
            for batch in history(cluster, topic, partition, cluster.log.ends(topic, [partition])[partition]):
                last.update((record.key().decode(), record.value()) for record in batch)
        return {key for key, value in last.items() if value is not None and key.startswith(f"{task_id}/")}

    cluster = made.app.backend.space.cluster
    until(lambda: not kept(done.id), what="tombstones of all")
    assert kept(failed.id)
    made.app.backend.steps.erase_all({failed.id})
    until(lambda: not kept(failed.id), what="tombstones of all")


@pytest.mark.parametrize(
    ("where", "twice"), [({"stops_in": 2}, {"step2": 2}), ({"stops_after": 2}, {})], ids=["within a step", "after one"]
)
def test_who_is_killed_does_no_step_again_but_the_one_in_which_it_was(
    own: Crew, where: dict[str, int], twice: dict[str, int]
) -> None:
    result = send(own, "steps", 5, *([where["stops_in"]] if "stops_in" in where else [-1, where["stops_after"]]))
    until(mark(own, result).exists, what="the place")
    restart(own)
    assert result.get(timeout=PATIENCE) == [0, 1, 4, 9, 16]
    assert count(own, result.id) == {**{f"step{each}": 1 for each in range(5)}, "end": 1, **twice}


def test_a_suspended_task_outlasts_its_queue(own: Crew) -> None:
    result = send(own, "wait", "patient")
    suspended(result)
    until(lambda: own.backlog() == 0, what="the commit of its first run's end")
    own.workers[-1].stop()
    with own.app.connection_for_write() as connection:
        connection.default_channel.queue_delete("celery")
    kafka_exec.resume(own.app, "patient", 1, timeout=0.1)
    own.ready(own.start("again", "-c", "2", task_default_queue="other", task_routes={}), queue=None)
    own.ready(own.start("both", "-c", "2", "-Q", "celery"), queue=None)
    assert result.get(timeout=PATIENCE) == 1


def test_whom_a_task_waits_for_is_known_to_the_next_workers(own: Crew) -> None:
    ended, open_ = send(own, "add", 1, 2), send(own, "wait", "open")
    waiting = send(own, "awaits", [open_.id])
    suspended(open_)
    suspended(waiting)
    assert ended.get(timeout=PATIENCE) == 3
    until(lambda: own.backlog() == 0, what="the commit of the ends of the first runs")
    restart(own)
    assert kafka_exec.resume(own.app, "open", 5, timeout=PATIENCE).outcome == "continued"
    assert waiting.get(timeout=PATIENCE) == 5
    assert count(own, waiting.id) == {"begin": 2, "end": 1}
    assert send(own, "awaits", [ended.id, open_.id]).get(timeout=PATIENCE) == [3, 5]


def test_a_suspension_outlasts_all_workers_and_one_that_was_told_twice_goes_on_once(own: Crew) -> None:
    plain = send(own, "wait", "plain")
    suspended(plain)
    until(lambda: own.backlog() == 0, what="the commit of its first run's end")
    torn = send(own, "torn_wait", "torn")
    until(mark(own, torn).exists, what="the place")
    own.workers[-1].kill()
    own.ready(own.start("again", "-c", "4"))
    until(lambda: own.effects.count("begin")[torn.id] == 2, what="the second run")
    assert kafka_exec.resume(own.app, "plain", 1, timeout=PATIENCE).outcome == "continued"
    assert kafka_exec.resume(own.app, "torn", 2, timeout=PATIENCE).outcome == "continued"
    assert (plain.get(timeout=PATIENCE), torn.get(timeout=PATIENCE)) == (1, 2)
    own.effects.wait_for(own.send("work", number=20))
    assert count(own, plain.id) == {"begin": 2, "end": 1}
    assert count(own, torn.id)["end"] == 1
