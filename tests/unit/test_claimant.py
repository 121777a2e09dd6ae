"""One node's part: what it claims and when, what it leaves to others, what it revives."""

from __future__ import annotations

from collections import Counter

import pytest

from kafka_exec.core.beat.claim import ClaimState, Do
from kafka_exec.core.beat.claimant import CLAIM_WAIT, WAIT_IN_NEW, Act, Claimant, Firing, Terms
from kafka_exec.core.beat.claimlog import ClaimLog, RecordKind, Signal


class Log:
    """A log that nodes write to at once and read to its end."""

    def __init__(self) -> None:
        self.records: list[Signal] = []

    def write(self, acts: list[Act]) -> list[Signal]:
        sent = [act.signal for act in acts if act.signal is not None]
        self.records += sent
        return sent


class Node:
    """A node that reads a log when it is told to."""

    def __init__(self, incarnation: str, log: Log, *entries: str, **terms: float) -> None:
        self.log = log
        self.position = 0
        self.acts: list[Act] = []
        self.claimant = Claimant(incarnation, incarnation, ClaimLog())
        self.claimant.want(dict.fromkeys(entries, Terms("h", **terms)), 0.0)

    def do(self, acts: list[Act]) -> list[Signal]:
        self.acts += acts
        return self.log.write(acts)

    def read(self, now: float) -> None:
        while self.position < len(self.log.records):
            signal, self.position = self.log.records[self.position], self.position + 1
            self.do(self.claimant.take(signal, self.position - 1, now, now))
        if not self.claimant.ready:
            self.do(self.claimant.begin(now))

    def turn(self, now: float) -> list[Signal]:
        self.read(now)
        return self.do(self.claimant.turn(now))


def settle(*nodes: Node, until: float, begin: float = 0.0) -> None:
    now = begin
    while now <= until:
        for node in nodes:
            node.turn(now)
        now += 0.01


def told(node: Node, *does: Do) -> list[tuple[Do, str]]:
    return [(act.do, act.entry) for act in node.acts if act.do in does]


def test_a_free_entry_is_claimed_within_the_claim_wait_however_seldom_it_is_due() -> None:
    node = Node("a", Log(), "yearly")
    settle(node, until=CLAIM_WAIT + 0.05)
    assert node.claimant.state("yearly") is ClaimState.CLAIMED_BY_NODE
    assert told(node, Do.ACQUIRED, Do.RELEASED) == [(Do.ACQUIRED, "yearly")]


def test_many_entries_are_spread_over_the_nodes() -> None:
    log = Log()
    nodes = [Node(incarnation, log, *(f"e{n}" for n in range(300))) for incarnation in "abc"]
    settle(*nodes, until=1.0)
    held = Counter({node.claimant.incarnation: len(node.claimant.held) for node in nodes})
    assert sum(held.values()) == 300
    assert max(held.values()) <= 2 * 100 <= 4 * min(held.values())


def test_who_joins_steals_nothing() -> None:
    log = Log()
    first = Node("a", log, "e")
    settle(first, until=1.0)
    second = Node("b", log, "e")
    settle(first, second, begin=1.0, until=4.0)
    assert (first.claimant.held, second.claimant.held) == (["e"], [])
    assert second.claimant.state("e") is ClaimState.CLAIMED_BY_OTHER


def test_what_a_node_does_not_want_it_knows_and_never_claims() -> None:
    log = Log()
    first, second = Node("a", log, "e"), Node("b", log)
    settle(first, second, until=1.0)
    assert second.claimant.log.standing("e").holder == "a"
    first.do(first.claimant.want({}, 1.0))
    settle(first, second, begin=1.0, until=4.0)
    assert second.claimant.log.standing("e").holder == ""
    assert [signal for signal in log.records if signal.node == "b"] == []


def test_what_is_released_is_anothers_at_once() -> None:
    log = Log()
    first = Node("a", log, "e")
    settle(first, until=1.0)
    second = Node("b", log, "e")
    second.read(1.0)
    first.do(first.claimant.want({}, 2.0))
    settle(first, second, begin=2.0, until=2.0 + CLAIM_WAIT + 0.1)
    assert second.claimant.held == ["e"]
    assert told(first, Do.ACQUIRED, Do.RELEASED) == [(Do.ACQUIRED, "e"), (Do.RELEASED, "e")]


def test_who_gives_an_entry_up_leaves_it_to_others_if_there_are_any() -> None:
    log = Log()
    first = Node("a", log, "e")
    settle(first, until=1.0)
    first.do(first.claimant.give_up("e", 1.0))
    settle(first, begin=1.0, until=4.0)
    assert first.claimant.held == ["e"], "there is no other"
    second = Node("b", log, "e")
    second.read(4.0)
    first.do(first.claimant.give_up("e", 4.0))
    settle(first, second, begin=4.0, until=6.0)
    assert second.claimant.held == ["e"]


def test_a_claim_is_repeated() -> None:
    log = Log()
    node = Node("a", log, "e", heartbeat=5.0)
    settle(node, until=12.0)
    assert [signal.kind for signal in log.records].count(RecordKind.HEARTBEAT) == 2


def test_each_entrys_waits_are_its_own() -> None:
    log = Log()
    node = Node("a", log)
    node.claimant.want({"often": Terms("h", heartbeat=2.0), "slow": Terms("h", heartbeat=50.0, claim_wait=30.0)}, 0.0)
    settle(node, until=0.6)
    assert node.claimant.held == ["often"]
    settle(node, begin=0.6, until=32.0)
    assert node.claimant.held == ["often", "slow"]
    repeated = Counter(signal.entry for signal in log.records if signal.kind is RecordKind.HEARTBEAT)
    assert repeated == {"often": 15}


def test_a_lost_holder_is_fenced_before_its_claim_is_released() -> None:
    log = Log()
    dead, node = Node("dead", log, "e"), Node("b", log, "e")
    settle(dead, until=1.0)
    node.read(1.0)
    gone = {"dead"}.__contains__
    assert node.claimant.to_fence(lambda incarnation: False, ["dead"], 1.0) == []
    node.claimant.to_fence(gone, ["dead"], 2.0)
    assert node.claimant.to_fence(gone, ["dead"], 3.0) == ["dead"]
    assert [signal for signal in log.records if signal.kind is RecordKind.UNCLAIMED] == []
    (released,) = node.do(node.claimant.fenced("dead", 3.0))
    assert (released.kind, released.node, released.epoch) == (RecordKind.UNCLAIMED, "b", 0)
    settle(node, begin=3.0, until=4.0)
    assert node.claimant.held == ["e"]


def test_an_entry_that_is_to_wait_longer_stays_a_lost_holders_until_then() -> None:
    log = Log()
    dead, node = Node("dead", log), Node("b", log)
    for each in (dead, node):
        each.claimant.want({"e": Terms("h"), "patient": Terms("h", takeover_wait=30.0)}, 0.0)
    settle(dead, until=1.0)
    node.read(1.0)
    now = 1.0
    while now < 40.0 and len(node.claimant.held) < 2:
        for incarnation in node.claimant.to_fence({"dead"}.__contains__, ["dead"], now):
            node.do(node.claimant.fenced(incarnation, now))
        settle(node, begin=now, until=now)
        assert node.claimant.holds("e") or now < 3.0
        assert not node.claimant.holds("patient") or now >= 31.0
        now += 0.1
    assert now < 33.0


def test_a_holder_that_is_heard_again_is_left_alone() -> None:
    log = Log()
    slow, node = Node("slow", log, "e"), Node("b", log, "e")
    settle(slow, until=1.0)
    node.read(1.0)
    node.claimant.to_fence(lambda incarnation: True, [], 2.0)
    assert node.claimant.to_fence(lambda incarnation: False, [], 2.1) == []
    assert node.claimant.to_fence(lambda incarnation: True, [], 9.0) == [], "the wait begins anew"


def test_an_incarnation_that_was_fenced_holds_nothing_and_is_not_waited_for() -> None:
    log = Log()
    node = Node("a", log, "e")
    settle(node, until=1.0)
    node.do(node.claimant.renew("a2", 2.0))
    assert node.claimant.held == []
    assert told(node, Do.RELEASED) == [(Do.RELEASED, "e")]
    assert node.claimant.to_fence(lambda incarnation: False, [], 2.0) == ["a"]
    node.do(node.claimant.fenced("a", 2.1))
    settle(node, begin=2.1, until=3.5)
    assert node.claimant.log.standing("e").holder == "a2"


def test_only_a_holder_fires() -> None:
    log = Log()
    holder, other = Node("a", log, "e"), Node("b", log, "e")
    settle(holder, until=1.0)
    other.read(1.0)
    firing = Firing(5.0, "run")
    assert [signal.kind for signal in holder.do(holder.claimant.fire("e", firing, 5.0))] == [RecordKind.HANDLING]
    assert other.do(other.claimant.fire("e", firing, 5.0)) == []


def test_where_the_logs_beginning_is_missing_holders_are_asked() -> None:
    log = Log()
    holder = Node("a", log, "e")
    settle(holder, until=1.0)
    late = Node("b", log, "e")
    late.position = len(log.records)
    late.claimant.log = ClaimLog(next=late.position, whole=False)
    late.read(1.0)
    assert log.records[-1].kind is RecordKind.DO_INFORMATION_SEND
    settle(holder, late, begin=1.0, until=2 * WAIT_IN_NEW + 1.0)
    assert (holder.claimant.held, late.claimant.held) == (["e"], [])
    assert late.claimant.log.standing("e").holder == "a"


@pytest.mark.parametrize("kind", [RecordKind.CLAIMED, RecordKind.HANDLING, RecordKind.HEARTBEAT])
def test_a_contradiction_is_over_in_a_moment(kind: RecordKind) -> None:
    log = Log()
    node = Node("a", log, "e")
    settle(node, until=1.0)
    log.records.append(Signal(kind, "liar", "liar", "e", 0, slot=1.0))
    settle(node, begin=1.0, until=3.0)
    assert node.claimant.conflicts == 1
    assert node.claimant.held == ["e"], "it has let go, and claimed anew"
    assert told(node, Do.ACQUIRED, Do.RELEASED) == [(Do.ACQUIRED, "e"), (Do.RELEASED, "e"), (Do.ACQUIRED, "e")]


# -- runs of the node's own --------------------------------------------------------------------------------------------


def running() -> tuple[Log, Node]:
    """A node that runs an entry itself."""
    log = Log()
    node = Node("a", log, "e")
    settle(node, until=1.0)
    node.do(node.claimant.fire("e", Firing(5.0, "run"), 5.0, held=True))
    node.read(5.0)
    return log, node


def test_all_see_that_a_node_runs_an_entry_and_when_it_has_ended() -> None:
    log, node = running()
    other = Node("b", log, "e")
    other.read(5.0)
    assert (node.claimant.state("e"), other.claimant.state("e")) == (
        ClaimState.HANDLING_BY_NODE,
        ClaimState.HANDLING_BY_OTHER,
    )
    assert other.claimant.log.standing("e").handling
    node.do(node.claimant.ended("e", 7.0))
    settle(node, other, begin=7.0, until=7.1)
    assert (node.claimant.state("e"), other.claimant.state("e")) == (
        ClaimState.CLAIMED_BY_NODE,
        ClaimState.CLAIMED_BY_OTHER,
    )
    assert other.claimant.log.standing("e").ended == 7.0


def test_no_second_run_begins_before_the_first_has_ended() -> None:
    log, node = running()
    before = len(log.records)
    assert node.do(node.claimant.fire("e", Firing(6.0, "next"), 6.0, held=True)) == []
    assert len(log.records) == before


@pytest.mark.parametrize("how", ["fenced", "given up", "not wanted"])
def test_a_run_is_stopped_before_its_claim_is_let_go(how: str) -> None:
    _, node = running()
    node.acts.clear()
    acts = {
        "fenced": lambda: node.claimant.renew("a2", 6.0),
        "given up": lambda: node.claimant.give_up("e", 6.0),
        "not wanted": lambda: node.claimant.want({}, 6.0),
    }
    sent = node.do(acts[how]())
    assert told(node, Do.STOP_RUN, Do.RELEASED) == [(Do.STOP_RUN, "e"), (Do.RELEASED, "e")]
    assert [signal.kind for signal in sent] == ([] if how == "fenced" else [RecordKind.UNCLAIMED])


def test_what_a_lost_node_ran_has_ended_when_it_is_released() -> None:
    log, _ = running()
    other = Node("b", log, "e")
    other.read(9.0)
    other.do(other.claimant.fenced("a", 9.0))
    other.read(9.0)
    standing = other.claimant.log.standing("e")
    assert (standing.handling, standing.ended, standing.holder) == (False, 9.0, "")
