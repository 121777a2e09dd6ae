"""Workers as processes, publishers under load and the file of effects, for the tests that break things."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
from celery import Celery
from confluent_kafka import OFFSET_BEGINNING, Consumer, Message, TopicPartition
from kombu.exceptions import OperationalError

from kafka_exec.broker import EmbeddedKafka

ROOT = Path(__file__).resolve().parents[2]
PATIENCE = 60.0
APP = "tests.integration.fault_app:app"


def until(condition: Callable[[], Any], timeout: float = PATIENCE, what: str = "") -> Any:
    """Waits until a condition holds; what it returned."""
    deadline = time.monotonic() + timeout
    while not (found := condition()):
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {timeout:.0f} s: {what or condition}")
        time.sleep(0.05)
    return found


class Effects:
    """The effects of tasks, from the lines that they write."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def lines(self) -> list[tuple[float, str, str, int]]:
        """(time, task id, begin or end, process) of each line."""
        if not self.path.exists():
            return []
        found = [line.split() for line in self.path.read_text().rpartition("\n")[0].splitlines()]
        return [(float(at), task_id, what, int(pid)) for at, task_id, what, pid in found]

    def count(self, what: str = "end") -> Counter[str]:
        """The number of times that each task has begun, or ended."""
        return Counter(task_id for _, task_id, kind, _ in self.lines() if kind == what)

    def first(self, what: str, after: float) -> float | None:
        """The time of the first such line after a time (epoch seconds)."""
        return next((at for at, _, kind, _ in self.lines() if kind == what and at >= after), None)

    def wait_for(self, ids: set[str], timeout: float = PATIENCE) -> None:
        """Waits until all these tasks have ended at least once."""
        try:
            until(lambda: ids <= set(self.count()), timeout)
        except AssertionError:
            missing = ids - set(self.count())
            raise AssertionError(f"{len(missing)} of {len(ids)} tasks lost: {sorted(missing)[:5]}") from None


def read(kafka: EmbeddedKafka, topic: str, count: int) -> list[Message]:
    """So many records of a topic."""
    consumer = Consumer({**kafka.client_config(), "group.id": "reader", "enable.auto.commit": False})
    found: list[Message] = []

    def more() -> bool:
        if topic in consumer.list_topics(timeout=5).topics and not consumer.assignment():
            number = len(consumer.list_topics(topic, timeout=5).topics[topic].partitions)
            consumer.assign([TopicPartition(topic, n, OFFSET_BEGINNING) for n in range(number)])
        found.extend(record for record in consumer.consume(5000, 0.2) if record.error() is None)
        return len(found) >= count

    until(more, what=f"{count} records in {topic}")
    consumer.close()
    return found


def environment(url: str, effects: Effects, conf: Mapping[str, Any]) -> dict[str, str]:
    """The environment of a process that imports the tests' app."""
    return {
        **{key: value for key, value in os.environ.items() if not key.startswith("CELERY")},
        "BROKER_URL": url,
        "EFFECTS": str(effects.path),
        "CELERY_CONF": json.dumps(conf),
        "PYTHONPATH": str(ROOT),
    }


class Worker:
    """A worker in a process group of its own, its output in a file."""

    def __init__(self, url: str, effects: Effects, name: str, *options: str, **conf: Any) -> None:
        self.name = name
        self.log = effects.path.with_name(f"{name}-{time.monotonic_ns()}.log")
        command = [sys.executable, "-m", "celery", "-A", APP, "worker", "-n", f"{name}@test", "--without-mingle"]
        with self.log.open("wb") as output:
            self.process = subprocess.Popen(
                [*command, "-l", "INFO", *(options or ("-c", "2"))],
                cwd=ROOT,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                env=environment(url, effects, conf),
            )
        self.parent = psutil.Process(self.process.pid)

    @property
    def output(self) -> str:
        return self.log.read_text(errors="replace")

    def lines(self, text: str) -> list[str]:
        """The lines of its output with a text."""
        return [line for line in self.output.splitlines() if text in line]

    @property
    def is_alive(self) -> bool:
        return self.process.poll() is None

    def wait_for(self, text: str, timeout: float = PATIENCE) -> None:
        """Waits for a line."""

        def found() -> bool:
            assert self.is_alive or text in self.output, f"{self.name} has ended:\n{self.output}"
            return text in self.output

        try:
            until(found, timeout)
        except AssertionError as error:
            raise AssertionError(
                f"{self.name} has not said {text!r} in {timeout:.0f} s ({error}):\n{self.output}"
            ) from None

    def wait_until_ready(self) -> None:
        self.wait_for(" ready.")

    def cpu(self) -> float:
        """CPU seconds of the parent process so far."""
        times = self.parent.cpu_times()
        return times.user + times.system

    def kill(self) -> None:
        """SIGKILL for the whole process group."""
        if self.is_alive:
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait(PATIENCE)

    def terminate(self) -> None:
        """SIGTERM for the parent: a warm shutdown."""
        self.process.terminate()

    def wait(self, timeout: float = PATIENCE) -> int:
        return self.process.wait(timeout)


@contextmanager
def workers() -> Iterator[Callable[..., Worker]]:
    """Starts workers; all that still live at the end are killed."""
    started: list[Worker] = []

    def start(*args: Any, **kwargs: Any) -> Worker:
        started.append(Worker(*args, **kwargs))
        return started[-1]

    try:
        yield start
    finally:
        for worker in started:
            worker.kill()


class Load:
    """Publishes tasks from a thread until it is stopped: one confirmed publish after another, with a pause between."""

    def __init__(self, app: Celery, seconds: float = 0.0, pause: float = 0.01) -> None:
        self.confirmed: dict[str, float] = {}
        self.uncertain: dict[str, BaseException] = {}
        self.unexpected: list[BaseException] = []
        self.slowest = 0.0
        self._app = app
        self._seconds = seconds
        self._pause = pause
        self._number = 0
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Load:
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._stopping.set()
        self._thread.join(PATIENCE)
        assert not self._thread.is_alive(), "a publisher hangs"

    def _run(self) -> None:
        while not self._stopping.wait(self._pause):
            self._number += 1
            task_id = f"task-{id(self):x}-{self._number}"
            began = time.monotonic()
            try:
                self._app.tasks["work"].apply_async((self._seconds,), task_id=task_id)
                self.confirmed[task_id] = time.time()
            except OperationalError as error:
                self.uncertain[task_id] = error
            except BaseException as error:
                self.unexpected.append(error)
                return
            self.slowest = max(self.slowest, time.monotonic() - began)

    def wait_for(self, number: int) -> None:
        """Waits until so many more tasks were confirmed."""
        wanted = len(self.confirmed) + number
        until(lambda: len(self.confirmed) >= wanted or self.unexpected, what=f"{number} more published tasks")
