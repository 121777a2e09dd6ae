"""Executors: which one runs a task, and what an HTTP service or a command may do with it."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar

import psutil
import pytest
from celery import Celery
from celery.exceptions import ImproperlyConfigured

import kafka_exec
from kafka_exec.app.executors.command import CommandExecutor, CommandFailed
from kafka_exec.core.worker.strategies import LOCAL, Offer, chosen
from tests.integration.workers import until


def make_app() -> Celery:
    app = Celery("executors", broker="memory://", set_as_current=False)
    app.conf.task_store_eager_result = False
    return app


def run(app: Celery, task: str, *args: Any, **kwargs: Any) -> Any:
    return app.tasks[task].apply(args, kwargs, task_id="task-1", throw=True).get()


@pytest.mark.parametrize(
    ("offers", "best"),
    [
        ([], None),
        ([LOCAL], LOCAL),
        ([LOCAL, Offer(10, "http", 0)], Offer(10, "http", 0)),
        ([LOCAL, Offer(-1, "http", 0)], LOCAL),
        ([Offer(5, "b", 0), Offer(5, "a", 1), Offer(4, "0", 2)], Offer(5, "a", 1)),
    ],
    ids=["none", "only a function", "a higher one", "a lower one", "two of one priority"],
)
def test_the_highest_priority_wins_then_the_first_name(offers: list[Offer], best: Offer | None) -> None:
    assert chosen(offers) == best
    assert chosen(reversed(offers)) == best


class Recording(kafka_exec.Executor):
    """Returns what it was given."""

    name: ClassVar[str] = "recording"

    def __init__(self, *tasks: str, priority: int = 10, able: bool = True) -> None:
        self.tasks, self.priority, self.able = tasks, priority, able

    def supports(self, task: str) -> bool:
        return self.able and super().supports(task)

    def run(self, task: Any, args: Any, kwargs: Any) -> Any:
        return [self.priority, task.request.id, list(args), dict(kwargs)]


def test_an_executor_runs_the_tasks_that_it_supports_instead_of_a_function_if_its_priority_is_higher() -> None:
    app = make_app()
    kafka_exec.use_executor(app, Recording("remote", "both", "local"))
    kafka_exec.use_executor(app, Recording("both", priority=20))
    kafka_exec.use_executor(app, Recording("unable", able=False))
    kafka_exec.use_executor(app, Recording("kept", priority=-1))

    def function() -> str:
        return "function"

    for name in ("both", "kept"):
        app.task(function, name=name, shared=False)
    app.finalize()
    assert run(app, "remote", 1, x=2) == [10, "task-1", [1], {"x": 2}]
    assert run(app, "both")[0] == 20
    assert run(app, "kept") == "function"
    assert "unable" not in app.tasks, "so a worker leaves it to one that can run it"
    with pytest.raises(ImproperlyConfigured, match="comes too late"):
        kafka_exec.use_executor(app, Recording("later"))


def test_an_executor_is_found_by_the_name_of_its_entry_point() -> None:
    app = make_app()
    made = kafka_exec.use_executor(app, "command", tasks={"say": ["/bin/echo", "{0}"]}, allowed=["/bin/echo"])
    assert isinstance(made, CommandExecutor)
    with pytest.raises(ImproperlyConfigured, match="there is no executor 'nosuch'; installed are command, http"):
        kafka_exec.use_executor(app, "nosuch")
    with pytest.raises(ImproperlyConfigured, match="executor http: the URL of task charge must begin with"):
        kafka_exec.use_executor(app, "http", tasks={"charge": "ftp://bank"})
    with pytest.raises(ImproperlyConfigured, match="an executor must be a"):
        kafka_exec.use_executor(app, 42)  # type: ignore[arg-type]


# -- HTTP --------------------------------------------------------------------------------------------------------------


class Service(BaseHTTPRequestHandler):
    """Answers each request as its task says."""

    seen: ClassVar[list[tuple[Any, ...]]] = []

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.seen.append((self.headers["Idempotency-Key"], self.headers["Authorization"], body))
        status, kind, answer = body["args"]
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.end_headers()
        self.wfile.write(answer.encode())

    def log_message(self, *args: Any) -> None:
        """Says nothing."""


@pytest.fixture
def http() -> Iterator[Celery]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Service)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    app = make_app()
    url = f"http://127.0.0.1:{server.server_address[1]}/"
    tasks = {"charge": url, "away": "http://127.0.0.1:1/"}
    kafka_exec.use_executor(app, "http", tasks=tasks, headers={"Authorization": "secret"})
    Service.seen.clear()
    yield app
    server.shutdown()
    server.server_close()
    thread.join()


def test_a_service_gets_the_task_with_its_id_and_its_answer_is_the_result(http: Celery) -> None:
    assert run(http, "charge", 200, "application/json", '{"paid": 3}') == {"paid": 3}
    assert run(http, "charge", 201, "text/plain", "well") == "well"
    key, authorization, body = Service.seen[0]
    assert (key, authorization) == ("task-1", "secret")
    assert body == {"task": "charge", "args": [200, "application/json", '{"paid": 3}'], "kwargs": {}}


@pytest.mark.parametrize(
    ("answer", "kind", "text"),
    [
        ((404, "text/plain", "no such order"), kafka_exec.Unrecoverable, "answers 404: no such order"),
        ((301, "text/plain", ""), kafka_exec.Unrecoverable, "answers 301"),
        ((200, "application/json", "{"), kafka_exec.Unrecoverable, "broken JSON"),
        ((503, "text/plain", "later"), kafka_exec.Recoverable, "answers 503: later"),
    ],
    ids=["refused", "moved", "broken", "away"],
)
def test_other_answers_fail_the_task_or_are_tried_again(http: Celery, answer: Any, kind: Any, text: str) -> None:
    task = http.tasks["charge"]
    task.push_request(id="task-1", called_directly=False, is_eager=True, retries=99)  # without tries left
    try:
        with pytest.raises(kind, match=text):
            task.run(*answer)
    finally:
        task.pop_request()
    policy = task.retrying
    assert policy is not None
    assert policy.retries_after(kind("x")) == (kind is kafka_exec.Recoverable)
    assert not policy.retries_after(ZeroDivisionError())


def test_a_service_that_does_not_answer_is_tried_again(http: Celery) -> None:
    task = http.tasks["away"]
    task.push_request(id="task-1", called_directly=False, is_eager=True, retries=99)
    try:
        with pytest.raises(kafka_exec.Recoverable, match="the service of task away does not answer"):
            task.run(1)
    finally:
        task.pop_request()


# -- commands ----------------------------------------------------------------------------------------------------------


def command(*arguments: str, **options: Any) -> Celery:
    app = make_app()
    kafka_exec.use_executor(app, "command", tasks={"act": list(arguments)}, allowed=[arguments[0]], **options)
    app.finalize()
    return app


def test_a_command_gets_the_arguments_without_a_shell_and_its_output_is_the_result() -> None:
    app = command("/bin/echo", "-n", "{0};", "name={who}", "$HOME")
    assert run(app, "act", "a b; rm -rf x", who=7) == {"status": 0, "output": "a b; rm -rf x; name=7 $HOME"}


@pytest.mark.parametrize(
    ("args", "text"),
    [(("-rf",), "cannot be an argument"), (([1],), "cannot be an argument"), ((), "do not fill '{0}'")],
    ids=["an option", "a list", "none"],
)
def test_arguments_that_may_be_options_or_are_missing_fail_the_task(args: Any, text: str) -> None:
    with pytest.raises(kafka_exec.Unrecoverable, match=text):
        run(command("/bin/echo", "{0}"), "act", *args)


def test_a_command_that_fails_or_takes_too_long_fails_the_task_and_leaves_nothing_behind(tmp_path: Path) -> None:
    with pytest.raises(CommandFailed, match="has ended with 3: oh no"):
        run(command("/bin/sh", "-c", "echo oh no; exit 3"), "act")
    pid = tmp_path / "pid"
    with pytest.raises(kafka_exec.Unrecoverable, match="took more than"):
        run(command("/bin/sh", "-c", f"sleep 60 & echo $! > {pid}; wait", timeout=0.3), "act")
    left = int(pid.read_text())
    until(lambda: not psutil.pid_exists(left) or psutil.Process(left).status() == psutil.STATUS_ZOMBIE)


def test_only_the_end_of_a_long_output_is_kept() -> None:
    app = command("/bin/sh", "-c", "yes | head -n 100000; echo end", most_output=10)
    assert run(app, "act") == {"status": 0, "output": "y\ny\ny\nend\n"}


@pytest.mark.parametrize(
    ("arguments", "allowed"), [(["/bin/sh"], ["/bin/echo"]), (["echo"], ["echo"])], ids=["another", "no full path"]
)
def test_only_allowed_programs_are_run(arguments: list[str], allowed: list[str]) -> None:
    with pytest.raises(ValueError, match="must be in `allowed`, with its full path"):
        CommandExecutor({"act": arguments}, allowed=allowed)
