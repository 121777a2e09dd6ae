"""The operations as an ASGI application, on Starlette."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Mapping, MutableMapping
from typing import Any
from urllib.parse import quote, unquote

from celery import Celery
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route

from kafka_exec.api.access import Access, Refusal, RequestHead
from kafka_exec.api.answers import line_of, status_of
from kafka_exec.api.openapi import routes
from kafka_exec.api.operation import Call, Operation
from kafka_exec.api.reading import read_body, read_query

logger = logging.getLogger("kafka_exec")

#: Each act is told here, with its user.
audit = logging.getLogger("kafka_exec.api")

#: The longest body, bytes: a little more than Kafka takes in one message.
_LARGEST = 2_000_000

_HEADERS = {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"}


class Api:
    """The API of an application."""

    def __init__(self, app: Celery, access: Access) -> None:
        self._app = app
        self._access = access
        by_path: dict[str, dict[str, Operation]] = {}
        for path, operation in routes():
            by_path.setdefault(path, {})[operation.method] = operation
        self._routes = Starlette(
            routes=[Route(path, self._endpoint(found), methods=list(found)) for path, found in by_path.items()],
            exception_handlers={HTTPException: _refused_by_route},
        )
        self._routes.router.redirect_slashes = False

    async def __call__(
        self, scope: MutableMapping[str, Any], receive: Callable[..., Any], send: Callable[..., Any]
    ) -> None:
        """Answers a request, by the protocol of ASGI."""
        if scope["type"] == "http":
            scope = {**scope, "path": _encoded_path(scope)}
        await self._routes(scope, receive, send)

    def _endpoint(self, operations: dict[str, Operation]) -> Callable[[Request], Any]:
        async def endpoint(request: Request) -> Response:
            operation = operations["GET" if request.method == "HEAD" else request.method]
            try:
                user = self._access.admit(_asked(request))
            except Refusal as refusal:
                if refusal.user is not None:
                    _tell(refusal.user, request, refusal.status)
                challenge = {"WWW-Authenticate": "Bearer"} if refusal.status == 401 else None
                return _answer(_error(str(refusal)), refusal.status, challenge)
            found, status = await self._perform(operation, request, user)
            if operation.is_act:
                _tell(user, request, status)
            return _answer(found, status)

        return endpoint

    async def _perform(self, operation: Operation, request: Request, user: str) -> tuple[str, int]:
        """The answer of an operation as JSON, and its status."""
        try:
            query = read_query(operation, request.query_params.multi_items())
            body = {}
            if operation.method == "POST":
                data = await _body(request)
                if data is None:
                    return _error(f"the body is larger than {_LARGEST} bytes"), 413
                body = read_body(operation, data)
            path = {name: unquote(value) for name, value in request.path_params.items()}
            call = Call(self._app, path, query, body, user, request.scope.get("root_path", ""))
            return await run_in_threadpool(_performed, operation, call), operation.status
        except ClientDisconnect:
            return _error("the body did not come to its end"), 400
        except Exception as error:
            status = status_of(error)
            if status is None:
                logger.exception("the API could not answer %s %s", request.method, request.url.path)
                return _error("an error of the API itself, which its log tells: its operator must look"), 500
            return _error(line_of(error)), status


def _performed(operation: Operation, call: Call) -> str:
    return json.dumps(operation.perform(call), allow_nan=False)


def _error(text: str) -> str:
    return json.dumps({"error": text})


def _asked(request: Request) -> RequestHead:
    user: Any = request.scope.get("user")
    name = str(user.display_name) if getattr(user, "is_authenticated", False) else None
    client = None if request.client is None else request.client.host
    return RequestHead(request.method, client, request.headers, name)


def _tell(user: str, request: Request, status: int) -> None:
    # The path is percent-encoded, so that it stays in one line.
    audit.info("%s: %s %s: %d", quote(user, safe="@"), request.method, request.scope["path"], status)


async def _body(request: Request) -> bytes | None:
    """The body of a request; None: it is too large."""
    found = b""
    async for chunk in request.stream():
        found += chunk
        if len(found) > _LARGEST:
            return None
    return found


def _encoded_path(scope: MutableMapping[str, Any]) -> str:
    """The path of a request with its escapes, so that an id may have a slash."""
    path: str = scope["path"]
    raw = (scope.get("raw_path") or b"").decode("ascii", errors="replace")
    return raw if unquote(raw) == path else quote(path)


def _refused_by_route(request: Request, error: Any) -> Response:
    return _answer(_error(f"{error.detail}: see openapi.json"), error.status_code, error.headers)


def _answer(data: str, status: int, headers: Mapping[str, str] | None = None) -> Response:
    return Response(data, status, {**_HEADERS, **(headers or {})}, media_type="application/json")
