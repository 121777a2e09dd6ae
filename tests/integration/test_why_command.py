"""`celery kafka why`: each of its answers, of tasks that real workers run, keep, bury and lose."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from kafka_exec.broker import EmbeddedKafka
from kafka_exec.core.control.delay import level_for
from kafka_exec.core.overview.sentences import sentence
from kafka_exec.core.overview.why import Answer, Reason
from kafka_exec.kafka.overview import why as reading
from kafka_exec.settings.appconf import broker_home
from tests.integration.workers import PARTITIONS, Crew, crew, until


@pytest.fixture
def made(kafka: EmbeddedKafka, tmp_path: Path) -> Iterator[Crew]:
    with crew(kafka, tmp_path, backend="same", kafka_exec_session_timeout=6) as found:
        yield found


def ask(made: Crew, task_id: str) -> Answer:
    """The answer by the command's own function: the command would take a process for each look."""
    space = broker_home(made.app)
    find = None if made.backend is None else made.app.backend.history
    return reading.why(space.cluster, space.topics, find, task_id, time.time())


def wait_for(made: Crew, task_id: str, reason: Reason, **facts: object) -> Answer:
    """Waits until a task has this answer, with these facts."""
    seen: list[Answer] = []

    def is_so() -> bool:
        seen.append(ask(made, task_id))
        return seen[-1].reason is reason and facts.items() <= seen[-1].facts.items()

    try:
        until(is_so)
    except AssertionError:
        raise AssertionError(f"expected {reason} with {facts}, the last answer was {seen[-1]}") from None
    return seen[-1]


def read_little(monkeypatch: pytest.MonkeyPatch) -> None:
    """Has one message of each partition of a topic be read."""
    for module in ("why", "unfinished"):
        monkeypatch.setattr(f"kafka_exec.kafka.overview.{module}.MOST", PARTITIONS["queue"])


def head_of(answer: Answer) -> tuple[str, Reason]:
    assert answer.head is not None
    return answer.head.id, answer.head.reason


def test_without_a_worker_it_tells_what_a_task_waits_for(made: Crew) -> None:
    [first], [second] = (made.send("work", ordering_key="k") for _ in range(2))
    [late] = made.send("work", countdown=600)
    assert ask(made, first).reason is Reason.NO_WORKER
    behind = ask(made, second)
    assert (behind.reason, behind.facts["ahead"], head_of(behind)) == (Reason.BEHIND, 1, (first, Reason.NO_WORKER))
    waits = ask(made, late)
    assert (waits.reason, waits.facts["level"]) == (Reason.WAITS_FOR_TIME, level_for(600, PARTITIONS["delay"]))
    assert 590 < waits.facts["due"] - time.time() < 600
    [line] = made.command("kafka", "why", second, "--json").splitlines()
    told = json.loads(line)
    assert (told["schema"], told["id"], told["head"]["reason"]) == (1, second, Reason.NO_WORKER.value)
    assert told["sentence"].startswith(f"{second} is behind 1 task of key k; the first, {first}, waits in queue celery")
    said, *facts = made.command("kafka", "why", "nothing").splitlines()
    assert said.startswith(f"nothing is unknown under the prefix {made.prefix}: no message of it is in 1 queues")
    assert ["reason", "unknown"] in [line.split() for line in facts]


def test_it_tells_what_runs_waits_stops_and_dies_with_real_workers(made: Crew, monkeypatch: pytest.MonkeyPatch) -> None:
    able = made.start("able", "-c", "2")
    made.ready(able)
    [dead], [ended], [failed] = made.send("picky", "no"), made.send("work"), made.send("fail", "wrong")
    retried, broken, waiting = (
        made.send(*task, ordering_key=key)[0]
        for key, task in {"r": ("stumble", 1, 600), "b": ("break_lane",), "s": ("wait", "approval")}.items()
    )
    of_retried, of_broken, of_waiting = (made.send("work", ordering_key=key)[0] for key in "rbs")
    [revoked] = made.send("work", countdown=600)

    assert wait_for(made, ended, Reason.ENDED, state="DONE", node="able@test").facts["at"] <= time.time()
    wait_for(made, failed, Reason.ENDED, state="FAILED", error="ValueError: wrong")
    letter = wait_for(made, dead, Reason.DEAD, why="rejected", queue="celery")
    assert f"celery kafka dead replay celery {letter.facts['letter']} runs it again" in sentence(letter, str)
    assert wait_for(made, retried, Reason.WAITS_FOR_TIME, is_retry=True).facts["due"] > time.time() + 500
    assert head_of(wait_for(made, of_retried, Reason.BEHIND, key="r")) == (retried, Reason.WAITS_FOR_TIME)
    stopped = wait_for(made, of_broken, Reason.BEHIND, key="b", stopped=True, error="ValueError: broken")
    assert head_of(stopped) == (broken, Reason.ENDED)
    wait_for(made, waiting, Reason.SUSPENDED, correlation_id="approval", got=0, expected=1)
    assert head_of(wait_for(made, of_waiting, Reason.BEHIND, key="s")) == (waiting, Reason.SUSPENDED)
    made.app.control.revoke(revoked, reply=True, timeout=10, limit=1)
    wait_for(made, revoked, Reason.REVOKED, ends=True)

    able.stop()
    without = made.start("without", "-c", "1", env={"WITHOUT_TASKS": "fenced"})
    made.ready(without)
    [unknown] = made.send("fenced")
    told = wait_for(made, unknown, Reason.NOBODY_KNOWS, task="fenced", node="able@test")
    assert told.facts["heard"] < time.time()
    gate = made.gate()
    [held] = made.send("hold", str(gate), ordering_key="h")
    wait_for(made, held, Reason.RUNNING, node="without@test")
    of_held, full = made.send("work", ordering_key="h")[0], made.send("work", number=3)[-1]
    assert until(lambda: ask(made, held).facts["since"], what="its state with its start") <= time.time()
    assert head_of(wait_for(made, of_held, Reason.BEHIND, key="h", ahead=1)) == (held, Reason.RUNNING)
    wait_for(made, full, Reason.NO_SLOT, slots=1, before=3)
    with monkeypatch.context() as little:
        read_little(little)
        assert wait_for(made, of_held, Reason.BEHIND, key="h", ahead=1).head is None, "its state tells it"

    without.kill()
    wait_for(made, held, Reason.LOST, node="without@test", workers=0)
    gate.touch()
    again = made.start("again", "-c", "2")
    for task in (held, of_held, full, unknown):
        wait_for(made, task, Reason.ENDED)
    again.stop()


def test_without_a_result_back_end_a_task_is_looked_for_among_the_first_messages(
    kafka: EmbeddedKafka, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with crew(kafka, tmp_path) as made:
        [first], [second] = (made.send("work", ordering_key="k") for _ in range(2))
        assert [ask(made, each).reason for each in (first, second)] == [Reason.NO_WORKER, Reason.BEHIND]
        read_little(monkeypatch)
        assert ask(made, first).reason is Reason.NO_WORKER
        cut = ask(made, second)
        assert (cut.reason, cut.facts["is_cut"], cut.facts["results"]) == (Reason.UNKNOWN, True, False)
