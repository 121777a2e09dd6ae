"""The reason why a task does not run, decided from all that the topics tell of it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, NamedTuple

from kafka_exec.core.control.waiting import Suspension
from kafka_exec.core.message.dead import Letter
from kafka_exec.core.nodes.heartbeat import NodeState, Seen
from kafka_exec.core.overview.standing import MessageStanding
from kafka_exec.core.queue.pausing import NO_PAUSES, QueuePauses
from kafka_exec.core.results.lifecycle import TERMINAL, State
from kafka_exec.core.results.state_record import StateRecord


class Reason(Enum):
    """The reasons why a task does not run, or that it does."""

    UNKNOWN = "unknown"
    #: It has a state and has not ended, and its message was not found.
    NOT_FOUND = "not found"
    WAITS_FOR_TIME = "waits for its time"
    BEHIND = "behind others of its key"
    #: An earlier message of the same task has not ended.
    BEHIND_ITSELF = "behind its own message"
    #: Its queue or its ordering key is.
    PAUSED = "paused"
    NOBODY_KNOWS = "nobody knows it"
    NO_WORKER = "no worker reads its queue"
    NO_SLOT = "no free slot"
    #: Nothing keeps it from running: a worker is about to take it.
    NEXT = "about to begin"
    RUNNING = "running"
    #: The worker that ran it is gone, and no other one has taken it yet.
    LOST = "its worker is lost"
    REVOKED = "revoked"
    DEAD = "dead letter"
    SUSPENDED = "suspended"
    ENDED = "ended"


class DelayedMessage(NamedTuple):
    """A message that waits in Kafka for its time.

    Attributes:
        level: the level on which it waits now.
        due: its time, epoch seconds.
        is_retry: the task was begun before.
    """

    queue: str
    level: int
    due: float
    is_retry: bool = False


class Buried(NamedTuple):
    """A dead letter of a queue."""

    queue: str
    letter: Letter


class Searched(NamedTuple):
    """The places that were searched.

    Attributes:
        queues: the number of queues.
        results: the states of tasks were searched too.
        kept: dead letters are kept for so many seconds.
        most: so many messages of each topic were read at most.
        is_cut: there are more of them.
    """

    prefix: str
    queues: int
    results: bool
    kept: float
    most: int
    is_cut: bool = False


@dataclass(frozen=True)
class Evidence:
    """The facts of a task in all topics.

    Attributes:
        now: when they were read, epoch seconds.
        state: None: it has none, or the results are elsewhere.
        standings: of its unfinished messages in queues.
        before: the number of other messages of the queue that may begin before its own.
        letter: its latest dead letter that was not replayed.
        revoked: when it was revoked, epoch seconds.
        nodes: the nodes that live or were heard lately.
        pauses: those of the queue in which it stands.
        knower: the last node, of those that do not live, that knew the task.
        head: the facts of the task that it waits for.
    """

    id: str
    now: float
    searched: Searched
    state: StateRecord | None = None
    standings: tuple[MessageStanding, ...] = ()
    before: int = 0
    delay: DelayedMessage | None = None
    suspension: Suspension | None = None
    letter: Buried | None = None
    revoked: float | None = None
    nodes: tuple[tuple[Seen, NodeState], ...] = ()
    pauses: QueuePauses = NO_PAUSES
    knower: Seen | None = None
    head: Evidence | None = None

    @property
    def standing(self) -> MessageStanding | None:
        """The standing of the message that comes first: one that runs, else one that may begin."""
        return min(self.standings, key=lambda each: (not each.incarnation, each.is_blocked), default=None)

    @property
    def living(self) -> list[Seen]:
        """The nodes that live."""
        return [seen for seen, state in self.nodes if state is NodeState.ALIVE]


@dataclass(frozen=True)
class Answer:
    """The reason, and the facts that belong to it, with times in epoch seconds. ``head``: of the task that it waits for."""

    id: str
    reason: Reason
    facts: Mapping[str, Any] = field(default_factory=dict)
    head: Answer | None = None

    def as_json(self) -> dict[str, Any]:
        """The answer as a JSON object."""
        facts = {name: value for name, value in self.facts.items() if value is not None}
        head = {} if self.head is None else {"head": self.head.as_json()}
        return {"id": self.id, "reason": self.reason.value, **facts, **head}


def decide(found: Evidence) -> Answer:
    """The reason why a task does not run."""
    reason, facts = _decide(found)
    head = decide(found.head) if reason is Reason.BEHIND and found.head is not None else None
    return Answer(found.id, reason, facts, head)


def _decide(found: Evidence) -> tuple[Reason, dict[str, Any]]:
    state, standing = found.state, found.standing
    if state is not None and standing is not None and state.ends_run_of(standing.place, also_failed=True):
        standing = None  # its end is stored, and the journal is about to tell it
    if standing is not None and standing.incarnation:
        return _of_run(found, standing)
    if found.delay is not None and (standing is None or standing.is_blocked):
        return _unless_revoked(found, Reason.WAITS_FOR_TIME, found.delay._asdict())
    if standing is not None:
        return _unless_revoked(found, *_of_standing(found, standing))
    if state is not None and state.state is State.DONE:
        return _of_end(state)
    if (waits := found.suspension) is not None:
        facts = {"correlation_id": waits.correlation_id, "got": waits.got, "expected": waits.expected}
        return Reason.SUSPENDED, {**facts, "deadline": waits.deadline}
    if (buried := found.letter) is not None:
        letter = buried.letter
        facts = {"queue": buried.queue, "letter": str(letter.address), "why": letter.reason, "error": letter.error}
        return Reason.DEAD, {**facts, "at": letter.at, "obstacle": letter.obstacle}
    if state is not None and state.state in TERMINAL:
        return _of_end(state)
    if found.revoked is not None:
        return Reason.REVOKED, {"at": found.revoked}
    where = found.searched._asdict()
    return (Reason.UNKNOWN, where) if state is None else _of_state(state, where)


def _unless_revoked(found: Evidence, reason: Reason, facts: dict[str, Any]) -> tuple[Reason, dict[str, Any]]:
    if found.revoked is None:
        return reason, facts
    return Reason.REVOKED, {"at": found.revoked, "queue": facts.get("queue"), "ends": True}


def _of_run(found: Evidence, standing: MessageStanding) -> tuple[Reason, dict[str, Any]]:
    state = found.state
    is_of_it = state is not None and (state.topic, state.partition, state.offset) == standing.place
    since, worker = (state.started, state.worker) if state is not None and is_of_it else (None, None)
    seen, node_state = next(
        ((seen, each) for seen, each in found.nodes if seen.beat.incarnation == standing.incarnation), (None, None)
    )
    facts = {"queue": standing.queue, "node": worker if seen is None else seen.name, "since": since}
    if node_state is NodeState.ALIVE:
        return Reason.RUNNING, facts
    readers = len(readers_of(found.living, standing.queue))
    return Reason.LOST, {**facts, "heard": None if seen is None else seen.at, "workers": readers}


def _of_standing(found: Evidence, standing: MessageStanding) -> tuple[Reason, dict[str, Any]]:
    """The reason of a message that waits in its queue."""
    facts: dict[str, Any] = {"queue": standing.queue}
    if standing.is_blocked and not standing.key:
        return Reason.BEHIND_ITSELF, facts
    if standing.is_blocked:
        stopped = {"stopped": True, "error": _error_of(found.head)} if standing.is_stopped else {}
        return Reason.BEHIND, {**facts, "key": standing.key, "ahead": standing.ahead, **stopped}
    if (pause := found.pauses.of(standing.key or None, found.now)) is not None:
        key = None if pause is found.pauses.whole else standing.key
        return Reason.PAUSED, {
            **facts,
            "key": key,
            "by": pause.by,
            "since": pause.at,
            "why": pause.reason,
            "until": pause.until,
        }
    readers = readers_of(found.living, standing.queue)
    if not readers:
        return Reason.NO_WORKER, facts
    if not any(may_know(each, standing.needed) for each in readers):
        last = found.knower
        who = {} if last is None else {"node": last.name, "heard": last.at}
        return Reason.NOBODY_KNOWS, {**facts, "task": standing.needed, **who}
    if standing.due is not None and standing.due > found.now:
        return Reason.WAITS_FOR_TIME, {**facts, "due": standing.due}
    slots = {"slots": sum(each.beat.slots for each in readers), "before": found.before}
    if sum(each.beat.active for each in readers) >= slots["slots"]:
        return Reason.NO_SLOT, {**facts, **slots}
    return Reason.NEXT, {**facts, **slots}


def _of_end(state: StateRecord) -> tuple[Reason, dict[str, Any]]:
    if state.state is State.REVOKED:
        return Reason.REVOKED, {"at": state.finished}
    return Reason.ENDED, {
        "state": state.state.value,
        "at": state.finished,
        "node": state.worker,
        "error": _raised(state),
    }


def _of_state(state: StateRecord, where: dict[str, Any]) -> tuple[Reason, dict[str, Any]]:
    """The reason by a state that is not the end, of a task whose message was not found."""
    if state.state is State.SUSPENDED:
        return Reason.SUSPENDED, {}
    if state.state in (State.SCHEDULED, State.DELAYED) and state.due is not None:
        return Reason.WAITS_FOR_TIME, {"queue": state.queue, "due": state.due}
    if state.state is State.GROUP and state.position is not None:
        return Reason.BEHIND, {"queue": state.queue, "key": state.ordering_key, "ahead": state.position}
    return Reason.NOT_FOUND, {"state": state.state.value, "queue": state.queue, **where}


def _error_of(head: Evidence | None) -> str | None:
    if head is None:
        return None
    if head.letter is not None:
        return head.letter.letter.error
    return None if head.state is None else _raised(head.state)


def _raised(state: StateRecord) -> str | None:
    if state.errors:
        return f"{state.errors[-1].type}: {state.errors[-1].message}"
    return None if state.exception is None else f"{state.exception.type}: {state.exception.message}"


def readers_of(living: Iterable[Seen], queue: str) -> list[Seen]:
    """The nodes among these that read a queue."""
    return [each for each in living if queue in each.beat.queues]


def may_know(seen: Seen, needed: str) -> bool:
    """True if a node can run a task, or if that is not known. Every worker knows Celery's own tasks."""
    return not needed or needed.startswith("celery.") or seen.beat.tasks is None or needed in seen.beat.tasks


def lacks_knower(found: Evidence) -> bool:
    """True if workers read the queue of a waiting task, and none of them knows it."""
    return _decide(found)[0] is Reason.NOBODY_KNOWS


def last_knower(heard: Iterable[Seen], needed: str) -> Seen | None:
    """The last heartbeat of a node that could run a task. Heartbeats come in their order; not all have the task names."""
    knows: dict[str, bool] = {}
    last = None
    for seen in heard:
        if seen.beat.tasks is not None:
            knows[seen.beat.incarnation] = needed in seen.beat.tasks
        if knows.get(seen.beat.incarnation):
            last = seen
    return last
