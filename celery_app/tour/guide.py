"""What each stop of the tour uses: the workers, the other processes, the HTTP API, and what a stop tells."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote

from celery.exceptions import TimeoutError as ResultTimeout

import kafka_exec
from celery_app import corpus
from celery_app.app import app
from celery_app.events import EventLog
from celery_app.processes import ADDRESS, Process, ending
from celery_app.workers import Workers

#: How long a result, and anything else that must come, may take, seconds.
PATIENCE = 120.0

#: How long answers of workers may take, seconds.
REPLY_TIMEOUT = 10.0

#: Flower lies beside the environment that ./dev makes.
BESIDE = Path(sys.prefix, "flower")

#: The processes that a stop may need, with their arguments. Port 0 is any free one.
SERVICES: Mapping[str, list[str]] = {
    "api": ["kafka", "api", "--port", "0"],
    "exporter": ["kafka", "exporter", "--port", "0"],
    "flower": ["flower", "--address=127.0.0.1", "--port=0"],
    "beat1": ["beat", "--scheduler", "kafka-exec", "--pidfile", "", "--loglevel", "INFO"],
    "beat2": ["beat", "--scheduler", "kafka-exec", "--pidfile", "", "--loglevel", "INFO"],
}


class DemoError(Exception):
    """Something did not come out as it must."""


class Seen(NamedTuple):
    """What a stop tells: what was done, what was seen, and what proves it."""

    done: str
    seen: str
    proof: str


#: A stop yields what it tells; and None where it waits for something, and others may go on meanwhile.
Steps = Iterator["Seen | None"]


class Stop(NamedTuple):
    """A feature, by its name in README's table, and how it is shown. ``needs``: names of :data:`SERVICES`."""

    feature: str
    steps: Callable[[Tour], Steps]
    needs: tuple[str, ...] = ()


class Elsewhere(NamedTuple):
    """A feature that the tour does not show: why, and the command that does."""

    feature: str
    why: str
    command: str


class Tour:
    """The state of a tour.

    Attributes:
        sent: how many tasks of which names were sent that must have run once each.
        counted: what came of counting the files.
    """

    def __init__(self, workers: Workers, events: EventLog, files: corpus.Corpus, say: Callable[[str], None]) -> None:
        self.workers = workers
        self.events = events
        self.files = files
        self.say = say
        self.sent: Counter[str] = Counter()
        self.counted: corpus.Counts | None = None
        self.services: dict[str, Process] = {}

    def start(self, names: set[str], logs: Path, environment: Mapping[str, str]) -> None:
        """Starts the other processes, one after the other: a Kafka beside all of them at once would not answer in time."""
        path = os.pathsep.join(each for each in (os.environ.get("PYTHONPATH"), str(BESIDE)) if each)
        for name in sorted(names):
            more = {"PYTHONPATH": path} if name == "flower" else {}
            with ending.held():
                self.services[name] = Process(name, SERVICES[name], {**environment, **more}, logs)
            self.services[name].said("beat: Starting" if name.startswith("beat") else ADDRESS)

    def stop(self) -> None:
        """Ends the other processes."""
        for process in self.services.values():
            process.terminate()
        for process in self.services.values():
            process.wait()

    def kill(self) -> None:
        """Ends those of them that are left."""
        for process in self.services.values():
            process.kill()

    def check(self) -> None:
        """Raises if a process has ended by itself."""
        self.workers.check()
        for process in self.services.values():
            process.check()

    def file(self) -> Path:
        """A file of the input: the longest of the first ones."""
        return max((self.files.root / name for name in self.files.names[:100]), key=lambda path: path.stat().st_size)

    def require(self, holds: object, otherwise: str) -> None:
        """Raises unless something is as it must be."""
        if not holds:
            raise DemoError(otherwise)

    def result(self, waiting: Any, **options: Any) -> Any:
        """Waits for a result, but no longer than the processes live."""
        try:
            # Celery gives the callback an argument if the result has a parent.
            return waiting.get(timeout=PATIENCE, on_interval=lambda *_: self.check(), **options)
        except ResultTimeout:
            raise DemoError(f"a result was still missing after {PATIENCE:.0f} s")

    def until(self, condition: Callable[[], Any], what: str) -> Any:
        """Waits until a condition holds; what it returned."""
        deadline = time.monotonic() + PATIENCE
        while not (found := condition()):
            self.check()
            self.require(time.monotonic() < deadline, f"not within {PATIENCE:.0f} s: {what}")
            time.sleep(0.1)
        return found

    def resumed(self, correlation_id: str, data: Any) -> str:
        """Continues a suspended task, or one that will be; what came of it."""
        answer = kafka_exec.resume(app, correlation_id, data, timeout=REPLY_TIMEOUT)
        self.require(answer.outcome in ("continued", "kept"), f"resume of {correlation_id}: {answer.outcome}")
        return answer.outcome

    def api(self, *path: str, body: Mapping[str, Any] | None = None) -> Any:
        """An answer of the HTTP API. ``path``: below ``/api/kafka``; ``body``: it is an act."""
        url = f"{self.services['api'].address()}/api/kafka/{'/'.join(quote(each, safe='') for each in path)}"
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(url, data, {"Content-Type": "application/json"})
        try:
            with urllib.request.urlopen(request, timeout=PATIENCE) as answer:
                return json.load(answer)
        except urllib.error.HTTPError as error:
            with error:
                raise DemoError(f"{url}: {error.code} {error.read().decode(errors='replace')}")

    def page(self, service: str, path: str) -> str:
        """A page that a process serves."""
        with urllib.request.urlopen(self.services[service].address() + path, timeout=PATIENCE) as answer:
            text: str = answer.read().decode()
        return text

    def history(self, task_id: str, what: str) -> list[dict[str, Any]]:
        """The events of a kind in the history of a task, in order."""
        events = self.api("executions", task_id, "history")
        return [each for each in events["items"] if each["what"] == what]

    def place(self, task_id: str) -> str:
        """The partition and the offset of a task's message."""
        record = self.history(task_id, "sent")[0]
        return f"{record['partition']}:{record['offset']}"

    def kafka(self, *arguments: str) -> list[str]:
        """The lines that ``celery kafka`` prints; it must end well."""
        command = [sys.executable, "-m", "celery", "-A", "celery_app", "kafka", *arguments]
        environment = {**os.environ, "EXAMPLE_BROKER_URL": app.conf.broker_url}
        done = subprocess.run(command, env=environment, capture_output=True, text=True)
        self.require(not done.returncode, f"celery kafka {' '.join(arguments)}: {done.stdout}{done.stderr}")
        return done.stdout.splitlines()


def take(tour: Tour, stops: list[Stop], say: Callable[[str, Seen], None]) -> None:
    """Begins each stop in order, and ends those that have waited after that."""
    waiting = []
    with contextlib.ExitStack() as stack:
        for stop in stops:
            steps = stop.steps(tour)
            stack.callback(_close, steps)
            if _tell(stop, steps, say):
                waiting.append((stop, steps))
        while waiting:
            waiting = [(stop, steps) for stop, steps in waiting if _tell(stop, steps, say)]


def _tell(stop: Stop, steps: Steps, say: Callable[[str, Seen], None]) -> bool:
    """Tells what a stop shows. Returns True if it waits for something."""
    for seen in steps:
        if seen is None:
            return True
        say(stop.feature, seen)
    return False


def _close(steps: Any) -> None:
    steps.close()
