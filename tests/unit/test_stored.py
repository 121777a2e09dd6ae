"""Results and errors of tasks are stored and read as Celery's own back ends do it; those that they refuse are stored too.

The twin is Celery's back end for a cache, in the memory of this process. The back end of kafka_exec has its topic in memory.
"""

from __future__ import annotations

import ast
import asyncio
import json
import uuid
from datetime import datetime, timezone
from decimal import Decimal
from typing import Any

import pytest
from celery import Celery
from celery.app.task import Context
from celery.backends.cache import CacheBackend
from celery.utils.serialization import get_pickleable_exception
from hypothesis import example, given, settings
from hypothesis import strategies as st
from kombu import serialization
from kombu.exceptions import DecodeError, EncodeError
from kombu.utils.encoding import bytes_to_str

from kafka_exec.backend.serial import as_text, encoded, name_of, of_text
from kafka_exec.core.message.envelope import RECORD_HEADER
from kafka_exec.core.record.plain import is_deep, plain
from kafka_exec.core.results.lifecycle import State
from kafka_exec.core.results.state_record import LONGEST_MESSAGE, Encoded
from kafka_exec.errors import ResultTooLarge
from tests.unit.storing import Topic


class NeedsTwo(Exception):
    def __init__(self, message: Any, code: Any) -> None:
        super().__init__(message)
        self.code = code


class KeywordOnly(Exception):
    def __init__(self, *, reason: Any) -> None:
        self.reason = reason
        super().__init__()


class Unshowable(Exception):
    def __repr__(self) -> str:
        raise RuntimeError("no repr")

    __str__ = __repr__


class Unreadable(Exception):
    @property
    def args(self) -> Any:  # type: ignore[override]
        raise RuntimeError("no arguments")


class Thing:
    """A type that JSON does not know."""

    def __repr__(self) -> str:
        return "a thing"


class Holding(Exception):
    """Keeps more than its arguments, and that cannot be pickled."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.held = lambda: 1


SCALARS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(st.characters(), max_size=20)  # lone surrogates too
    | st.binary(max_size=20)
    | st.uuids()
    | st.datetimes(timezones=st.just(timezone.utc))
    | st.decimals()
    | st.sampled_from([10**400, float("nan"), float("inf"), {1, 2}, object, "\udcff", b"\xff"])
    | st.builds(Thing)
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.tuples(inner, inner)
        | st.dictionaries(st.text(max_size=5) | st.integers() | st.tuples(st.integers()), inner, max_size=3)
        | st.fixed_dictionaries({"__type__": st.sampled_from(["uuid", "x", 3]), "__value__": inner})
    ),
    max_leaves=6,
)
ARGUMENTS = st.lists(VALUES, max_size=3)
ERRORS = st.one_of(
    st.builds(lambda kind, args: kind(*args), st.sampled_from([ValueError, KeyError, OSError, Holding]), ARGUMENTS),
    st.builds(NeedsTwo, VALUES, VALUES),
    st.builds(lambda value: KeywordOnly(reason=value), VALUES),
    st.builds(lambda args: Unshowable(*args), ARGUMENTS),
    st.builds(Unreadable),
    st.builds(lambda args: type("Local", (Exception,), {})(*args), ARGUMENTS),
    st.builds(lambda value: UnicodeDecodeError("utf-8", value, 0, 1, "no"), st.binary(min_size=1, max_size=5)),
    st.builds(lambda: json.JSONDecodeError("no", "{", 1)),
    st.builds(lambda: asyncio.CancelledError("given up")),
)


def nested(depth: int) -> Any:
    value: Any = 1
    for _ in range(depth):
        value = [value]
    return value


#: A serializer whose text is no JSON; it stands for YAML and the like.
serialization.register("shown", repr, lambda data: ast.literal_eval(bytes_to_str(data)), "text/x-shown", "utf-8")


def app_of(serializer: str, **conf: Any) -> Celery:
    app = Celery("stored", set_as_current=False)
    app.conf.update(result_serializer=serializer, result_accept_content=["json", "pickle", "shown"], **conf)
    return app


APPS = {name: app_of(name) for name in ("json", "pickle", "shown")}
EXTENDED = app_of("json", result_extended=True)


def celerys(app: Celery, result: Any, state: str, request: Context | None = None) -> Any:
    """The answer of Celery's own back end for a result; an exception that it raises is its answer too."""
    twin = CacheBackend(app, backend="memory", url="memory://")
    try:
        stored = twin.encode_result(result, state)
        return twin.decode_result(twin.encode(twin._get_result_meta(stored, state, None, request)))
    except Exception as error:
        return error


def same(one: Any, other: Any) -> bool:
    """Equal, also where something is not equal to itself."""
    return type(one) is type(other) and repr(one) == repr(other)


@settings(deadline=None)
@given(ERRORS, st.sampled_from(["FAILURE", "RETRY", "REVOKED"]), st.sampled_from(sorted(APPS)))
@example(KeyError(uuid.UUID(int=7)), "RETRY", "json")
@example(ValueError({"__type__": "nobody's", "__value__": 1}), "FAILURE", "json")
def test_what_a_task_raises_is_stored_as_what_it_was(error: Exception, state: str, serializer: str) -> None:
    raised = get_pickleable_exception(error)  # as Celery hands it to a back end
    ours = Topic(APPS[serializer])
    ours.store_result("t", raised, state, traceback="Traceback", request=Context(id="t", retries=0))
    record, meta = ours.last, ours.read()
    assert (record.status, meta["status"], meta["traceback"]) == (state, state, "Traceback")
    assert record.exception is not None
    assert record.exception.type.endswith(type(error).__name__) or type(raised) in type(error).__mro__
    if state != "REVOKED":
        noted = ours.noted[-1].error
        assert noted is not None
        assert noted.type == record.exception.type
    found, theirs = meta["result"], celerys(APPS[serializer], raised, state)
    assert isinstance(found, BaseException)
    if isinstance(theirs, dict) and type(theirs["result"]) is type(error):
        assert type(found) is type(error)
        assert isinstance(error, Unshowable) or same(found, theirs["result"])
    elif isinstance(error, (NeedsTwo, KeywordOnly, json.JSONDecodeError)):
        assert type(found) is type(error)  # Celery's has another type, or its text


@settings(deadline=None)
@given(VALUES, st.sampled_from(sorted(APPS)))
@example({"at": datetime(2031, 2, 3, tzinfo=timezone.utc), "id": uuid.UUID(int=1), "price": Decimal("1.5")}, "json")
def test_a_result_comes_back_as_celerys_own_back_end_gives_it(value: Any, serializer: str) -> None:
    ours, theirs = Topic(APPS[serializer]), celerys(APPS[serializer], value, "SUCCESS")

    def found() -> Any:
        ours.store_result("t", value, "SUCCESS", request=Context(id="t"))
        return ours.read()["result"]

    if isinstance(theirs, dict):
        assert same(found(), theirs["result"])
    else:
        with pytest.raises(type(theirs)):
            found()


@settings(deadline=None)
@given(st.lists(VALUES, max_size=3), st.dictionaries(st.text(max_size=5), VALUES, max_size=2))
@example([float("nan"), float("-inf"), b"\xff", uuid.UUID(int=1)], {"a": "\udcff"})
def test_arguments_come_back_as_celerys_own_back_end_gives_them(args: list[Any], kwargs: dict[str, Any]) -> None:
    """If Celery's back end fails a task for its arguments, they come back as Python shows them."""
    ours = Topic(EXTENDED)
    request = Context(id="t", task="name", args=args, kwargs=kwargs, delivery_info={})
    ours.store_result("t", 1, "SUCCESS", request=request)
    found, theirs = ours.read(), celerys(EXTENDED, 1, "SUCCESS", request)
    assert found["name"] == "name"
    assert isinstance(found["args"], list)
    assert len(found["args"]) == len(args)
    if isinstance(theirs, dict):
        assert same(found["args"], theirs["args"])
        assert same(found["kwargs"], theirs["kwargs"])


TEXTS = st.builds(
    lambda text, times: text * times, st.sampled_from(["x", "é", "\U0001f600", '"']), st.integers(0, 20_000)
)
LARGE = st.one_of(TEXTS, st.lists(TEXTS, max_size=3), st.integers(0, 3000).map(list[int]([1]).__mul__))


@settings(deadline=None)
@given(
    st.integers(8_000, 60_000),
    st.sampled_from(["FAILURE", "RETRY"]),
    st.lists(LARGE, max_size=3),
    LARGE,
    LARGE,
    TEXTS,
    st.integers(0, 300),
    st.sampled_from(["json", "pickle"]),
)
def test_what_failed_is_told_however_large_and_however_small_the_topic(
    limit: int, state: str, arguments: list[Any], args: Any, kwarg: Any, trace: str, children: int, serializer: str
) -> None:
    app = app_of(serializer, result_extended=True)
    ours = Topic(app, limit)
    spawned = [app.AsyncResult(uuid.UUID(int=number).hex) for number in range(children)]
    request = Context(
        id="t", task="n" * 300, args=[args], kwargs={"k": kwarg}, _children=spawned, parent_id="p" * 300, retries=2
    )
    error = ValueError(*arguments)
    ours.store_result("t", error, state, traceback=trace, request=request)
    record, found = ours.last, ours.read()["result"]
    assert (record.id, record.status, record.attempts) == ("t", state, 3)
    assert type(found) is ValueError
    assert record.exception is not None
    assert record.exception.type == "ValueError"
    everything = Topic(app)
    everything.store_result("t", error, state, traceback=trace, request=request)
    if len(everything.values[-1]) <= limit:
        assert same(found.args, error.args)
        assert ours.read()["args"] == [args]
        assert record.traceback == trace


@settings(deadline=None)
@given(st.integers(8_000, 60_000), LARGE, LARGE, st.sampled_from(["SUCCESS", "PROGRESS"]))
def test_a_result_is_stored_whole_or_refused_and_then_its_failure_is_stored(
    limit: int, result: Any, args: Any, state: str
) -> None:
    ours, request = Topic(EXTENDED, limit), Context(id="t", args=[args], kwargs={}, delivery_info={})
    try:
        ours.store_result("t", result, state, request=request)
    except ResultTooLarge as error:
        assert len(json.dumps(result)) > limit - 4_000
        ours.store_result("t", error, "FAILURE", request=request)
        assert isinstance(ours.read()["result"], ResultTooLarge)
    else:
        assert ours.read()["result"] == result
    assert ours.last.status in (state, "FAILURE")


ODD = (
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.uuids() | st.lists(st.integers())
)


@settings(deadline=None)
@given(
    st.fixed_dictionaries(
        {},
        optional=dict.fromkeys(
            [
                "task",
                "hostname",
                "retries",
                "parent_id",
                "root_id",
                "group",
                "delivery_info",
                "kafka_created",
                "ordering_key",
                "deduplication_id",
                RECORD_HEADER,
            ],
            ODD | st.dictionaries(st.sampled_from(["routing_key", "topic", "partition", "offset", "timestamp"]), ODD),
        ),
    ),
    st.sampled_from(["SUCCESS", "FAILURE", "RETRY", "PROGRESS"]),
    st.text(max_size=5) | st.uuids(),
)
@example({"retries": 10**400, "kafka_created": float("inf"), "parent_id": uuid.UUID(int=3)}, "FAILURE", "t")
def test_a_state_is_stored_whatever_a_request_has_in_its_fields(
    fields: dict[str, Any], state: str, task_id: Any
) -> None:
    ours = Topic(APPS["json"])
    ours.store_result(task_id, ValueError(1) if state in ours.EXCEPTION_STATES else 1, state, request=Context(fields))
    assert (ours.last.id, ours.last.status) == (str(task_id), state)
    if isinstance(parent := fields.get("parent_id"), uuid.UUID):
        assert ours.last.parent == str(parent)


def test_what_an_application_tells_as_a_failure_is_kept() -> None:
    ours = Topic(APPS["json"])
    ours.store_result("t", {"exc_type": "ValueError", "exc_message": ["custom"], "exc_module": "builtins"}, "FAILURE")
    assert repr(ours.read()["result"]) == repr(ValueError("custom"))
    ours.store_result("t", {"reason": "none of Celery's"}, "FAILURE")
    assert (ours.last.result, ours.last.exception) == ({"reason": "none of Celery's"}, None)


def test_who_says_that_a_task_shall_abort_keeps_what_is_known_of_it() -> None:
    ours = Topic(APPS["json"])
    request = Context(id="t", task="name", hostname="w@h", retries=1, delivery_info={"routing_key": "q"})
    ours._started["t"] = 5.0
    ours.store_result("t", {"percent": 1}, "PROGRESS", request=request)
    ours.store_result("t", None, "ABORTED")
    record = ours.last
    assert (record.status, record.state, record.previous) == ("ABORTED", State.RUNNING, State.RUNNING)
    assert (record.name, record.worker, record.attempts, record.queue, record.started) == ("name", "w@h", 2, "q", 5.0)
    assert ours.read()["result"] is None


def test_a_serializer_of_another_process_is_the_records_own() -> None:
    """The process that reads may have other settings than the one that wrote."""
    for name, writer in APPS.items():
        value = 1.5 if name == "shown" else {"at": datetime(2031, 1, 1, tzinfo=timezone.utc)}
        written = Topic(writer)
        written.store_result("t", value, "SUCCESS")
        for reader in APPS.values():
            read = Topic(reader)
            read.values = written.values
            assert read.read()["result"] == value


def test_what_is_not_accepted_is_refused() -> None:
    written, strict = Topic(APPS["pickle"]), Topic(APPS["json"])
    written.store_result("t", 1, "SUCCESS")
    strict.accept = {"application/json"}
    strict.values = written.values
    with pytest.raises(Exception, match="Refusing to deserialize"):
        strict.read()


def test_a_result_that_no_serializer_knows_is_an_error_of_encoding() -> None:
    with pytest.raises(EncodeError):
        Topic(APPS["json"]).store_result("t", object(), "SUCCESS")


@given(VALUES)
@example([float("nan"), 10**400, {3: {None: 1}}])
def test_anything_is_told_as_json(value: Any) -> None:
    told = plain(value)
    assert json.loads(json.dumps(told, allow_nan=False)) == told
    assert plain(told) == told
    assert not is_deep(told)


def test_what_holds_itself_is_told_once() -> None:
    loop: list[Any] = [1]
    loop.append(loop)
    assert plain(loop) == [1, "[1, [...]]"]


@pytest.mark.parametrize("depth", [150, 400, 900, 5000])
def test_what_is_deep_is_stored(depth: int) -> None:
    ours, value = Topic(EXTENDED), nested(depth)
    ours.store_result("t", ValueError(value), "FAILURE", request=Context(id="t", args=[value], kwargs={"k": value}))
    assert isinstance(ours.read()["result"], ValueError)
    assert isinstance(ours.read()["args"], list)
    assert json.loads(json.dumps(plain(value)))
    if depth < 500:
        ours.store_result("t", value, "SUCCESS", request=Context(id="t", args=[value]))
        assert ours.read()["result"] == value
        assert isinstance(ours.last.result, Encoded)


def test_a_number_that_python_does_not_show_is_no_obstacle() -> None:
    ours = Topic(APPS["json"])
    ours.store_result("t", ValueError(10**5000), "FAILURE", request=Context(id="t"))
    assert isinstance(ours.read()["result"], ValueError)
    assert json.dumps(plain(10**5000))


@given(VALUES, st.sampled_from(sorted(APPS)))
def test_a_serialized_value_comes_back_of_its_text(value: Any, serializer: str) -> None:
    try:
        stored = encoded(value, serializer)
    except EncodeError:
        return
    text = as_text(stored, "a name")
    assert same(of_text(text), stored)
    assert name_of(text) == ("a name" if isinstance(stored, Encoded) else "")


@given(st.text())
@example("encoded: ")
@example("encoded: a b c")
@example("encoded: a b YQ== name")
def test_any_text_is_a_value_or_an_error_of_decoding(text: str) -> None:
    try:
        of_text(text)
    except DecodeError:
        pass


def test_a_note_is_cut() -> None:
    ours = Topic(APPS["json"])
    ours.store_result("t", ValueError("é" * 3_000_000), "FAILURE", traceback="Traceback", request=Context(id="t"))
    noted = ours.noted[-1].error
    assert noted is not None
    assert len(noted.message) < LONGEST_MESSAGE + 100
