"""Celery workers as processes, and the file in which their tasks write what they did."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import psutil
from celery import Celery

from kafka_exec.broker import EmbeddedKafka
from kafka_exec.kafka.cluster.cluster import close_all
from tests.integration.app import make_app

ROOT = Path(__file__).resolve().parents[2]
APP = "tests.integration.app:app"

#: The PYTHONPATH of a process with Flower, which lies in a folder of its own (dev).
WITH_FLOWER = f"{ROOT}{os.pathsep}{Path(sys.prefix, 'flower')}"

#: Partitions of the topics of all crews, by kind, where they are not the usual ones.
PARTITIONS: dict[str, int] = {}

#: The crews of this process.
_open: list[Crew] = []

#: How long a condition may take that has no bound of its own, seconds.
PATIENCE = 60.0


def until(condition: Callable[[], Any], timeout: float = PATIENCE, what: str = "") -> Any:
    """Waits until a condition holds; what it returned."""
    deadline = time.monotonic() + timeout
    while not (found := condition()):
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {timeout:.0f} s: {what or condition}")
        time.sleep(0.02)
    return found


class Effect(NamedTuple):
    """A line that a task wrote: it began or ended, where and when."""

    what: str
    task: str
    worker: str
    pid: int
    time: float


class Effects:
    """The effects of tasks, from the lines that they write."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._read = 0
        self._effects: list[Effect] = []

    def all(self, what: str = "end") -> list[Effect]:
        """All that began, or ended, so far."""
        return [effect for effect in self.everything() if effect.what == what]

    def everything(self) -> list[Effect]:
        """All lines so far."""
        if self.path.exists():
            with self.path.open("rb") as file:
                file.seek(self._read)
                # Of a line that is being written the beginning may be there already.
                found = file.read()
            new = found[: found.rfind(b"\n") + 1]
            self._read += len(new)
            for line in new.decode().splitlines():
                kind, task, worker, pid, at = line.split()
                self._effects.append(Effect(kind, task, worker, int(pid), float(at)))
        return self._effects

    def count(self, what: str = "end") -> Counter[str]:
        """The number of times that each task has begun, or ended."""
        return Counter(effect.task for effect in self.all(what))

    def wait_for(self, tasks: Iterable[str], what: str = "end", timeout: float = PATIENCE) -> None:
        """Waits until all these tasks have ended (or begun) at least once."""
        wanted = set(tasks)
        deadline = time.monotonic() + timeout
        while missing := wanted - set(self.count(what)):
            if time.monotonic() > deadline:
                raise AssertionError(
                    f"{len(missing)} of {len(wanted)} tasks have no {what} after {timeout:.0f} s: {sorted(missing)[:5]}"
                )
            time.sleep(0.1)

    def assert_once(self, tasks: Iterable[str], what: str = "end") -> None:
        """Each of these tasks has ended (or begun) exactly once."""
        wanted, count = set(tasks), self.count(what)
        assert {task: count[task] for task in wanted if count[task] != 1} == {}


class Worker:
    """A worker in a process group of its own, its output in a file."""

    app = APP
    root = ROOT
    mingles = False

    def __init__(
        self, name: str, url: str, folder: Path, options: Iterable[str], env: Mapping[str, str], conf: Mapping[str, Any]
    ) -> None:
        self.name = name
        self.node = f"{name}@test"
        self.log = folder / f"{name}.log"
        command = [sys.executable, "-m", "celery", "-A", self.app, *self.command(), "-l", "INFO", *options]
        with self.log.open("ab") as output:
            self._begin = output.tell()  # after what an earlier one of the same name has said
            self.process = subprocess.Popen(
                command,
                cwd=self.root,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                env=environment(url, folder, conf, WORKER=name, **env),
            )

    def command(self) -> list[str]:
        """The arguments of ``celery``. A worker that looks for its neighbours waits a second for their answers."""
        return ["worker", "-n", self.node, *([] if self.mingles else ["--without-mingle"])]

    @property
    def output(self) -> str:
        return self.log.read_bytes()[self._begin :].decode(errors="replace")

    def lines(self, text: str) -> list[str]:
        """The lines of its output with a text."""
        return [line for line in self.output.splitlines() if text in line]

    @property
    def is_alive(self) -> bool:
        return self.process.poll() is None

    def wait_for_line(self, text: str, timeout: float = PATIENCE) -> None:
        """Waits until a text is in the output."""
        deadline = time.monotonic() + timeout
        while text not in self.output:
            assert self.process.poll() is None, f"{self.name} has ended ({self.process.returncode}):\n{self.output}"
            assert time.monotonic() < deadline, f"{self.name} has not said {text!r}:\n{self.output}"
            time.sleep(0.05)

    def processes(self) -> list[psutil.Process]:
        """The worker's parent process and its pool."""
        parent = psutil.Process(self.process.pid)
        return [parent, *parent.children(recursive=True)]

    def cpu(self) -> float:
        """CPU seconds of the parent process so far."""
        times = psutil.Process(self.process.pid).cpu_times()
        return times.user + times.system

    def memory(self) -> float:
        """Megabytes that only the parent process has."""
        return float(psutil.Process(self.process.pid).memory_full_info().uss) / 1e6

    def terminate(self) -> None:
        """SIGTERM: a warm shutdown."""
        self.process.send_signal(signal.SIGTERM)

    def wait(self, timeout: float = PATIENCE) -> int:
        """The exit status; an error shows the log."""
        try:
            return self.process.wait(timeout)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"{self.name} has not ended within {timeout:.0f} s:\n{self.output[-5000:]}") from None

    def stop(self, timeout: float = PATIENCE) -> None:
        """A warm shutdown that must succeed."""
        self.terminate()
        code = self.wait(timeout)
        assert code == 0, f"{self.name} has ended with {code}:\n{self.output[-5000:]}"

    def kill(self) -> None:
        """SIGKILL for the whole process group, if anything of it is left."""
        try:
            os.killpg(self.process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        self.process.wait(PATIENCE)


class MinglingWorker(Worker):
    """A worker that learns from its neighbours what was revoked."""

    mingles = True


class Beat(Worker):
    """A beat, likewise."""

    def command(self) -> list[str]:
        return ["beat", "-S", "kafka-exec", "--pidfile", ""]

    def signal(self, number: signal.Signals) -> None:
        """Sends a signal."""
        self.process.send_signal(number)


def environment(url: str, folder: Path, conf: Mapping[str, Any] | None = None, **more: str) -> dict[str, str]:
    """The environment of a process that imports the tests' app; without a URL Celery's command is told none."""
    return {
        **{key: value for key, value in os.environ.items() if not key.startswith("CELERY")},
        **({"BROKER_URL": url} if url else {}),
        "EFFECTS": str(folder / "effects"),
        "CELERY_CONF": json.dumps(conf or {}),
        "PYTHONPATH": str(ROOT),
        **more,
    }


class Crew:
    """Workers of one app on topics of their own, with this process as their client.

    Args:
        backend: the URL of the result back end; ``same``: as the broker's.
        url: of the broker, if it is not just the Kafka's with a prefix of its own.
        conf: settings of the app, beside :data:`PARTITIONS`.

    Attributes:
        app: the client's app; has the same tasks.
        effects: what the workers' tasks have done.
    """

    def __init__(
        self, kafka: EmbeddedKafka, folder: Path, backend: str | None = None, url: str | None = None, **conf: Any
    ) -> None:
        self.kafka = kafka
        self.folder = folder
        self.url = url or f"{kafka.url}/w{uuid.uuid4().hex[:8]}"
        self.prefix = self.url.rpartition("/")[2]
        self.backend = self.url if backend == "same" else backend
        self.conf = {**conf, "kafka_exec_partitions": {**PARTITIONS, **conf.get("kafka_exec_partitions", {})}}
        self.app: Celery = make_app(self.url, self.backend, **self.conf)
        self.effects = Effects(folder / "effects")
        self.workers: list[Worker] = []

    @property
    def env(self) -> dict[str, str]:
        """The variables that the app needs in the environment of another process, beside :func:`environment`."""
        return {"RESULT_BACKEND": self.backend} if self.backend else {}

    def start(
        self,
        name: str,
        *options: str,
        env: Mapping[str, str] | None = None,
        kind: type[Worker] = Worker,
        **conf: Any,
    ) -> Worker:
        """Starts a worker, and does not wait for it."""
        worker = kind(name, self.url, self.folder, options, {**self.env, **(env or {})}, {**self.conf, **conf})
        self.workers.append(worker)
        return worker

    def start_beat(self, name: str, *options: str, env: Mapping[str, str] | None = None, **conf: Any) -> Beat:
        """Starts a beat, and does not wait for it."""
        beat = Beat(name, self.url, self.folder, options, {**self.env, **(env or {})}, {**self.conf, **conf})
        self.workers.append(beat)
        return beat

    def ready(self, *workers: Worker, queue: str | None = "celery") -> None:
        """Waits until workers consume, and the group of all workers has shared out a queue's partitions."""
        for worker in workers:
            worker.wait_for_line(" ready.")
        if queue is not None:
            alive = [worker for worker in self.workers if worker.is_alive]
            self.shared_out(queue, len(alive))

    def shared_out(self, queue: str, members: int) -> None:
        """Waits until a queue's consumer group has so many members and each has its share of the partitions."""
        admin = self.kafka.admin()
        group = f"{self.prefix}.queue.{queue}"

        def is_shared_out() -> bool:
            found = admin.describe_consumer_groups([group])[group].result(10)
            shares = [len(m.assignment.topic_partitions) if m.assignment else 0 for m in found.members]
            return len(shares) == members and max(shares) - min(shares) <= 1 and min(shares) > 0

        until(is_shared_out, what=f"{members} members of {group} with a share each")

    def backlog(self, queue: str = "celery") -> int:
        """The number of a queue's unfinished messages: those of the broker, minus those that the group has committed."""
        with self.app.connection_for_read() as connection:
            return int(connection.default_channel.queue_declare(queue, passive=True).message_count)

    def send(self, task: str, *args: Any, number: int = 1, **options: Any) -> list[str]:
        """Publishes a task so many times; the ids."""
        ids = [f"{task}-{uuid.uuid4().hex[:12]}" for _ in range(number)]
        with self.app.producer_or_acquire() as producer:
            for task_id in ids:
                self.app.tasks[task].apply_async(args, task_id=task_id, producer=producer, **options)
        return ids

    def gate(self) -> Path:
        """A file that does not exist; tasks that hold until it does."""
        return self.folder / f"gate-{uuid.uuid4().hex[:8]}"

    def command(self, *arguments: str, timeout: float = PATIENCE) -> str:
        """Runs ``celery -A app …`` to its end, which must be well; its output."""
        done = self.run(*arguments, timeout=timeout)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def run(self, *arguments: str, timeout: float = PATIENCE) -> subprocess.CompletedProcess[str]:
        """Runs ``celery -A app …`` to its end."""
        return subprocess.run(
            [sys.executable, "-m", "celery", "-A", APP, *arguments],
            cwd=ROOT,
            env=environment(self.url, self.folder, self.conf, **self.env),
            capture_output=True,
            text=True,
            timeout=timeout,
        )


@contextmanager
def crew(
    kafka: EmbeddedKafka, folder: Path, backend: str | None = None, url: str | None = None, **conf: Any
) -> Iterator[Crew]:
    """A :class:`Crew`; at the end no process of it is left, and with the last one that is open all clients end."""
    made = Crew(kafka, folder, backend, url, **conf)
    _open.append(made)
    try:
        yield made
    finally:
        for worker in made.workers:
            worker.kill()
        made.app.close()
        _open.remove(made)
        if not _open:
            close_all()
