"""The fold of a partition's journal: beside a dumb twin, and in a simulation of owners that crash, pause and come back."""

from __future__ import annotations

import json
import random
from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kafka_exec.core.queue import checkpoints
from kafka_exec.core.queue.checkpoints import add_checkpoint, encode_checkpoint
from kafka_exec.core.queue.lanes import Lane, Run, sent_by
from kafka_exec.core.queue.ledger import Ledger
from kafka_exec.core.queue.progress import Progress
from kafka_exec.core.queue.restoring import JournalEntry, restore
from kafka_exec.core.queue.transitions import (
    ENDED,
    FREED,
    GRANTED,
    HELD,
    PARKED,
    RELEASED,
    STARTED,
    Lease,
    Memory,
    Transition,
    encode,
    freed,
    granted,
    held,
    parked,
)
from tests.unit.twins.ledger import PlainLedger

TOLD = st.lists(
    st.tuples(
        st.sampled_from([STARTED, STARTED, ENDED, RELEASED, PARKED, HELD, HELD, FREED]),
        st.integers(0, 4),
        st.integers(1, 3),
        st.sampled_from("ab"),
    ),
    max_size=30,
)


KEY = Lane("key", "k")


def told(ledger: Ledger, kind: str, offset: int, attempt: int, incarnation: str) -> None:
    run = Run(f"t{offset}", attempt)
    transitions = {
        PARKED: [parked(KEY, [offset])],
        HELD: [Transition(ENDED, offset), held(offset, KEY, run)],
        FREED: [freed(-1, KEY, run)],
    }
    ledger.apply(encode(incarnation, "q", transitions.get(kind, [Transition(kind, offset, attempt)])))


@given(TOLD)
def test_it_agrees_with_all_that_was_told(transitions: list[tuple[str, int, int, str]]) -> None:
    ledger, twin = Ledger("q", Progress(0)), PlainLedger()
    for transition in transitions:
        told(ledger, *transition)
        twin.tell(*transition)
    for offset in range(5):
        assert ledger.has_ended(offset) == twin.has_ended(offset)
        assert ledger.progress.has_ended(offset) == (twin.has_ended(offset) or twin.is_parked(offset))
        assert ledger.attempts.get(offset, 0) == twin.attempts(offset)
        lease = ledger.leases.get(offset)
        assert (lease and lease.incarnation) == twin.lease(offset)
    hold = twin.hold()
    assert ledger.holds == ({KEY: Run(f"t{hold[0]}", hold[1])} if hold else {})
    assert ledger.holders == ({KEY: hold[0]} if hold else {})


@given(TOLD, TOLD)
def test_a_checkpoint_and_what_follows_is_the_same_as_all(
    before: list[tuple[str, int, int, str]], after: list[tuple[str, int, int, str]]
) -> None:
    whole = Ledger("q", Progress(0))
    for transition in before:
        told(whole, *transition)
    restored = Ledger("q", Progress(0))
    assert all(add_checkpoint(restored, part) for part in encode_checkpoint(whole, "a"))
    for transition in after:
        told(whole, *transition)
        told(restored, *transition)
    assert (restored.leases, restored.attempts, restored.parked) == (whole.leases, whole.attempts, whole.parked)
    assert restored.displaced == whole.displaced
    assert (restored.holds, restored.holders, restored.places) == (whole.holds, whole.holders, whole.places)
    assert (restored.progress.low, restored.progress.metadata()) == (whole.progress.low, whole.progress.metadata())


@given(TOLD, TOLD)
def test_what_two_know_is_added_up(
    ones: list[tuple[str, int, int, str]], others: list[tuple[str, int, int, str]]
) -> None:
    one, other = Ledger("q", Progress(0)), Ledger("q", Progress(0))
    for ledger, transitions in ((one, ones), (other, others)):
        for transition in transitions:
            told(ledger, *transition)
    ended = [one.has_ended(offset) or other.has_ended(offset) for offset in range(5)]
    for_the_commit = [one.progress.has_ended(offset) or other.progress.has_ended(offset) for offset in range(5)]
    one.merge(other.progress, other.parked)
    assert [one.has_ended(offset) for offset in range(5)] == ended
    assert [one.progress.has_ended(offset) for offset in range(5)] == for_the_commit


def test_only_the_checkpoint_that_the_commit_names_counts() -> None:
    zombie = Ledger("q", Progress(0))
    zombie.start(7, "zombie")
    ledger = Ledger("q", Progress(0))
    [checkpoint] = encode_checkpoint(zombie, "zombie")
    ledger.apply(checkpoint)
    assert (ledger.leases, ledger.attempts) == ({}, {})
    entries = [JournalEntry(3, encode("a", "q", [])), JournalEntry(4, checkpoint)]
    assert not restore("q", entries, Progress(0, checkpoint=3))[0].leases
    assert restore("q", entries, Progress(0, checkpoint=4))[0].leases


def test_a_start_counts_up_and_an_older_one_changes_nothing() -> None:
    ledger = Ledger("q", Progress(0))
    assert ledger.start(3, "a") == Lease("a", 1)
    ledger.release(3)
    assert ledger.start(3, "b") == Lease("b", 2)
    told(ledger, STARTED, 3, 1, "a")
    told(ledger, RELEASED, 3, 1, "a")
    assert ledger.leases[3] == Lease("b", 2)
    ledger.end(3)
    told(ledger, STARTED, 3, 3, "a")
    assert (ledger.leases, ledger.attempts) == ({}, {})


@pytest.mark.parametrize("takes", [STARTED, GRANTED])
def test_the_lease_of_a_run_counts_again_when_one_is_over_that_was_told_late_in_its_place(takes: str) -> None:
    """The worker of the late one did not know of that run, and has counted its own starts only."""
    taken = granted(3, Lease("former", 2)) if takes == GRANTED else Transition(STARTED, 3, 2)
    ledger = Ledger("q", Progress(0))
    ledger.fold([Transition(STARTED, 3, 1)], "runs")
    ledger.fold([Transition(STARTED, 3, 1), Transition(RELEASED, 3, 1), taken], "former")
    restored = Ledger("q", Progress(0))
    assert all(add_checkpoint(restored, part) for part in encode_checkpoint(ledger, "owner"))
    for each in (ledger, restored):
        assert each.leases == {3: Lease("former", 2)}
        each.fold([Transition(RELEASED, 3, 2)], "former")
        assert each.leases == {3: Lease("runs", 1)}
        each.release(3)
        assert (each.leases, each.displaced) == ({}, {})


@pytest.mark.parametrize("how", ["it is released", "it ends", "it is accepted", "its journal was not heard", "void"])
def test_nothing_is_kept_of_a_lease_in_whose_place_another_one_has_come(how: str) -> None:
    ledger = Ledger("q", Progress(0))
    ledger.fold([Transition(STARTED, 3, 1)], "former")
    ledger.fold([Transition(STARTED, 3, 2)], "runs")
    if how == "it is released":
        ledger.fold([Transition(RELEASED, 3, 1)], "former")
        ledger.release(3)
    elif how == "it ends":
        ledger.end(3)
    elif how == "it is accepted":
        ledger.accept(3, 2)
    elif how == "void":
        ledger.void(3)
    else:
        ledger.forget_all_but(())
    assert (ledger.leases, ledger.displaced) == ({}, {})


def test_a_reservation_is_over_when_its_holder_gives_the_task_away_and_not_when_a_former_owner_does() -> None:
    """A run by a reservation may start when that is durable, so before its own begin is told."""
    given, taken = Ledger("q", Progress(0)), Ledger("q", Progress(0))
    given.fold([granted(3, Lease("owner", 0)), granted(3, Lease("guest", 0))], "owner")
    taken.fold([granted(3, Lease("owner", 0))], "owner")
    taken.fold([granted(3, Lease("guest", 0))], "former")
    for ledger in (given, taken):
        ledger.fold([Transition(STARTED, 3, 1), Transition(RELEASED, 3, 1)], "guest")
    assert (given.leases, given.displaced) == ({}, {})
    assert (taken.leases, taken.displaced) == ({3: Lease("owner", 0)}, {})


def test_a_lane_waits_on_for_the_run_of_a_later_record_when_an_earlier_one_ends_late() -> None:
    """The earlier one was deleted while it ran, and its lane has gone on without it."""
    ledger = Ledger("q", Progress(0))
    told(ledger, HELD, 5, 1, "a")
    told(ledger, HELD, 4, 1, "deleted")
    assert (ledger.holds, ledger.holders) == ({KEY: Run("t5", 1)}, {KEY: 5})
    told(ledger, FREED, 5, 1, "a")
    assert (ledger.holds, ledger.holders) == ({}, {})


def test_a_lane_waits_for_no_run_that_is_over_when_what_holds_it_comes_late() -> None:
    """Nor for the one before, whose record has ended with what comes late."""
    ledger = Ledger("q", Progress(0))
    told(ledger, HELD, 3, 1, "a")
    ledger.remember(sent_by(4), Memory(1.0))
    told(ledger, HELD, 4, 2, "a")
    assert (ledger.holds, ledger.holders) == ({}, {})


def test_what_was_purged_is_leased_no_more() -> None:
    ledger = Ledger("q", Progress(0))
    ledger.start(2, "a")
    ledger.progress.receive(5)  # the records before it are gone
    ledger.tidy()
    assert (ledger.leases, ledger.attempts) == ({}, {})


@pytest.mark.parametrize(
    "value",
    [
        None,
        b"",
        b"\xff",
        b"5",
        b"{}",
        b'{"queue": "q", "t": 5}',
        b'{"queue": "q", "t": [["s", 1, 1]]}',
        b'{"incarnation": "a", "queue": "q", "t": [5, ["s"], ["s", "x", 1]]}',
        b'{"queue": "q", "checkpoint": 7}',
        b'{"queue": "q", "checkpoint": {"progress": [1]}}',
        encode("a", "before", [Transition(ENDED, 0)]),
        json.dumps(
            {"queue": "q", "checkpoint": {"progress": [0, 0, 0, [], []], "leases": [[1]], "attempts": []}}
        ).encode(),
    ],
)
def test_what_is_not_understood_changes_nothing(value: bytes | None) -> None:
    ledger = Ledger("q", Progress(0))
    add_checkpoint(ledger, value)
    ledger.apply(value)
    assert ledger == Ledger("q", Progress(0))


# Several owners of one partition, over a simulated log

TASKS = 12

STEPS = [
    *(["begin"] * 80 + ["end"] * 80),
    *(["commit", "checkpoint", "crash", "move", "release", "park", "trim"] * 20),
    "weeks",
]


@dataclass
class Log:
    """A partition's journal from ``begin`` on, and its group's commit; a commit of an old generation is refused."""

    records: list[bytes] = field(default_factory=list)
    begin: int = 0
    committed: tuple[int, str] | None = None
    generation: int = 0


@dataclass
class Owner:
    """A worker. What it tells is in the log at once, or late, while it is paused."""

    incarnation: str
    log: Log
    generation: int = 0
    ledger: Ledger = field(default_factory=lambda: Ledger("q", Progress(0)))
    running: dict[int, int] = field(default_factory=dict)
    alive: bool = True

    def take_over(self) -> None:
        self.log.generation += 1
        self.generation = self.log.generation
        committed = self.log.committed
        progress = None if committed is None else Progress.restore(*committed, "q")
        entries = [JournalEntry(offset, value) for offset, value in enumerate(self.log.records)]
        begin = max(self.log.begin, 0 if progress is None else progress.folded)
        self.ledger, _ = restore("q", entries[begin:], progress)
        progress = self.ledger.progress
        for offset in range(progress.low, TASKS):
            self.ledger.progress.receive(offset)
        if committed is None:
            self.write_checkpoint()  # the next owner believes none before it

    @property
    def owns(self) -> bool:
        return self.generation == self.log.generation

    def tell(self, kind: str, offset: int, attempt: int = 0) -> None:
        self.log.records.append(encode(self.incarnation, "q", [Transition(kind, offset, attempt)]))

    def park(self, offset: int) -> None:
        self.ledger.park(KEY, [offset])
        self.log.records.append(encode(self.incarnation, "q", [parked(KEY, [offset])]))

    def commit(self) -> None:
        if self.owns:
            self.log.committed = self.ledger.commit()

    def check_in(self) -> None:
        """A checkpoint; a zombie writes one too, and its commit is refused."""
        self.write_checkpoint()
        self.commit()

    def write_checkpoint(self) -> None:
        self.log.records += checkpoints.encode_checkpoint(self.ledger, self.incarnation)
        self.ledger.progress.check_in(len(self.log.records) - 1, len(self.log.records) - 1)


def simulate(seed: int) -> None:
    """Owners begin, end, crash, lose the partition and come back. No finished task is begun; none is begun twice at once."""
    chance = random.Random(seed)
    log = Log()
    ended: set[int] = set()
    crashed: set[str] = set()
    owners: list[Owner] = []

    def owner() -> Owner:
        made = Owner(f"incarnation{len(owners)}", log)
        owners.append(made)
        made.take_over()
        return made

    current = owner()
    for _ in range(400):
        step = chance.choice(STEPS)
        living = [each for each in owners if each.alive]
        if step == "begin":
            ready = [
                offset
                for offset in range(TASKS)
                if not current.ledger.has_ended(offset)
                and offset not in current.running
                and (lease := current.ledger.leases.get(offset), True)
                and (lease is None or lease.incarnation in crashed or lease.incarnation == current.incarnation)
            ]
            if ready and len(current.running) < 3:
                offset = chance.choice(ready)
                assert offset not in ended, f"{offset} had ended"
                assert not any(offset in each.running for each in living), f"{offset} runs already"
                lease = current.ledger.start(offset, current.incarnation)
                current.running[offset] = lease.attempt
                current.tell(STARTED, offset, lease.attempt)
        elif step in ("end", "release"):
            runner = chance.choice(living)
            if runner.running:
                offset = chance.choice(list(runner.running))
                del runner.running[offset]
                runner.tell(ENDED if step == "end" else RELEASED, offset)
                if step == "end":
                    ended.add(offset)
                for each in living:  # the owner follows the leases of others
                    if each.owns or each is runner:
                        each.ledger.apply(log.records[-1])
        elif step == "trim" and log.committed is not None:
            log.begin = max(log.begin, chance.randint(0, Progress.restore(*log.committed).folded))
        elif step == "weeks":  # nobody is there, and Kafka forgets what was committed
            for each in living:
                each.alive = False
                each.running.clear()
                crashed.add(each.incarnation)
            log.committed = None
            current = owner()
        elif step == "park":
            if waiting := [each for each in range(TASKS) if not current.ledger.has_ended(each)]:
                current.park(chance.choice(waiting))
        elif step == "commit":
            chance.choice(living).commit()
        elif step == "checkpoint":
            chance.choice(living).check_in()
        elif step == "crash":
            victim = chance.choice(living)
            victim.alive = False
            victim.running.clear()
            crashed.add(victim.incarnation)
            if victim is current:
                current = owner()
        elif step == "move":
            others = [each for each in living if each is not current]
            current.commit()
            if others and chance.random() < 0.5:
                current = chance.choice(others)
                current.take_over()
            else:
                current = owner()
    for offset in range(TASKS):
        assert current.ledger.has_ended(offset) == (offset in ended)


def simulate_many(number: int) -> None:
    for seed in range(number):
        simulate(seed)


def test_no_task_is_begun_twice_whoever_owns_the_partition() -> None:
    simulate_many(150)  # the first seven find the bugs that are planted below


@pytest.mark.parametrize(
    "bug",
    [
        pytest.param(lambda: _patch(Ledger, "apply", _believe_any_checkpoint), id="a zombie's checkpoint is believed"),
        pytest.param(lambda: _patch(checkpoints, "encode_checkpoint", _forget_leases), id="no leases in it"),
        pytest.param(lambda: _patch(checkpoints, "encode_checkpoint", _forget_parked), id="nothing parked in it"),
        pytest.param(lambda: _patch(Ledger, "take_commit", _believe_the_commit), id="a commit says what has ended"),
        pytest.param(
            lambda: _patch(Ledger, "merge", _take_the_latest), id="the latest checkpoint replaces what is known"
        ),
        pytest.param(lambda: _patch(Ledger, "commit", _commit_the_position), id="the position is committed"),
    ],
)
def test_the_simulation_finds_planted_bugs(bug: object, monkeypatch: pytest.MonkeyPatch) -> None:
    target, name, replacement = bug()  # type: ignore[operator]
    monkeypatch.setattr(target, name, replacement)
    with pytest.raises(AssertionError):
        simulate_many(1500)


def _patch(target: object, name: str, replacement: object) -> tuple[object, str, object]:
    return target, name, replacement


_apply = Ledger.apply


def _believe_any_checkpoint(self: Ledger, value: bytes | None) -> object:
    found = json.loads(value or b"{}")
    if "checkpoint" in found:
        self.leases.clear()
    add_checkpoint(self, value)
    return _apply(self, value)


def _forget_leases(ledger: Ledger, incarnation: str) -> list[bytes]:
    return encode_checkpoint(Ledger(ledger.queue, ledger.progress), incarnation)


def _forget_parked(ledger: Ledger, incarnation: str) -> list[bytes]:
    return encode_checkpoint(
        Ledger(ledger.queue, ledger.progress, leases=ledger.leases, attempts=ledger.attempts), incarnation
    )


def _believe_the_commit(self: Ledger, progress: Progress) -> None:
    self.merge(progress, {})


def _take_the_latest(self: Ledger, progress: Progress, parked: dict[int, Lane]) -> None:
    self.progress, self.parked = progress, parked


def _commit_the_position(self: Ledger) -> tuple[int, str]:
    return self.progress.high, f"3 q {self.progress.checkpoint} 0 0"
