"""Chains whose workers are killed between a step's sending of the next one and its own end."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from celery import chain

from kafka_exec.broker import EmbeddedKafka
from kafka_exec.core.queue.ledger import ENDED, STARTED
from tests.integration.kills import CONF, Killing, seed_of
from tests.integration.successor_tools import told
from tests.integration.workers import PATIENCE, Crew, crew, until

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]

#: The steps of a chain, and the time between the sending of the next one and the end, seconds.
STEPS, PAUSE = 6, 0.4

#: A run that begins so long after the success of its task was stored has begun in spite of it, seconds.
LATE = 1.0


@pytest.fixture
def made(tmp_path: Path) -> Iterator[Crew]:
    with EmbeddedKafka() as kafka, crew(kafka, tmp_path, backend="same", **CONF) as found:
        yield found


def test_no_step_of_a_chain_begins_again_when_it_has_ended(made: Crew, request: pytest.FixtureRequest) -> None:
    kills = Killing(made, workers=3, slots=4, seed=seed_of(request))
    step = made.app.tasks["step"].si
    chains = [[f"{number}-{place}" for place in range(STEPS)] for number in range(24)]
    for names in chains:
        chain(step(name=name, pause=PAUSE) for name in names).apply_async()
    last = {names[-1] for names in chains}
    while kills.times < 14 and not last <= made.effects.count().keys():
        time.sleep(1.5)
        kills.kill_one()
    made.effects.wait_for(last, timeout=3 * PATIENCE)
    until(lambda: made.backlog() == 0, what="a commit of all")
    stored: dict[str, float] = {}
    for effect in made.effects.all("stored"):
        stored.setdefault(effect.task, effect.time)
    begun = made.effects.all("begin")
    # A first run does not wait until its begin is in the journal. If its worker is killed before, nobody knows of the run.
    # The begin of a task that has ended meanwhile is not written, but its end is. Copies that never begin have an end too.
    unknown = made.effects.count("begin") - (told(made, STARTED) | told(made, ENDED, copies=False))
    known = [names for names in chains if unknown.keys().isdisjoint(names)]
    # Of few steps nobody has noted the success: their workers were killed just after it was stored.
    late = [effect.task for effect in begun if effect.time > stored.get(effect.task, math.inf) + LATE]
    again = set(late) & {name for names in known for name in names}
    print(
        f"{kills.times} kills, {len(begun)} runs of {STEPS * len(chains)} steps; after their end {len(late)}, of which "
        f"{len(again)} in the {len(known)} chains of which all begins are known",
        end=" ",
    )
    assert made.effects.count().keys() == {name for names in chains for name in names}
    assert not again
