"""Tasks of one ordering key run one at a time and in order, whatever happens; a deduplicated task runs once."""

from __future__ import annotations

import json
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest
from confluent_kafka import ConsumerGroupTopicPartitions, TopicPartition
from confluent_kafka.admin import NewPartitions

from kafka_exec.broker import EmbeddedKafka
from kafka_exec.core.queue.progress import Progress
from kafka_exec.errors import ConfigurationError
from tests.integration.judge import judge_lanes
from tests.integration.records import committed, read
from tests.integration.workers import PATIENCE, ROOT, Crew, Effect, crew, environment, until

#: Short, so that a dead worker's partitions are soon another's.
SESSION = 3

#: What may lie between two tasks of a key that nothing holds up, seconds: less than any interval at which something is
#: looked at. What it is as a rule is printed.
LONGEST_GAP = 5.0


@pytest.fixture
def made(kafka: EmbeddedKafka, tmp_path: Path) -> Iterator[Crew]:
    with crew(kafka, tmp_path, backend="same", kafka_exec_session_timeout=SESSION) as found:
        yield found


def send_keyed(made: Crew, key: str, number: int, *, begin: int = 0, failing: int = 0, **kwargs: object) -> list[str]:
    """Publishes tasks of one key, named by their order; every fifth is retried so many times."""
    ids = [f"{key}.{n:05}" for n in range(begin, begin + number)]
    with made.app.producer_or_acquire() as producer:
        for n, task_id in enumerate(ids):
            more = {"failures": failing} if failing and n % 5 == 0 else {}
            made.app.tasks["stumble"].apply_async(
                kwargs={**kwargs, **more}, task_id=task_id, ordering_key=key, producer=producer
            )
    return ids


def assert_in_order(made: Crew, key: str) -> None:
    """Tasks of a key ended in the order in which they were sent, and none began before the one before had ended."""
    effects = [(e.what, e.task) for e in sorted(read_all(made), key=lambda e: e.time) if e.task.startswith(f"{key}.")]
    ended = [task for what, task in effects if what == "end"]
    assert ended == sorted(set(ended))
    running = None
    for what, task in effects:
        assert running in (None, task), f"{what} {task} while {running} has not ended"
        running = None if what == "end" else task


def read_all(made: Crew) -> list[Effect]:
    return [effect for what in ("begin", "retry", "end") for effect in made.effects.all(what)]


def test_tasks_of_a_key_run_in_order_with_their_retries_in_place(made: Crew) -> None:
    made.ready(made.start("one", "-c", "4"), made.start("two", "-c", "4"))
    ids = [each for n in range(6) for each in send_keyed(made, f"key{n}", 25, failing=2, countdown=0.05)]
    made.effects.wait_for(ids)
    made.effects.assert_once(ids)
    for n in range(6):
        assert_in_order(made, f"key{n}")
    until(lambda: made.backlog() == 0, what="a commit of all")


def test_a_task_that_waits_for_others_of_its_key_says_so_with_its_place(made: Crew) -> None:
    made.ready(made.start("one", "-c", "2"))
    gate = made.gate()
    [head] = made.send("hold", str(gate), ordering_key="k")
    behind = [made.send("work", ordering_key="k")[0] for _ in range(3)]
    reader = made.app.backend.reader

    def told() -> list[tuple[str, int | None, str | None]]:
        found = [reader.find(task) for task in behind]
        return [(each.state.value, each.position, each.ordering_key) for each in found if each is not None]

    until(lambda: told() == [("GROUP", place, "k") for place in (1, 2, 3)], what="the places of those that wait")
    assert made.app.AsyncResult(behind[0]).state == "PENDING"
    listed = [
        json.loads(line)["id"]
        for line in made.command("kafka", "executions", "--state", "group", "--json").splitlines()
    ]
    assert sorted(listed) == sorted(behind)
    gate.touch()
    made.effects.wait_for([head, *behind])
    until(lambda: [state for state, *_ in told()] == ["DONE"] * 3, what="their ends")


def test_another_key_flows_while_one_waits_for_a_long_retry(made: Crew) -> None:
    made.ready(made.start("one", "-c", "2"))
    [head] = send_keyed(made, "slow", 1, failing=1, countdown=6)
    made.effects.wait_for([head], "retry")
    behind = send_keyed(made, "slow", 5, begin=1)
    others = [each for n in range(40) for each in send_keyed(made, f"quick{n}", 3)]
    unkeyed = made.send("work", number=40)
    made.effects.wait_for([*others, *unkeyed])
    assert not {*behind, head} & set(made.effects.count())
    made.effects.wait_for([head, *behind])
    assert_in_order(made, "slow")


def test_what_a_lane_waits_for_is_known_to_whoever_comes_next(made: Crew) -> None:
    victim = made.start("victim", "-c", "2")
    made.ready(victim)
    [head] = send_keyed(made, "k", 1, failing=1, countdown=4)
    made.effects.wait_for([head], "retry")
    behind = send_keyed(made, "k", 20, begin=1)
    until(lambda: made.app.AsyncResult(head).state == "RETRY", what="the retry's state")
    other = made.send("work", number=20)
    made.effects.wait_for(other)  # what was told before is durable by now
    victim.kill()
    made.ready(made.start("heir", "-c", "4"))
    made.effects.wait_for([head, *behind])
    assert_in_order(made, "k")
    made.effects.assert_once([head, *behind])


def told(made: Crew) -> set[str]:
    """The tasks whose ends a new owner would know: by the commits, or by the journal behind them."""
    queue = f"{made.prefix}.queue.celery"
    admin = made.kafka.admin()
    asked = admin.list_consumer_group_offsets([ConsumerGroupTopicPartitions(queue)])[queue]
    found = asked.result(PATIENCE).topic_partitions
    commits = {each.partition: Progress.restore(each.offset, each.metadata) for each in found if each.offset >= 0}
    ends = {
        (record.partition(), offset)
        for record in committed(made.kafka, f"{made.prefix}.journal.celery")
        for kind, offset, *_ in json.loads(record.value()).get("t", [])
        if kind == "e"
    }
    return {
        json.loads(dict(record.headers())["headers"])["id"]
        for record in committed(made.kafka, queue)
        if (record.partition(), record.offset()) in ends
        or (record.partition() in commits and commits[record.partition()].has_ended(record.offset()))
    }


def test_tasks_of_a_key_stay_in_order_while_workers_come_and_die(made: Crew) -> None:
    made.ready(made.start("one", "-c", "2"), made.start("two", "-c", "2"))
    lanes = [send_keyed(made, f"key{n}", 40, seconds=0.05) for n in range(8)]
    until(lambda: len(made.effects.count()) > 30)
    made.start("three", "-c", "2")
    until(lambda: len(made.effects.count()) > 100)
    ended = set(made.effects.count())
    until(lambda: ended <= told(made), what="all these ends are told")
    killed = made.workers[0].processes()
    made.workers[0].kill()
    kills = {process.pid: time.time() for process in killed}
    made.effects.wait_for([each for lane in lanes for each in lane], timeout=2 * PATIENCE)
    # What ran in the killed worker began a second time; nothing else did, and nothing began out of order.
    verdict = judge_lanes(lanes, read_all(made), kills, ended)
    assert (verdict.lost, verdict.inversions, verdict.overlaps, verdict.again) == ([], [], [], [])


def test_thousands_of_tasks_of_one_key_cost_offsets_and_not_bodies(made: Crew) -> None:
    made.ready(made.start("one", "-c", "2"))
    gate = made.gate()
    head = f"k.{0:05}"
    made.app.tasks["hold"].apply_async((str(gate),), task_id=head, ordering_key="k")
    ids = send_keyed(made, "k", 2000, begin=1)
    after = send_keyed(made, "other", 5)
    made.effects.wait_for(after)  # though thousands before them wait
    assert set(made.effects.count()) == set(after)
    gate.touch()
    made.effects.wait_for([head, *ids], timeout=3 * PATIENCE)
    assert_in_order(made, "k")
    times = sorted((e.time, e.what) for e in read_all(made) if e.task in ids)
    gaps = sorted(begin - end for (end, what), (begin, _) in pairwise(times) if what == "end")
    print(f"\nfrom one to the next {gaps[len(gaps) // 2] * 1000:.1f} ms (p50), {gaps[-30] * 1000:.1f} (p99)")
    assert gaps[-1] < LONGEST_GAP


def test_a_lane_stops_at_a_failure_where_the_task_says_so_until_it_is_freed(made: Crew) -> None:
    made.ready(made.start("one", "-c", "2"))
    broken = made.app.tasks["break_lane"].apply_async(ordering_key="k")
    with pytest.raises(ValueError, match="broken"):
        broken.get(timeout=PATIENCE)
    [behind] = send_keyed(made, "k", 1)
    [other] = send_keyed(made, "other", 1)
    made.effects.wait_for([other])
    [row] = map(json.loads, made.command("kafka", "keys", "--blocked", "--json").splitlines())
    assert (row["key"], row["state"], row["waiting"], row["task"]) == ("k", "stopped", 1, broken.id)
    assert behind not in made.effects.count()
    assert "unblocked k" in made.command("kafka", "keys", "unblock", "k")
    made.effects.wait_for([behind])


def test_what_waits_in_stopped_keys_is_parked_and_survives_every_owner(kafka: EmbeddedKafka, tmp_path: Path) -> None:
    """The commit goes on without it; also when Kafka has forgotten that, as it does after a week without workers."""
    conf = {"kafka_exec_partitions": {"queue": 1}, "kafka_exec_session_timeout": SESSION}
    with crew(kafka, tmp_path, backend="same", **conf) as made:
        group, admin = f"{made.prefix}.queue.celery", kafka.admin()
        made.ready(made.start("one", "-c", "2"))
        keys, behind = ("j", "k"), dict[str, list[str]]()
        for key in keys:
            with pytest.raises(ValueError, match="broken"):
                made.app.tasks["break_lane"].apply_async(ordering_key=key).get(timeout=PATIENCE)
            behind[key] = send_keyed(made, key, 20)
        others = made.send("work")

        def committed() -> Progress:
            request = [ConsumerGroupTopicPartitions(group, [TopicPartition(group, 0)])]
            [found] = admin.list_consumer_group_offsets(request)[group].result(10).topic_partitions
            return Progress.restore(found.offset, found.metadata)

        def is_parked() -> bool:
            others.extend(made.send("work"))
            made.effects.wait_for(others)
            return committed().low > len(others)

        until(is_parked, what="a commit beyond what waits")
        before = committed().checkpoint
        others += made.send("work", number=1200)
        made.effects.wait_for(others)
        until(lambda: committed().checkpoint > before, what="a checkpoint of the journal")
        # What ends in the last moment before a kill is run again: its end is not in Kafka yet.
        until(lambda: made.backlog() == 0, what="a commit of all but what waits")
        made.workers[-1].kill()
        made.ready(made.start("one", "-c", "2"))
        rows = map(json.loads, made.command("kafka", "keys", "--blocked", "--json").splitlines())
        assert [(row["key"], row["state"], row["waiting"]) for row in rows] == [(key, "stopped", 20) for key in keys]
        parked = behind["k"][-1]
        asked = made.app.control.inspect(timeout=10, limit=1).query_task(parked)["one@test"]
        assert (asked.keys(), asked[parked][0]) == ({parked}, "reserved"), "its id is in the queue only"
        made.command("kafka", "keys", "unblock", "j")
        made.effects.wait_for(behind["j"])
        made.workers[-1].stop()
        # A journal is trimmed by age too: then it does not begin with a checkpoint.
        journal = TopicPartition(f"{made.prefix}.journal.celery", 0, committed().checkpoint - 1)
        admin.delete_records([journal])[journal].result(10)
        admin.delete_consumer_groups([group])[group].result(10)
        made.ready(made.start("one", "-c", "2"))
        until(lambda: committed().checkpoint > journal.offset, what="a commit that names a new checkpoint")
        behind["k"] += send_keyed(made, "k", 5, begin=20)
        made.command("kafka", "keys", "unblock", "k")
        made.effects.wait_for(behind["k"])
        for key in keys:
            assert_in_order(made, key)
        made.effects.assert_once([*others, *behind["j"], *behind["k"]], "begin")


def test_a_task_whose_retry_is_not_worth_waiting_for_is_skipped(made: Crew) -> None:
    made.ready(made.start("one", "-c", "2"))
    [head] = send_keyed(made, "k", 1, failing=1, countdown=600)
    made.effects.wait_for([head], "retry")
    behind = send_keyed(made, "k", 3, begin=1)
    assert f"skipped {head} of k" in made.command("kafka", "keys", "skip", "k")
    made.effects.wait_for(behind)
    assert made.app.control.inspect().revoked() == {"one@test": [head]}


def test_a_key_stays_in_its_partition_when_partitions_are_added(made: Crew) -> None:
    """Every sender keeps to it: a process that knows the new ones, the mover of delayed tasks, a replay of dead letters."""
    topic, admin, keys = f"{made.prefix}.queue.celery", made.kafka.admin(), [f"k{n}" for n in range(20)]
    for key in keys:
        made.app.tasks["work"].apply_async(ordering_key=key)
        made.app.tasks["picky"].apply_async(("no",), ordering_key=key)
    made.app.tasks["add"].apply_async((1, 2), deduplication_id="d")
    admin.create_partitions([NewPartitions(topic, 24)])[topic].result(10)
    late = (
        "from tests.integration.app import app\n"
        f"for key in {keys}:\n"
        "    app.tasks['work'].apply_async(ordering_key=key)\n"
        "    app.tasks['work'].apply_async(ordering_key=key, countdown=4)\n"
        "app.tasks['add'].apply_async((1, 2), deduplication_id='d')\n"
    )
    env = environment(made.url, made.folder, made.conf, **made.env)
    subprocess.run([sys.executable, "-c", late], cwd=ROOT, env=env, check=True, timeout=PATIENCE)
    made.ready(made.start("one", "-c", "2"))
    until(lambda: made.effects.count().total() == 3 * len(keys), what="the ends of all that is not refused")
    read(made.kafka, f"{made.prefix}.dead.celery", len(keys))
    made.command("kafka", "dead", "replay", "celery", "--all", "--yes")
    places: dict[bytes, set[int]] = {}
    for record in read(made.kafka, topic, 5 * len(keys) + 2):
        places.setdefault(record.key(), set()).add(record.partition())
    assert {len(partitions) for partitions in places.values()} == {1}
    assert len(places) == len(keys) + 1


def test_a_task_may_say_its_key_by_its_arguments(made: Crew) -> None:
    sent = made.app.tasks["keyed"].delay("ann")
    headers = [dict(record.headers()) for record in read(made.kafka, f"{made.prefix}.queue.celery", 1)]
    assert [each["ordering-key"] for each in headers] == [b"ann"]
    made.ready(made.start("one", "-c", "2"))
    made.effects.wait_for([sent.id])


def test_each_run_of_a_key_has_a_greater_token_than_those_before(made: Crew) -> None:
    made.ready(made.start("one", "-c", "2"))
    fenced = made.app.tasks["fenced"]
    before = [fenced.apply_async(ordering_key="k") for _ in range(5)]
    assert fenced.delay().get(timeout=PATIENCE) is None
    tokens = [each.get(timeout=PATIENCE) for each in before]
    made.workers[0].stop()
    made.ready(made.start("two", "-c", "2"))
    tokens += [fenced.apply_async(ordering_key="k").get(timeout=PATIENCE)]
    assert tokens == sorted(set(tokens))


@pytest.mark.parametrize("key", [7, "", "x" * 600, b"k"])
def test_a_key_that_is_no_text_is_refused(made: Crew, key: object) -> None:
    with pytest.raises(ConfigurationError, match="stumble: an ordering key must be a text"):
        made.app.tasks["stumble"].apply_async(ordering_key=key)


def send_at_once(made: Crew, unique: str, number: int) -> set[str]:
    """Has so many processes send a deduplicated task at the same moment; its ids."""
    code = (
        "import sys; from tests.integration.app import app; task = app.tasks['stumble']; sys.stdin.read(); "
        "print(task.apply_async(deduplication_id=sys.argv[1]).id)"
    )
    senders = [
        subprocess.Popen(
            [sys.executable, "-c", code, unique],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environment(made.url, made.folder, made.conf, **made.env),
        )
        for _ in range(number)
    ]
    for each in senders:
        each.stdin.close()
    found = set()
    for each in senders:
        with each:
            found.add(each.stdout.read().strip())
    return found


def test_a_deduplicated_task_runs_once_however_often_it_is_sent(made: Crew) -> None:
    made.ready(made.start("one", "-c", "4"), made.start("two", "-c", "4"))
    unique = uuid.uuid4().hex
    first = made.app.tasks["stumble"].apply_async(kwargs={"failures": 1, "countdown": 0.5}, deduplication_id=unique)
    copies = [made.app.tasks["stumble"].apply_async(deduplication_id=unique) for _ in range(5)]
    assert {each.id for each in copies} == {first.id}
    first.get(timeout=PATIENCE)
    copies += [made.app.tasks["stumble"].apply_async(deduplication_id=unique)]
    other = made.app.tasks["stumble"].apply_async(deduplication_id=unique + "x")
    [of_many] = send_at_once(made, unique + "y", 3)
    made.effects.wait_for([other.id, of_many])
    until(lambda: made.backlog() == 0, what="the copies' end")
    made.effects.assert_once([first.id, of_many])
    made.workers[0].stop()
    made.shared_out("celery", 1)
    made.app.tasks["stumble"].apply_async(deduplication_id=unique)
    until(lambda: made.backlog() == 0, what="the last copy's end")
    made.effects.assert_once([first.id])


def test_another_task_of_the_same_deduplication_id_is_an_error_in_the_log(made: Crew) -> None:
    worker = made.start("w", "-c", "1")
    made.ready(worker)
    unique = uuid.uuid4().hex
    first = made.app.tasks["stumble"].apply_async(deduplication_id=unique)
    first.get(timeout=PATIENCE)
    made.app.tasks["work"].apply_async(deduplication_id=unique)
    worker.wait_for_line("a task work, is dropped, since another task of the same deduplication id has ended")
    until(lambda: made.backlog() == 0, what="the end of what was dropped")
    made.effects.assert_once([first.id], "begin")


def test_a_deduplicated_task_has_no_other_id(made: Crew) -> None:
    with pytest.raises(ConfigurationError, match="leave one out"):
        made.app.tasks["stumble"].apply_async(deduplication_id="d", task_id="mine")
