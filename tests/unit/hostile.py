"""Real records of all logs, and such as nobody would write: real ones with something else in one place."""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import cache
from random import Random
from typing import Any

from hypothesis import strategies as st

from kafka_exec.core.beat.claimlog import ClaimLog, RecordKind, Signal
from kafka_exec.core.control.reducers import Command
from kafka_exec.core.durable.history import STEP, SUSPENSION, Entry, Page
from kafka_exec.core.nodes.heartbeat import Heartbeat
from kafka_exec.core.queue.checkpoints import encode_checkpoint
from kafka_exec.core.queue.lanes import Lane, Run
from kafka_exec.core.queue.ledger import Ledger
from kafka_exec.core.queue.progress import Progress
from kafka_exec.core.queue.transitions import (
    ENDED,
    STARTED,
    Lease,
    Memory,
    Transition,
    encode,
    freed,
    granted,
    held,
    parked,
    remembered,
)
from kafka_exec.core.results.state_record import Note, Remark, TaskError

#: Values that are no JSON, or none that a reader expects. As texts, since Python's JSON writes some of them not at all.
NASTY: list[bytes] = [
    b"null",
    b"true",
    b'""',
    b'"x"',
    b"[]",
    b"{}",
    b"0",
    b"-1",
    b"1.5",
    b"1e999",
    b"-1e999",
    b"NaN",
    b"Infinity",
    b"9223372036854775807",
    b"9223372036854775808",
    b"-9223372036854775809",
    b"1" * 400,
    b"9" * 4300,
    b"9" * 5000,
    b"[" * 5000,
    b"[" * 500 + b"]" * 500,
    b'{"a":' * 3000,
    b'"\\udcff"',
    b'"\\u0000"',
    b'"\xff\xfe"',
    b"[[[1]]]",
    b'{"__type__":"uuid","__value__":5}',
    b'{"__type__":"x","__value__":null}',
    b'["a",1,null,[],{}]',
    b"",
    b"\x00\xff",
    b'"' + b"x" * 1_000 + b'"',
    '"\u0663"'.encode(),
    b'"1_000"',
    b'" 5 "',
    b"1700000000000000000000.5",
]


def _places(value: Any, at: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """All places in a JSON value."""
    yield at
    if isinstance(value, dict):
        for key, each in value.items():
            yield from _places(each, (*at, key))
    elif isinstance(value, list):
        for number, each in enumerate(value):
            yield from _places(each, (*at, number))


_MARK = "\u241f here"


def _with(value: Any, at: tuple[Any, ...], *nasty: bytes) -> list[bytes]:
    """The JSON text of a value, with each of some texts in one of its places."""
    if not at:
        return [*nasty]
    copy = json.loads(json.dumps(value))
    target = copy
    for step in at[:-1]:
        target = target[step]
    target[at[-1]] = _MARK
    before, after = json.dumps(copy).encode().split(json.dumps(_MARK).encode())
    return [before + each + after for each in nasty]


def _without(value: Any, at: tuple[Any, ...]) -> bytes:
    copy = json.loads(json.dumps(value))
    target = copy
    for step in at[:-1]:
        target = target[step]
    del target[at[-1]]
    return json.dumps(copy).encode()


def mutations(record: bytes, rng: Random) -> Iterator[bytes | None]:
    """A record with everything in every one of its places; with parts missing, cut, and with bits turned over."""
    yield from (None, b"", record + b"x", b"\xef\xbb\xbf" + record, record.decode().encode("utf-16"))
    yield from NASTY
    try:
        value = json.loads(record)
    except ValueError:
        value = None
    for at in _places(value) if value is not None else ():
        yield from _with(value, at, *NASTY)
        if at:
            yield _without(value, at)
    for _ in range(50):
        yield record[: rng.randrange(len(record) + 1)]
        turned = bytearray(record)
        turned[rng.randrange(len(turned))] ^= 1 << rng.randrange(8)
        yield bytes(turned)


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(), max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)


@cache
def mutated(record: bytes) -> st.SearchStrategy[bytes | None]:
    """The same, drawn: with anything in some of its places."""
    try:
        value = json.loads(record)
    except ValueError:
        return st.binary() | st.sampled_from(NASTY)
    places = [at for at in _places(value) if at]
    anything = st.sampled_from(NASTY) | _JSON.map(lambda each: json.dumps(each).encode())

    @st.composite
    def draw(draw: st.DrawFn) -> bytes:
        if not places:
            return draw(anything)
        [text] = _with(value, draw(st.sampled_from(places)), draw(anything))
        try:
            again = json.loads(text)
        except (ValueError, RecursionError):
            return text
        more = [at for at in _places(again) if at]
        return _with(again, draw(st.sampled_from(more)), draw(anything))[0] if more and draw(st.booleans()) else text

    return draw() | st.binary(max_size=50) | st.none() | anything


# -- real ones ---------------------------------------------------------------------------------------------------------

NOW = 1_700_000_000.0


def ledger() -> Ledger:
    made = Ledger("q", Progress(3, 9))
    made.end(7)
    made.start(4, "incarnation")
    made.hold(Lane("key", "k"), Run("t", 1), 2)
    made.park(Lane("key", "p"), [5, 6])
    made.remember("@5", Memory(NOW, "7f"))
    return made


def journal(queue: str = "q", first: int = 0) -> list[bytes]:
    """Of the queue that is known by this, and of tasks from an offset on."""
    lane = Lane("key", "k")
    told = [
        Transition(STARTED, first + 1, 1),
        Transition(ENDED, first),
        granted(first + 2, Lease("other", 1)),
        held(first + 3, lane, Run("t", 1)),
        freed(first + 4, lane),
        freed(first + 4, lane, Run("t", 1)),
        remembered(first + 5, "@5", NOW, "7f"),
        parked(lane, [first + 6, first + 7]),
    ]
    return [encode("incarnation", queue, told), encode_checkpoint(ledger(), "incarnation")[0]]


HEARTBEAT = Heartbeat(
    "incarnation",
    "host pid:[1]",
    7,
    control=True,
    since=NOW,
    strays=(("q", 0, 5),),
    slots=2,
    queues=("a",),
    tasks=("t",),
)


def chord_commands() -> list[bytes]:
    part = {"group": "g", "task": "t", "index": 0, "ok": True, "payload": "1", "body": "{}", "run": "r"}
    size = {"group": "g", "size": 2, "header": None, "body": "{}", "run": "r"}
    kinds = {"chord.part": part, "chord.size": size, "chord.more": {"group": "g", "task": "u"}, "tick": {}}
    return [Command(kind, body).encode() for kind, body in kinds.items()]


def wait_commands() -> list[bytes]:
    wait = {
        "id": "x",
        "task": "t",
        "created": NOW,
        "number": 1,
        "page": [3, 7],
        "expected": ["a", "b"],
        "deadline": NOW + 9,
    }
    callback = {"id": "x", "callback": "a", "data": "1", "reply": "r"}
    return [Command("wait.suspend", wait).encode(), Command("wait.callback", callback).encode()]


def changelog_of_waits() -> list[bytes]:
    """As :func:`changelog`."""
    items: list[tuple[Any, Any]] = [
        (["head", "x"], ["WAITING", "t", NOW, 1, [3, 7], ["a", "b"], NOW + 9, [["u", NOW, 2]]]),
        (["callback", "x", "a"], "1"),
    ]
    return [json.dumps({"key": key, "value": value}).encode() for key, value in items]


def changelog() -> list[bytes]:
    """Keys and values of chords in the control plane's changelog, as one JSON object each."""
    items: list[tuple[Any, Any]] = [
        (["head", "g"], [NOW, 2, None, "{}", ["r"]]),
        (["part", "g", "t", 0], [True, "1"]),
        (["more", "g", "u"], True),
        (["fired", "h"], [NOW, ["r"]]),
    ]
    return [json.dumps({"key": key, "value": value}).encode() for key, value in items]


def steps() -> list[bytes]:
    """A step of a durable task, and a page of two."""
    entries = (Entry(0, STEP, "a", "1", "t/0", 4), Entry(1, SUSPENSION, "x", "{}"))
    return [entries[0].encode("t", {"at": NOW}), Page("t", entries, 5, ("t/9",)).encode()]


def signals() -> list[bytes]:
    log = ClaimLog()
    firing = Signal(RecordKind.HANDLING, "n", "node", "e", 0, slot=NOW, missed=2, run="r")
    for offset, signal in enumerate([Signal(RecordKind.CLAIMING, "n", "node", "e", definition="d"), firing]):
        log.take(signal, offset, NOW)
    plain = [
        Signal(kind, "n", "node", "e", 0, request=NOW, held=True)
        for kind in RecordKind
        if kind is not RecordKind.CHECKPOINT
    ]
    return [signal.encode() for signal in (*plain, firing, *log.checkpoint("n"))]


def states() -> list[bytes]:
    made = json.dumps({**json.loads(b'{"schema":1}'), "id": "t", "state": "RUNNING", "status": "STARTED"})
    whole = {
        **json.loads(made),
        "name": "n",
        "previous": "SCHEDULED",
        "created": NOW,
        "due": NOW,
        "started": NOW,
        "finished": NOW,
        "attempts": 1,
        "worker": "w",
        "queue": "q",
        "topic": "p.queue.q",
        "partition": 0,
        "offset": 7,
        "retries": 0,
        "errors": [{"at": NOW, "type": "E", "message": "m"}],
        "exception": {"type": "E"},
        "position": 3,
        "children": [],
        "result": "aGk=",
        "content_type": "x",
        "content_encoding": "binary",
        "args": [1],
    }
    error = Note("t", error=TaskError(NOW, "E", "m", "w", 1, "…"))
    return [json.dumps(whole).encode(), error.encode(), Note("t", remark=Remark(NOW, "me", "r", "text")).encode()]


HEADERS: dict[str, Any] = {
    "lang": "py",
    "task": "t",
    "id": "i",
    "shadow": None,
    "eta": "2030-01-01T00:00:00+00:00",
    "expires": None,
    "group": "g",
    "group_index": 1,
    "retries": 1,
    "timelimit": [None, 5.0],
    "root_id": "i",
    "parent_id": None,
    "argsrepr": "()",
    "kwargsrepr": "{}",
    "ignore_result": False,
    "stamped_headers": ["s"],
    "stamps": {"s": ["x"]},
    "ordering_key": "k",
    "deduplication_id": "d",
    "retry_of": "q/0/5",
    "task_version": 2,
    "kafka_created": NOW,
    "kafka_repeated": NOW,
    "own": {"__type__": "uuid", "__value__": {"hex": "0" * 32}},
}
PROPERTIES = {"correlation_id": "i", "reply_to": "", "priority": 3, "expiration": "5000", "delivery_mode": 2}
BODY = [[1], {"a": 2}, {"callbacks": [{"task": "t"}], "errbacks": None, "chain": None, "chord": {"task": "t"}}]
OLD = {"task": "t", "id": "i", "args": [1], "kwargs": {}, "retries": 2, "eta": None, "expires": None, "chord": None}


def dump(value: Any) -> bytes:
    return json.dumps(value).encode()
