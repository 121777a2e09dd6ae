"""Suspensions over a log whose driver is killed between any two records: the effects are those of one that never is."""

from __future__ import annotations

from random import Random
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from kafka_exec.core.control.reducers import TICK, Change, Command, Output, Reducers
from kafka_exec.core.control.wait_effects import Continue, Refuse
from kafka_exec.core.control.waiting import WaitingReducer
from tests.unit.waiting_plane import EARLY, REMEMBERED, ask, call, suspend

#: A record of the commands: its time, and the command.
Told = tuple[float, Command]


class Driver:
    """The driver of one partition. One transaction writes the changes, the effects and the position of a batch."""

    def __init__(self, commands: list[Told]) -> None:
        self.commands = commands
        self.changelog: list[Change] = []
        self.effects: list[Any] = []
        self.committed = 0
        self.begin(self.changelog)

    def begin(self, changelog: list[Change]) -> None:
        """A new owner, which knows only the changelog and the position."""
        self.reducers = Reducers({"wait": lambda: WaitingReducer(early=EARLY, remembered=REMEMBERED)})
        for change in changelog:
            self.reducers.restore(change.key, change.value)
        self.position = self.committed
        self.outputs: list[Output] = []

    def take(self) -> None:
        now, command = self.commands[self.position]
        self.outputs += self.reducers.due(now)
        self.outputs += self.reducers.take(command, now)
        self.position += 1

    def commit(self) -> None:
        changes = [each for each in self.outputs if isinstance(each, Change)]
        last = {change.key: place for place, change in enumerate(changes)}
        self.changelog += [change for place, change in enumerate(changes) if last[change.key] == place]
        self.effects += [each for each in self.outputs if not isinstance(each, Change)]
        self.committed, self.outputs = self.position, []

    def take_all(self) -> None:
        while self.position < len(self.commands):
            self.take()
        self.commit()


def compacted(changelog: list[Change], chance: Random) -> list[Change]:
    """What compaction may have left: the last record of each key, any others, and not all keys that were removed."""
    last = {change.key: place for place, change in enumerate(changelog)}
    gone = {key for key, place in last.items() if changelog[place].value is None and chance.random() < 0.5}
    share = chance.random()
    return [
        change
        for place, change in enumerate(changelog)
        if change.key not in gone and (place == last[change.key] or chance.random() < share)
    ]


def what_is_left(changelog: list[Change]) -> dict[str, bytes]:
    left = {change.key: change.value for change in changelog}
    return {key: value for key, value in left.items() if value is not None}


COMMANDS = st.one_of(
    st.builds(
        suspend,
        st.sampled_from("tu"),
        st.integers(0, 2),
        st.integers(0, 3) | st.lists(st.sampled_from("abc"), min_size=1, max_size=3),
        id=st.sampled_from("xy"),
        created=st.sampled_from([1.0, 2.0]),
        deadline=st.integers(0, 1000).map(float),
    ),
    st.builds(call, st.sampled_from("abcd"), st.sampled_from(["r", None]), st.sampled_from("xy")),
    st.builds(call, st.sampled_from("abcd"), st.sampled_from(["r", None]), st.sampled_from("xy")),
    st.builds(ask, st.integers(0, 30).map("r{}".format)),
    st.just(Command(TICK, {})),
)
PAUSES = st.sampled_from([0.0, 0.0, 0.0, 10.0, 70.0, 700.0])
FATES = st.sampled_from(["take", "take", "take", "commit", "killed", "killed, and the changelog is compacted"])


def with_times(told: list[tuple[float, Command]]) -> list[Told]:
    """Commands at growing times. Behind them only the time goes on, until all is forgotten."""
    now, commands = 0.0, list[Told]()
    for place, (pause, command) in enumerate(told):
        now += pause
        own = {"reply": f"r{place}"} if command.body.get("reply") and command.kind != "wait.ask" else {}
        own = {"page": [0, place]} if "page" in command.body else own
        commands.append((now, Command(command.kind, {**command.body, **own})))
    return [*commands, (now + 2000.0, Command(TICK, {})), (now + 4000.0, Command(TICK, {}))]


@given(st.lists(st.tuples(PAUSES, COMMANDS), max_size=30), st.lists(FATES, max_size=60), st.integers(0, 2**32))
def test_a_driver_that_is_killed_has_the_effects_of_one_that_is_not(
    told: list[tuple[float, Command]], fates: list[str], seed: int
) -> None:
    commands, chance = with_times(told), Random(seed)
    calm, killed = Driver(commands), Driver(commands)
    calm.take_all()
    for fate in fates:
        if fate == "take" and killed.position < len(commands):
            killed.take()
        elif fate == "commit":
            killed.commit()
        elif fate == "killed":
            killed.begin(killed.changelog)
        elif fate != "take":
            killed.begin(compacted(killed.changelog, chance))
    killed.take_all()
    assert killed.effects == calm.effects
    ends = [each.page for each in killed.effects if isinstance(each, (Continue, Refuse))]
    assert len(ends) == len(set(ends)), "each telling of a suspension has at most one end"
    assert what_is_left(killed.changelog) == what_is_left(calm.changelog) == {}
    assert killed.reducers.next_timer is None


def test_an_item_may_come_before_its_head() -> None:
    """So it is after a compaction: a head that is written anew moves behind the callbacks."""
    driver = Driver([(0.0, call("a")), (1.0, suspend(expected=["a", "b"])), (2.0, call("b"))])
    for _ in range(2):
        driver.take()
        driver.commit()
    keys = [change.key for change in driver.changelog]
    last = [change for place, change in enumerate(driver.changelog) if change.key not in keys[place + 1 :]]
    for changelog in (last, last[::-1]):
        driver.begin(changelog)
        driver.take()
        (end,) = [each for each in driver.outputs if isinstance(each, Continue)]
        assert end.answers == {"a": "data of a", "b": "data of b"}
