"""The HTTP API on a free port of this process, and requests to it."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import requests
import uvicorn
from celery import Celery

from kafka_exec.api import application
from tests.integration.workers import PATIENCE, until

JSON = {"Content-Type": "application/json"}


class Site:
    """An API that is served. ``token``: of the user whose requests these are."""

    def __init__(self, address: str, token: str | None = None) -> None:
        self.address = address
        self.token = token

    def ask(self, method: str, path: str, body: Any = None, headers: Any = None, **more: Any) -> requests.Response:
        """Sends a request; a body is sent as JSON. ``more``: for :func:`requests.request`."""
        given = {} if self.token is None else {"Authorization": f"Bearer {self.token}"}
        if method == "POST":
            more.setdefault("json", {} if body is None else body)
        return requests.request(
            method, self.address + path, headers={**given, **(headers or {})}, timeout=PATIENCE, **more
        )

    def get(self, path: str, status: int = 200, **query: Any) -> Any:
        """The answer of ``GET``, below the path of the API."""
        return self._checked(self.ask("GET", f"/api/kafka{path}", params=query), status)

    def post(self, path: str, body: Any = None, status: int = 200) -> Any:
        """The answer of ``POST``, likewise."""
        return self._checked(self.ask("POST", f"/api/kafka{path}", body), status)

    def _checked(self, answer: requests.Response, status: int) -> Any:
        assert answer.status_code == status, answer.text
        return answer.json()


@contextmanager
def serving(app: Celery, token: str | None = None, around: Any = None, **options: Any) -> Iterator[Site]:
    """The API of an app beside the block. ``around``: makes another ASGI application of it; ``options``: of the API."""
    served = application(app, **options)
    config = uvicorn.Config(served if around is None else around(served), access_log=False, log_config=None)
    server = uvicorn.Server(config)
    with socket.create_server(("127.0.0.1", 0)) as listening:
        thread = threading.Thread(target=server.run, args=([listening],))
        thread.start()
        try:
            until(lambda: server.started, what="the API")
            yield Site(f"http://127.0.0.1:{listening.getsockname()[1]}", token)
        finally:
            server.should_exit = True
            thread.join(PATIENCE)
