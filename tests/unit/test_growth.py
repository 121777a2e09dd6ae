"""No place without an end: whatever a worker notes about tasks and other nodes is gone when all of them have ended."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from kafka_exec.core.message.envelope import Message, encode
from kafka_exec.core.nodes import liveness
from kafka_exec.core.nodes.heartbeat import LOST_AFTER, Heartbeat
from kafka_exec.core.queue.partition.begins import Begun
from kafka_exec.core.worker.sharing import Grant
from kafka_exec.errors import ConnectionFailed, KafkaExecError
from kafka_exec.transport.deliveries import Deliveries
from kafka_exec.transport.sources import Item, WorkQueue
from kafka_exec.worker import sharing
from kafka_exec.worker.sharing import Sharing
from kafka_exec.worker.starting import Starter
from tests.unit.beats import Beats

TASKS = 40


def kept(found: object, *, but: tuple[str, ...] = ()) -> dict[str, Any]:
    """The containers of an object that hold something."""
    containers = {name: each for name, each in vars(found).items() if isinstance(each, (dict, list, set, deque))}
    return {name: each for name, each in containers.items() if each and name not in but}


class Read:
    """A task's record, with which offset it was read."""

    def __init__(self, offset: int) -> None:
        message = Message(b"[[], {}, {}]", "application/json", "utf-8", {"task": "t", "id": f"t{offset}"}, {})
        self.offset = lambda: offset
        self.partition = lambda: 0
        self.topic = lambda: "q"
        self.headers = lambda: encode(message)
        self.value = lambda: message.body
        self.timestamp = lambda: (1, 0)


class Queue(WorkQueue):
    """A work queue whose partition is this worker's, whatever happens."""

    def __init__(self) -> None:
        self.name, self.ttl = "q", None
        self.may_begin = self.can_bury = True
        self.paused: set[int] = set()
        owned = SimpleNamespace(
            alive=True,
            attempts=lambda offset: 0,
            begin=lambda offset, term: self.may_begin,
            may_run=lambda offset, term: True,
            confirm=lambda offset, term, timeout, surely: Begun(),
        )
        self.items = deque(Item(Read(offset), owned, 0, False) for offset in range(TASKS))  # type: ignore[arg-type]
        self.ended: list[int] = []
        self.returned: list[Item] = []
        self.buried: list[tuple[str, str]] = []

    def take(self) -> Item | None:
        return self.items.popleft() if self.items else None

    def end(self, item: Item) -> None:
        self.ended.append(item.record.offset())

    def put_back(self, item: Item) -> None:
        self.returned.append(item)

    def is_paused(self, record: Any) -> bool:
        return record.offset() in self.paused

    def bury(self, item: Item, reason: str, error: str) -> None:
        if not self.can_bury:
            raise ConnectionFailed
        self.buried.append((reason, error))

    def give(self, item: Item, incarnation: str) -> Grant | None:
        return Grant(incarnation, "q", 0, item.record.offset(), 0, "id", 0)


def delivered(queue: Queue) -> tuple[Deliveries, list[Any]]:
    """All messages of a queue, delivered to a worker."""
    channel = SimpleNamespace()
    found = channel.deliveries = Deliveries(channel, lambda: None, lambda message, error: False)  # type: ignore[arg-type]
    found.deferred = True
    messages: list[Any] = []
    found.add("c", queue, False, messages.append)
    assert found.deliver() == TASKS
    return found, messages


def begin_in_vain(found: Deliveries, tag: int) -> None:
    found._unacked[tag].source.may_begin = False  # type: ignore[attr-defined]
    assert not found.begin(tag)


ENDS: dict[str, Callable[[Deliveries, int], object]] = {
    "acknowledged": lambda found, tag: found.acknowledge(tag),
    "acknowledged, with all before it": lambda found, tag: found.acknowledge(tag, multiple=True),
    "rejected": lambda found, tag: found.reject(tag, requeue=False),
    "delivered again": lambda found, tag: found.reject(tag, requeue=True),
    "buried": lambda found, tag: found.bury(tag, "max-deliveries", "too many"),
    "taken back": lambda found, tag: found.withdraw(tag),
    "begun elsewhere": begin_in_vain,
    "put back, with all others": lambda found, tag: found.put_back(),
}


@pytest.mark.parametrize("end", ENDS.values(), ids=ENDS.keys())
def test_deliveries_keep_nothing_of_a_message_that_has_ended(end: Callable[[Deliveries, int], object]) -> None:
    found, messages = delivered(Queue())
    for message in messages:
        found.because(message.delivery_tag, "an error", "a-reason")
    for message in messages:
        if message.delivery_tag in found._unacked:
            end(found, message.delivery_tag)
        found.because(message.delivery_tag, "an error that comes late")
    assert not kept(found, but=("_consumers",))


def test_the_reason_of_a_dead_letter_stays_until_it_is_written() -> None:
    queue = Queue()
    found, messages = delivered(queue)
    tags = [message.delivery_tag for message in messages]
    for tag in tags:
        found.because(tag, "an error", "a-reason")
    queue.can_bury = False
    with pytest.raises(KafkaExecError):
        found.reject(tags[0], requeue=False)
    queue.can_bury = True
    found.reject(tags[0], requeue=False)
    found.reject(tags[1], requeue=True)
    found.acknowledge(tags[-1], multiple=True)
    assert queue.buried == [("a-reason", "an error")]
    assert [each.error for each in queue.returned] == ["an error"]


@pytest.mark.parametrize("end", ENDS.values(), ids=ENDS.keys())
def test_a_starter_keeps_nothing_of_a_task_that_has_ended(
    end: Callable[[Deliveries, int], object], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("kafka_exec.worker.starting.task_ready", lambda request: None)
    pool = SimpleNamespace(num_processes=4, is_green=False)
    started: list[Any] = []
    starter = Starter(pool, started.append, lambda message, error: False)
    found, messages = delivered(Queue())
    starter.attach(found)
    settings = SimpleNamespace(max_deliveries=5)
    for message in messages:
        message.channel.connection = SimpleNamespace(space=SimpleNamespace(settings=settings), log_offset=None)
        starter(SimpleNamespace(id="t", message=message, request_dict={}, task=SimpleNamespace(durable=False)))
    assert len(started) == 4
    while found._unacked:
        end(found, min(found._unacked))
    assert not kept(starter._gate)
    assert not kept(found, but=("_consumers",))


def test_a_task_that_is_paused_when_its_turn_comes_goes_back_and_keeps_no_slot(monkeypatch: pytest.MonkeyPatch) -> None:
    done: list[Any] = []
    monkeypatch.setattr("kafka_exec.worker.starting.task_ready", done.append)
    started: list[Any] = []
    queue = Queue()
    found, messages = delivered(queue)
    starter = Starter(SimpleNamespace(num_processes=1, is_green=False), started.append, lambda message, error: False)
    starter.attach(found)
    settings = SimpleNamespace(max_deliveries=5)
    first, *rest = (
        SimpleNamespace(id="t", message=message, request_dict={}, task=SimpleNamespace(durable=False))
        for message in messages
    )
    first.message.channel.connection = SimpleNamespace(space=SimpleNamespace(settings=settings), log_offset=None)
    for request in (first, *rest):
        starter(request)
    assert started == [first]
    queue.paused = set(range(TASKS - 1))
    found.acknowledge(first.message.delivery_tag)
    assert started == [first, rest[-1]]
    assert [item.record.offset() for item in queue.returned] == list(range(1, TASKS - 1))
    assert done == rest[:-1]
    assert list(found._unacked) == [rest[-1].message.delivery_tag]


@pytest.mark.parametrize("stops", [True, False])
def test_what_a_pool_refuses_is_a_fault_of_the_task_unless_the_worker_stops(
    stops: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("kafka_exec.worker.starting.task_ready", lambda request: None)
    faults: list[Any] = []

    def refuse(request: Any) -> None:
        if stops:  # at this moment
            starter.stop()
        raise RuntimeError("cannot schedule new futures after shutdown")

    def bury(message: Any, error: Exception) -> bool:
        faults.append(error)
        found.bury(message.delivery_tag, "bad-task", str(error))
        return True

    starter = Starter(SimpleNamespace(num_processes=1, is_green=False), refuse, bury)
    found, messages = delivered(Queue())
    starter.attach(found)
    message = messages[0]
    settings = SimpleNamespace(max_deliveries=5)
    message.channel.connection = SimpleNamespace(space=SimpleNamespace(settings=settings), log_offset=None)
    starter(SimpleNamespace(id="t", message=message, request_dict={}, task=SimpleNamespace(durable=False)))
    assert bool(faults) is not stops
    assert (message.delivery_tag in found._unacked) is stops, "it has not ended: another worker begins it"
    assert not kept(starter._gate)


def test_a_task_that_no_worker_knows_is_kept_until_one_does(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sharing.waiting, "tell", lambda *args, **more: None)
    queue = Queue()
    found, messages = delivered(queue)
    knower = Heartbeat("other", "there", 1, queues=("q",), tasks=("t",))
    peers: list[Heartbeat] = []
    granted: list[Grant] = []
    node: Any = SimpleNamespace(peers=lambda: peers, log_time=lambda: 1.0, grant=granted.extend)
    settings = SimpleNamespace(wrong_node_timeout=60.0, work_sharing=True)
    connection: Any = SimpleNamespace(space=SimpleNamespace(settings=settings))
    starter: Any = SimpleNamespace(is_full=False)
    tested = Sharing(None, starter, node, connection)
    for message in messages:
        message.headers["task"] = "t"
        assert tested.add_misfit(message)
    assert not kept(found, but=("_consumers",))
    tested.turn()
    assert len(tested._misfits) == TASKS
    peers.append(knower)
    queue.paused = {7}
    tested.turn()
    assert len(granted) == TASKS - 1
    assert [item.record.offset() for item in queue.returned] == [7]
    assert not kept(tested)


def test_a_node_keeps_nothing_of_others_that_are_gone_nor_of_their_tasks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(liveness, "_ASKED_WITHIN", -1.0)  # what is heard next comes later than that
    beats = Beats()
    node = beats.node
    me = Heartbeat(node.incarnation, "here", 1)
    beats.hear("me@here", me, 100.0)
    for number in range(TASKS):
        name = "me@here" if number % 2 else f"other{number}@here"
        beat = Heartbeat(f"i{number}", "there", 1)
        beats.hear(name, beat, 100.0)
        node.grant([Grant(f"i{number}", "q", 0, number, 0, "id", 0)])
        assert not node.runs_no_more(f"i{number}", ("q", 1, number))
        if number % 3 == 0:
            beats.hear(name, Heartbeat(f"i{number}", "there", 1, left=True), 100.0)
    for at in range(1, 20 * LOST_AFTER + 2):
        beats.hear("me@here", me, 100.0 + at)
    assert not kept(node._watched)
    assert not kept(node._liveness)
    beats.hear("me@here", Heartbeat("i", "there", 1), 200.0)
    assert list(node._namesakes) == ["i"]
    assert not kept(node, but=("_namesakes",))
