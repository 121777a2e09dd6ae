"""Asking the HTTP API within this process, for a user whom Flower has let in."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, MutableMapping
from dataclasses import dataclass
from typing import Any, NamedTuple
from urllib.parse import unquote_to_bytes

JSON = (("content-type", "application/json"),)


@dataclass(frozen=True)
class FlowersUser:
    """The user of a request, as an ASGI application expects it."""

    display_name: str
    is_authenticated: bool = True


class ApiAnswer(NamedTuple):
    """The answer of the API to a request."""

    status: int
    headers: list[tuple[str, str]]
    body: bytes

    @classmethod
    def refused(cls, status: int, error: str) -> ApiAnswer:
        """An answer that refuses a request."""
        return cls(status, [], json.dumps({"error": error}).encode())

    @property
    def found(self) -> Any:
        """The JSON value of the body."""
        return json.loads(self.body)


class Asking:
    """The requests of one user to an API.

    Args:
        api: the ASGI application.
        root: the path below which Flower is served.
    """

    def __init__(self, api: Callable[..., Any], root: str, user: str) -> None:
        self._api = api
        self._root = root
        self._user = FlowersUser(user)

    async def __call__(
        self, method: str, path: str, query: str = "", body: bytes = b"", headers: Iterable[tuple[str, str]] = JSON
    ) -> ApiAnswer:
        """The answer to a request. ``path``: percent-encoded, without the root."""
        raw = (self._root + path).encode("latin-1", errors="replace")
        scope: MutableMapping[str, Any] = {
            "type": "http",
            "asgi": {"version": "3.0"},
            "http_version": "1.1",
            "scheme": "http",
            "method": method,
            "path": unquote_to_bytes(raw).decode(errors="replace"),
            "raw_path": raw,
            "root_path": self._root,
            "query_string": query.encode(),
            "headers": [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in headers],
            "client": None,
            "server": None,
            "user": self._user,
        }
        received = iter([{"type": "http.request", "body": body}])
        sent: list[MutableMapping[str, Any]] = []

        async def receive() -> MutableMapping[str, Any]:
            return next(received, {"type": "http.disconnect"})

        async def send(message: MutableMapping[str, Any]) -> None:
            sent.append(message)

        await self._api(scope, receive, send)
        start, *parts = sent
        found = [(name.decode("latin-1"), value.decode("latin-1")) for name, value in start["headers"]]
        return ApiAnswer(start["status"], found, b"".join(part.get("body", b"") for part in parts))
