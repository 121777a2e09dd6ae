"""What a lost run has sent and what its repetition sends again is one task: it does not run again once it has ended."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest
from celery import chain, group

from kafka_exec.broker import EmbeddedKafka
from kafka_exec.core.message.envelope import REPEATED as HEADER
from kafka_exec.core.message.envelope import decode
from kafka_exec.core.queue.ledger import ENDED, STARTED
from tests.integration.records import committed
from tests.integration.successor_tools import name_of, told
from tests.integration.workers import Crew, Worker, crew, until

QUEUES = ("celery", "other")

#: The tasks whose worker is killed, each with the tasks that come of it, of which the last one ends last.
REPEATED = {
    "link": ["callback", "its-callback"],
    "failure": ["errback"],
    "chain": ["second", "third"],
    "part": ["left", "right", "body", "behind"],
    "whole": ["left-whole", "right-whole", "body-whole", "behind-whole"],
    "replaced": ["replacement", "after"],
    "retried": ["retried-retry"],
}


@pytest.fixture
def made(kafka: EmbeddedKafka, tmp_path: Path) -> Iterator[Crew]:
    with crew(kafka, tmp_path, backend="same", kafka_exec_session_timeout=3) as found:
        yield found


def send(made: Crew) -> None:
    """Sends the tasks. Those that send two messages of a group are killed after one of them, or after both."""
    step, failing, replaced, elsewhere = (
        made.app.tasks[name].si for name in ("step", "failing", "replaced", "elsewhere")
    )
    callback = step(name="callback")
    callback.link(step(name="its-callback"))
    step(name="link", killed_after=1).apply_async(link=callback)
    failing(name="failure", killed_after=1).apply_async(link_error=step(name="errback"))
    chain(step(name="chain", killed_after=1), step(name="second"), step(name="third")).apply_async()
    for name, suffix, killed_after in (("part", "", 1), ("whole", "-whole", 2)):
        parts = group(step(name=f"{each}{suffix}") for each in ("left", "right"))
        chain(
            step(name=name, killed_after=killed_after), parts, step(name=f"body{suffix}"), step(name=f"behind{suffix}")
        ).apply_async()
    chain(replaced(name="replaced", by="replacement", killed_after=1), step(name="after")).apply_async()
    elsewhere(name="retried", killed_after=1).apply_async()


def test_what_a_lost_run_has_sent_does_not_run_again_when_the_run_is_repeated(made: Crew) -> None:
    victim = start(made, "victim", len(REPEATED) + 1)
    victim.wait_for_line(" ready.")
    send(made)
    sent = {name for names in REPEATED.values() for name in names}
    # In the middle of a group, nothing comes of it yet but its first part.
    kill(made, victim, REPEATED, running=REPEATED, ended=sent - {"right", "body", "behind"})
    start(made, "heir", 2)
    made.effects.wait_for(sent)
    until(lambda: made.backlog() == made.backlog("other") == 0, what="a commit of all")
    assert made.effects.count("begin") == Counter({**dict.fromkeys(sent, 1), **dict.fromkeys(REPEATED, 2)})
    # What is behind a copy that did not run has no copy; and first runs have sent the rest.
    copied = sent - {"its-callback", "third", "body", "behind", "body-whole", "behind-whole", "after"}
    assert copies(made) == Counter(copied)


def test_a_copy_waits_for_a_first_one_that_begins_again(made: Crew) -> None:
    step, gate = made.app.tasks["step"].si, made.gate()
    victim = start(made, "victim", 2)
    victim.wait_for_line(" ready.")
    chain(step(name="first", killed_after=1), step(name="long", gate=str(gate)), step(name="last")).apply_async()
    kill(made, victim, ["first"], running=["first", "long"])
    start(made, "heir", 4)
    made.effects.wait_for(["first"], "stored")
    until(lambda: made.effects.count("begin")["long"] >= 2, what="the second begin")
    made.effects.wait_for(made.send("work", number=50))  # what was sent before, in any partition, was handed out by now
    gate.touch()
    made.effects.wait_for(["last"])
    until(lambda: made.backlog() == 0, what="a commit of all")
    counts = made.effects.count("begin")
    assert {name: counts[name] for name in ("first", "long", "last")} == {"first": 2, "long": 2, "last": 1}


def start(made: Crew, name: str, slots: int) -> Worker:
    return made.start(name, "-c", str(slots), "-Q", ",".join(QUEUES))


def kill(
    made: Crew, worker: Worker, senders: Iterable[str], *, running: Iterable[str], ended: Iterable[str] = ()
) -> None:
    """Kills a worker when these tasks have sent their messages, and a new owner would know what runs and what has ended."""
    until(lambda: all(Path(f"{made.effects.path}-sent-{name}").exists() for name in senders), what="their messages")
    until(lambda: told(made, STARTED).keys() >= set(running), what="the begins in the journal")
    until(lambda: (told(made, ENDED) + told(made, ENDED, "other")).keys() >= set(ended), what="the ends in the journal")
    worker.kill()


def copies(made: Crew) -> Counter[str]:
    """The names of the tasks whose messages say that a repeated run has sent them."""
    records = [record for queue in QUEUES for record in committed(made.kafka, f"{made.prefix}.queue.{queue}")]
    return Counter(name_of(record) for record in records if HEADER in decode(record.headers(), record.value()).headers)
