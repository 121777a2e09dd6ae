"""The HTTP API without a Kafka: who is answered, what is read from a request, and what an error becomes."""

from __future__ import annotations

import asyncio
import json
import logging
import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote

import pytest
from celery import Celery
from celery.exceptions import ImproperlyConfigured
from jsonschema import Draft202012Validator
from kombu.exceptions import OperationalError

from kafka_exec import errors
from kafka_exec.api import application
from kafka_exec.api.access import ANYBODY, Access, Refusal, RequestHead
from kafka_exec.api.answers import line_of, status_of
from kafka_exec.api.asgi import Api
from kafka_exec.api.openapi import ALIASES, BASE, OPERATIONS, document, errors_of, routes
from kafka_exec.api.operation import Operation
from kafka_exec.api.reading import read_body, read_query

ANNA, BOB = "a" * 16, "b" * 20
TOKENS = {"anna": ANNA, "bob": BOB}
LOCAL = {"host": "127.0.0.1:9809"}
JSON = {"content-type": "application/json"}


def admit(access: Access, method: str = "GET", client: str | None = "127.0.0.1", **headers: str) -> str:
    given = {name.replace("_", "-"): value for name, value in headers.items()}
    return access.admit(RequestHead(method, client, {**LOCAL, **JSON, **given}))


def refused(access: Access, *args: Any, **headers: str) -> int:
    with pytest.raises(Refusal) as caught:
        admit(access, *args, **headers)
    return caught.value.status


# Who is answered


def test_a_user_is_known_by_the_token() -> None:
    access = Access(TOKENS, read_only=False)
    assert admit(access, authorization=f"Bearer {ANNA}") == "anna"
    assert admit(access, "POST", "8.8.8.8", authorization=f"bearer  {BOB}", host="shop.example") == "bob"
    for wrong in ("", ANNA, f"Basic {ANNA}", "Bearer ", f"Bearer {ANNA}x", f"Bearer {ANNA[1:]}", "Bearer ä"):
        assert refused(access, authorization=wrong) == 401
    assert refused(access) == 401


def test_without_tokens_only_this_machine_is_answered() -> None:
    access = Access({}, read_only=False)
    for host in ("localhost", "localhost:80", "127.0.0.1:9809", "[::1]:9809", "127.8.8.8"):
        assert admit(access, "POST", host=host) == ANYBODY
    assert admit(access, "GET", "::1") == ANYBODY
    for client in ("10.0.0.7", None, "", "testclient"):
        assert refused(access, "GET", client) == 401
    for rebound in ("evil.example", "evil.example:9809", "127.0.0.1.evil.example", ""):
        assert refused(access, "GET", host=rebound) == 401


def test_a_user_whom_the_application_around_it_knows_needs_no_token() -> None:
    for tokens in (TOKENS, {}):
        access = Access(tokens, read_only=False)
        assert access.admit(RequestHead("GET", "10.0.0.7", {"host": "shop.example"}, "carl")) == "carl"
        with pytest.raises(Refusal) as caught:
            access.admit(
                RequestHead("POST", "10.0.0.7", {"host": "shop.example", "origin": "https://evil.example"}, "carl")
            )
        assert (caught.value.status, caught.value.user) == (403, "carl")


def test_an_act_is_refused_where_the_api_is_read_only_or_another_site_has_sent_it() -> None:
    only, access = Access({}, read_only=True), Access({}, read_only=False)
    assert admit(only, "GET") == admit(only, "HEAD") == ANYBODY
    for method in ("POST", "DELETE"):
        assert refused(only, method) == 403
        assert admit(access, method, origin="http://127.0.0.1:9809") == ANYBODY
        for origin in ("null", "", "http://evil.example", "http://127.0.0.1:80", "https://127.0.0.1", "http://["):
            assert refused(access, method, origin=origin) == 403
        known = Access(TOKENS, read_only=False)
        assert refused(known, method, authorization=f"Bearer {ANNA}", origin="null", host="") == 403
    for kind in ("", "text/plain", "application/x-www-form-urlencoded", "multipart/form-data", "application/jsonx"):
        assert refused(access, "POST", content_type=kind) == 415
    assert admit(access, "POST", content_type="Application/JSON; charset=utf-8") == ANYBODY


# Each operation over ASGI


@dataclass
class Answer:
    status: int
    headers: Mapping[str, str]
    body: Any


def ask(
    api: Any,
    method: str,
    path: str,
    body: bytes = b"{}",
    client: Any = ("127.0.0.1", 1),
    query: bytes = b"",
    **headers: str,
) -> Answer:
    """Sends a request to an ASGI application."""
    given = {**LOCAL, **JSON, **{name.replace("_", "-"): value for name, value in headers.items()}}
    scope = {
        "type": "http",
        "method": method,
        "path": unquote(path),
        "raw_path": path.encode(),
        "query_string": query,
        "client": client,
        "headers": [(name.encode(), value.encode()) for name, value in given.items()],
    }
    sent: list[Any] = []

    async def receive() -> Any:
        return {"type": "http.request", "body": body, "more_body": False}

    async def send(message: Any) -> None:
        sent.append(message)

    asyncio.run(api(scope, receive, send))
    start, *rest = sent
    told = {name.decode(): value.decode() for name, value in start["headers"]}
    data = b"".join(each.get("body", b"") for each in rest)
    return Answer(start["status"], told, json.loads(data) if data else None)


def api_of(*, read_only: bool = False, **conf: Any) -> Any:
    app = Celery("api", broker="kafka-exec://127.0.0.1:1/shop", backend="cache+memory://", set_as_current=False)
    app.conf.update(conf)
    return application(app, read_only=read_only)


ACTS = [(path, operation) for path, operation in routes() if operation.is_act]


@pytest.mark.parametrize(("path", "act"), ACTS, ids=lambda value: value if isinstance(value, str) else value.method)
def test_each_act_is_refused_to_whoever_may_not_do_it(path: str, act: Operation) -> None:
    where = re.sub(r"{\w+}", "1:1", path)
    known = f"Bearer {ANNA}"
    guarded = api_of(kafka_exec_api_tokens=[f"anna:{ANNA}"])
    for wrong in ({}, {"authorization": f"Bearer {BOB}"}):
        answer = ask(guarded, act.method, where, **wrong)
        assert (answer.status, answer.headers["www-authenticate"]) == (401, "Bearer")
    assert ask(guarded, act.method, where, authorization=known, origin="https://evil.example").status == 403
    assert ask(api_of(read_only=True), act.method, where).status == 403
    assert ask(api_of(), act.method, where, client=("10.0.0.7", 1)).status == 401
    if act.method == "POST":
        assert ask(guarded, act.method, where, authorization=known, content_type="text/plain").status == 415
        assert ask(guarded, act.method, where, authorization=known, body=b"[]").status == 400


def test_what_no_operation_does_is_told_in_json() -> None:
    api = api_of()
    assert ask(api, "GET", "/api/kafka/nothing").body == {"error": "Not Found: see openapi.json"}
    answer = ask(api, "PUT", "/api/kafka/executions")
    assert (answer.status, {*answer.headers["allow"].split(", ")}) == (405, {"GET", "HEAD", "POST"})
    assert ask(api, "GET", "/api/kafka/status/").status == 404
    assert ask(api, "HEAD", "/api/kafka/openapi.json").status == 200


def test_an_error_that_nobody_foresaw_is_told_by_the_log_only(caplog: pytest.LogCaptureFixture) -> None:
    nobody: Any = None  # has no configuration
    answer = ask(Api(nobody, Access({}, read_only=False)), "GET", "/api/kafka/status")
    assert (answer.status, list(answer.body)) == (500, ["error"])
    assert "NoneType" not in answer.body["error"]
    assert "NoneType" in caplog.text


def test_a_body_that_is_too_large_is_not_read_to_its_end() -> None:
    answer = ask(api_of(), "POST", "/api/kafka/executions", b" " * 2_000_001)
    assert answer.status == 413


def test_an_act_is_one_line_in_the_log_whatever_its_path_has(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "kafka_exec.api")
    tokens = [f"anna:{ANNA}"]
    path = "/api/kafka/keys/a%0Ab%2F7/unblock"
    ask(api_of(kafka_exec_api_tokens=tokens, read_only=True), "POST", path, authorization=f"Bearer {ANNA}")
    ask(api_of(kafka_exec_api_tokens=tokens), "POST", path, b'{"x": 1}', authorization=f"Bearer {ANNA}")
    ask(api_of(kafka_exec_api_tokens=tokens), "GET", "/api/kafka/openapi.json", authorization=f"Bearer {ANNA}")
    told = [record.getMessage() for record in caplog.records if record.name == "kafka_exec.api"]
    assert told == [f"anna: POST {path}: 403", f"anna: POST {path}: 400"]


def test_an_application_with_another_broker_has_no_api() -> None:
    with pytest.raises(errors.NotInKafka, match="no kafka-exec:// broker"):
        application(Celery("api", broker="memory://", set_as_current=False))


def test_without_the_extra_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "kafka_exec.api.asgi")
    monkeypatch.setitem(sys.modules, "starlette.applications", None)
    with pytest.raises(errors.ConfigurationError, match=r"the API needs starlette.*: install kafka_exec\[api\]"):
        api_of()


# What is read


def operation(name: str) -> Operation:
    return next(each for each in OPERATIONS if each.name == name)


def test_parameters_of_a_query_have_their_types_and_defaults() -> None:
    found = read_query(operation("executions"), [("active", "true"), ("limit", "7"), ("name", "5")])
    assert found == {"active": True, "limit": 7, "name": "5", "offset": 0}
    assert read_query(operation("nodes"), [("hours", "0.5")]) == {"hours": 0.5}
    for hours in ("nan", "NaN", "1e999", "1_0"):
        with pytest.raises(errors.ConfigurationError, match="hours: "):
            read_query(operation("nodes"), [("hours", hours)])
    assert read_query(operation("executions"), []) == {"active": False, "limit": 100, "offset": 0}


@pytest.mark.parametrize(
    ("pairs", "told"),
    [
        ([("nme", "x")], "there is no parameter 'nme'; there are name, state"),
        ([("name", "x"), ("name", "y")], "the parameter name is there more than once"),
        ([("limit", "many")], "limit: 'many' is not of type 'integer'"),
        ([("limit", "5.0")], "limit: '5.0' is not of type 'integer'"),
        ([("limit", "true")], "limit: 'true' is not of type 'integer'"),
        ([("limit", "0")], "limit: 0 is less than the minimum of 1"),
        ([("active", "1")], "active: 1 is not of type 'boolean'"),
    ],
)
def test_a_wrong_parameter_of_a_query_is_told(pairs: list[tuple[str, str]], told: str) -> None:
    with pytest.raises(errors.ConfigurationError) as caught:
        read_query(operation("executions"), pairs)
    assert str(caught.value).startswith(told)


@pytest.mark.parametrize(
    ("body", "told"),
    [
        (b"", "the body must be a JSON object"),
        (b"\xff", "the body must be a JSON object"),
        (b"[" * 100_000, "the body must be a JSON object"),
        (b'{"name": "x", "args": [NaN]}', "the body must be a JSON object"),
        (b'{"name": "x", "args": [1e999]}', "the body must be a JSON object"),
        (b'{"name": "\\ud800"}', "the body has a text with half a character"),
        (b"[]", "the body must be a JSON object"),
        (b'{"name": "x", "args": ' + b"[" * 900 + b"]" * 900 + b"}", "the body must be a JSON object"),
        (b"{}", "the body: 'name' is a required property"),
        (b'{"name": 5}', "name: 5 is not of type 'string'"),
        (b'{"name": "x", "arg": []}', "the body: Additional properties are not allowed ('arg' was unexpected)"),
    ],
)
def test_a_wrong_body_is_told(body: bytes, told: str) -> None:
    with pytest.raises(errors.ConfigurationError) as caught:
        read_body(operation("create"), body)
    assert str(caught.value).startswith(told)
    assert read_body(operation("create"), b'{"name": "x"}') == {"name": "x", "args": [], "kwargs": {}}


# What an error becomes


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (errors.NotFound("x"), 404),
        (errors.NoSuchLetter("x"), 404),
        (errors.NoSuchEntry("x"), 404),
        (errors.NoSuchQueue("x"), 404),
        (errors.WrongState("x"), 409),
        (errors.NotReplayable("x"), 409),
        (errors.MessageTooLarge("x"), 413),
        (errors.ConfigurationError("x"), 400),
        (errors.InvalidName("x"), 400),
        (errors.Unwritable("x"), 400),
        (errors.NotInKafka("x"), 501),
        (ImproperlyConfigured("x"), 501),
        (errors.ConnectionFailed("x"), 503),
        (errors.AccessRefused("x"), 503),
        (errors.Forbidden("x"), 503),
        (errors.NotConfirmed("x"), 503),
        (OperationalError("x"), 503),
        (errors.Undecodable("short", "x"), 500),
        (ValueError("x"), None),
    ],
)
def test_an_error_has_a_status(error: Exception, status: int | None) -> None:
    assert status_of(error) == status


def test_an_error_is_one_line() -> None:
    assert line_of(ValueError("one\n\ttwo  three")) == "one two three"
    assert len(line_of(ValueError("x" * 5000))) == 1001


# The file


def test_each_operation_is_in_the_file_once_and_has_schemas_that_exist() -> None:
    found = document()
    told = [each["operationId"] for methods in found["paths"].values() for each in methods.values()]
    assert len(told) == len(set(told)) == len([*routes()])
    for name in re.findall(r"#/components/schemas/(\w+)", json.dumps(found)):
        Draft202012Validator.check_schema(found["components"]["schemas"][name])
    for each in OPERATIONS:
        assert each.text.endswith("."), each.name
        assert re.match("[A-Z][a-z]+s ", each.text), each.name
        Draft202012Validator.check_schema(each.body_schema)
        assert set(each.required) <= set(each.body)
        assert {404, 409} & {*errors_of(each)} or "{" not in each.path or each.name in ("why", "resume_suspended")


def test_an_alias_stands_for_a_path_that_exists() -> None:
    paths = {path for path, _ in routes()}
    assert {*ALIASES, *(BASE + path for path in ALIASES.values())} <= paths
