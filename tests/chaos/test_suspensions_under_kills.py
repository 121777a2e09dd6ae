"""Many suspensions with callbacks early, twice, at once, too few and at the instant of the deadline, under kills."""

from __future__ import annotations

import heapq
import os
import random
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from celery.exceptions import TimeoutError as NoResult

import kafka_exec
from kafka_exec.broker import EmbeddedKafka
from kafka_exec.errors import SuspensionTimedOut
from tests.integration.kills import CONF, Killing, seed_of
from tests.integration.workers import PATIENCE, Crew, crew, until

pytestmark = [pytest.mark.slow, pytest.mark.timeout(2400)]

TASKS = int(os.environ.get("CHAOS_TASKS", "5000"))

#: The deadlines are so many seconds after the suspension.
SHORTEST, LONGEST = 15.0 + TASKS / 100, 45.0 + TASKS / 25

#: A callback comes so many seconds before or after its deadline: the standard deviation.
SPREAD = 1.0

#: A worker is killed so often, seconds.
EVERY = 4.0

#: So many callers at once: where the owner of the control plane was killed, each waits until there is another one.
CALLERS = 512

#: The outcomes of callbacks that count.
ACCEPTED = {"kept", "counted", "continued"}


class Kind(NamedTuple):
    """What a suspension expects, and the ids of the callbacks that come.

    Attributes:
        callbacks: their number, or their ids.
        early: those that are sent before the task is.
        due: those that come at the instant of the deadline.
    """

    callbacks: int | list[str]
    early: str = ""
    due: str = ""

    @property
    def number(self) -> int:
        """How many callbacks continue it."""
        return self.callbacks if isinstance(self.callbacks, int) else len(self.callbacks)


#: As many tasks of each.
KINDS = [
    Kind(1),
    Kind(1, due="a"),
    Kind(1, due="aa"),
    Kind(1, due="ab"),
    Kind(1, early="a", due="aa"),
    Kind(3, early="a", due="abbc"),
    Kind(["a", "b", "c"], early="a", due="bcxb"),
    Kind(3, early="b", due="ab"),
    Kind(3, due="abcdeab"),
    Kind(2, early="a", due="b"),
]


class Call(NamedTuple):
    """A callback that came, and what its caller was told."""

    callback: str
    outcome: str


@pytest.fixture
def made(tmp_path: Path) -> Iterator[Crew]:
    with EmbeddedKafka() as kafka, crew(kafka, tmp_path, backend="same", **CONF) as found:
        yield found


def test_each_suspension_goes_on_once_or_times_out_and_never_both(made: Crew, request: pytest.FixtureRequest) -> None:
    chance = random.Random(seed_of(request))
    kills = Killing(made, workers=3, slots=4, seed=chance.randrange(10**6))
    kinds = {f"{number}": KINDS[number % len(KINDS)] for number in range(TASKS)}
    timeouts = {name: chance.uniform(SHORTEST, LONGEST) for name in kinds}
    calls: dict[str, list[Call]] = {name: [] for name in kinds}

    def call_back(name: str, callback: str) -> None:
        told = kafka_exec.resume(made.app, f"s-{name}", f"{name}.{callback}", callback, timeout=PATIENCE)
        calls[name].append(Call(callback, told.outcome))

    def send() -> None:
        for name, kind in kinds.items():
            sent.extend(threads.submit(call_back, name, each) for each in kind.early)
            options = {"timeout": timeouts[name], "callbacks": kind.callbacks}
            made.app.tasks["wait"].apply_async((f"s-{name}", options), task_id=name)

    sent: list[Future[None]] = []
    begun: set[str] = set()
    due: list[tuple[float, str, str]] = []
    with ThreadPoolExecutor(CALLERS) as threads:
        sending = threads.submit(send)
        while due or len(begun) < TASKS:
            for effect in made.effects.all("begin"):
                if effect.task not in begun:
                    begun.add(effect.task)
                    deadline = effect.time + timeouts[effect.task]
                    for each in kinds[effect.task].due:
                        heapq.heappush(due, (deadline + chance.gauss(0, SPREAD), effect.task, each))
            while due and due[0][0] <= time.time():
                sent.append(threads.submit(call_back, *heapq.heappop(due)[1:]))
            if sending.done():
                sending.result()
            kills.kill_every(EVERY)
            time.sleep(0.1)
    for future in (sending, *sent):
        future.result()
    results = {name: made.app.AsyncResult(name) for name in kinds}
    until(lambda: all(each.ready() for each in results.values()), timeout=10 * PATIENCE, what="the end of all")
    values = {name: value_of(result) for name, result in results.items()}
    answered = {name: value for name, value in values.items() if value is not None}
    outcomes = Counter(call.outcome for told in calls.values() for call in told)
    print(
        f"{TASKS} suspensions, {kills.times} kills, {len(answered)} answered, {TASKS - len(answered)} timed out, "
        f"{len(sent)} calls: {dict(outcomes)}",
        end=" ",
    )
    ended = made.effects.count()
    assert [name for name in kinds if (ended[name] > 0) != (name in answered)] == [], "not just one of the two"
    assert sum(outcomes.values()) == len(sent)
    assert outcomes["sent"] == 0, "a caller was not answered"
    wrong = {name: found for name in kinds if (found := fault(name, kinds[name], values[name], calls[name]))}
    assert wrong == {}
    # A run that continues is begun again only if its worker died.
    assert len(made.effects.all()) <= len(answered) + 4 * kills.times


def value_of(result: Any) -> Any:
    """The value of a task that was answered; None: it has timed out."""
    try:
        return result.get(timeout=PATIENCE)
    except SuspensionTimedOut:
        return None
    except NoResult:
        raise AssertionError(f"{result.id} has an end, and no result") from None


def fault(name: str, kind: Kind, value: Any, told: list[Call]) -> str:
    """How what the callers of a task were told contradicts its end, if it does."""
    accepted = [call.callback for call in told if call.outcome in ACCEPTED]
    continued = sum(call.outcome == "continued" for call in told)
    if len(accepted) != len(set(accepted)):
        return f"one callback counted twice: {told}"
    if value is None:
        return f"timed out, and had all it expects: {told}" if continued or len(accepted) >= kind.number else ""
    got = value if isinstance(value, dict) else {value.rpartition(".")[2]: value}
    if got != {each: f"{name}.{each}" for each in got} or len(got) != kind.number:
        return f"continued with {value}: {told}"
    if not got.keys() <= set(accepted):
        return f"continued with {value}, of which a caller was told otherwise: {told}"
    # The last callback continues it; or all had come before the suspension, and each was told that it is kept.
    all_kept = all(call.outcome == "kept" for call in told if call.callback in got and call.outcome in ACCEPTED)
    return "" if continued == (not all_kept) else f"continued by {continued} callbacks: {told}"
