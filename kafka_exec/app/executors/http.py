"""Tasks that an HTTP service runs. It needs ``pip install "kafka_exec[http]"``."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from importlib.util import find_spec
from typing import Any, ClassVar

from kafka_exec.app.executors.registry import Executor
from kafka_exec.core.record.plain import cut, said
from kafka_exec.core.worker.retry import RetryPolicy
from kafka_exec.errors import Recoverable, Unrecoverable

#: The answers that may be another one later: too many requests, and what proxies say of a service that is away.
PASSING = frozenset({408, 425, 429, 500, 502, 503, 504})

#: An error tells so many characters of the answer.
_SHOWN = 500


class HttpExecutor(Executor):
    """Sends a task as ``POST`` with a JSON object, ``{"task": …, "args": […], "kwargs": {…}}``; the answer is the result.

    The header ``Idempotency-Key`` (draft-ietf-httpapi-idempotency-key-header) is the task's id, the same in each of its
    runs: the service should make the effect once for each. An answer in JSON is the result, another one is it as a text.

    Args:
        tasks: the URL of each task.
        timeout: seconds for the connection, and between two bytes of the answer.
        headers: sent with each request, such as ``Authorization``. They are never shown.
        passing: the statuses after which the task is retried, as after an error of the connection.
        retrying: the policy of these retries.
        priority: see :class:`Executor`.

    Raises:
        ValueError: a URL is neither http nor https.
        ImportError: the library ``requests`` is not installed.
    """

    name: ClassVar[str] = "http"

    def __init__(
        self,
        tasks: Mapping[str, str],
        *,
        timeout: float = 30.0,
        headers: Mapping[str, str] | None = None,
        passing: Collection[int] = PASSING,
        retrying: RetryPolicy | None = None,
        priority: int = 10,
    ) -> None:
        if find_spec("requests") is None:
            raise ImportError('it needs the library requests: pip install "kafka_exec[http]"')
        for task, url in tasks.items():
            if not str(url).startswith(("http://", "https://")):
                raise ValueError(f"the URL of task {task} must begin with http:// or https://, not {url!r:.60}")
        self.tasks = self._urls = dict(tasks)
        self.retrying = retrying or RetryPolicy(on=())
        self.priority = priority
        self._timeout = timeout
        self._headers = dict(headers or {})
        self._passing = frozenset(passing)

    def run(self, task: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
        import requests

        headers = {**self._headers, "Idempotency-Key": str(task.request.id)}
        body = {"task": task.name, "args": list(args), "kwargs": dict(kwargs)}
        try:
            answer = requests.post(
                self._urls[task.name], json=body, headers=headers, timeout=self._timeout, allow_redirects=False
            )
        except (requests.ConnectionError, requests.Timeout) as error:
            raise Recoverable(f"the service of task {task.name} does not answer: {said(error)}") from None
        if not 200 <= answer.status_code < 300:
            kind = Recoverable if answer.status_code in self._passing else Unrecoverable
            raise kind(f"the service of task {task.name} answers {answer.status_code}: {cut(answer.text, _SHOWN)}")
        if "json" not in answer.headers.get("content-type", ""):
            return answer.text
        try:
            return answer.json()
        except ValueError as error:
            raise Unrecoverable(f"the service of task {task.name} answers with broken JSON: {error}") from None
