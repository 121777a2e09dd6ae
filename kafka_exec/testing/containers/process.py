"""Containers that are processes: what pytest-celery asks of Docker's containers."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import sys
import time
import uuid
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from kafka_exec.broker import EmbeddedKafka
from kafka_exec.testing.containers.commands import RunningCommand, start
from kafka_exec.testing.containers.kafka import ADVERTISED, READY, advertised, prefix_of

#: How long sending a signal takes, as with Docker, seconds: of two that come at once the process would see one.
_SIGNAL = 0.2

#: A process ends within so many seconds after SIGKILL.
_KILL_TIMEOUT = 10.0

#: How long the list of topics may take, seconds.
_ADMIN_TIMEOUT = 10.0

#: The address of all containers.
HOST = "127.0.0.1"

RUNNING, EXITED = "running", "exited"


class Container(ABC):
    """A container.

    Args:
        env: its variables.
        ports: those that it publishes, as ``6379/tcp``.
    """

    def __init__(
        self, name: str | None, labels: Mapping[str, str] | None, env: Mapping[str, Any], ports: Iterable[str] = ()
    ) -> None:
        self.id = uuid.uuid4().hex
        self.name = name or f"process-{self.id[:12]}"
        self.labels = dict(labels or {})
        self._env = {variable: str(value) for variable, value in env.items()}
        self._ports = tuple(ports)

    @property
    @abstractmethod
    def status(self) -> str:
        """``"running"`` or ``"exited"``."""

    @property
    def exit_code(self) -> int:
        """The status with which it has ended, as Docker has it: 137 after SIGKILL; 0 as long as it runs."""
        return 0

    @property
    def attrs(self) -> dict[str, Any]:
        """The facts that Docker tells of a container. Its ports are those of the machine."""
        published = {port: [{"HostIp": HOST, "HostPort": port.partition("/")[0]}] for port in self._ports}
        return {
            "Config": {
                "Hostname": HOST,
                "Env": [f"{name}={value}" for name, value in self._env.items()],
                "Labels": self.labels,
            },
            "NetworkSettings": {"Networks": {"host": {"IPAddress": HOST}}, "Ports": published},
            "HostConfig": {"PortBindings": {}},
            "State": {"Status": self.status, "ExitCode": self.exit_code},
        }

    def reload(self) -> None:  # noqa: B027 - nothing is kept that could be old
        """All that is told is of now."""

    @abstractmethod
    def logs(self, **options: Any) -> bytes:
        """All that it has written."""

    @abstractmethod
    def kill(self, how: str | int | None = None) -> None:
        """Sends a signal, SIGKILL by default; after that it returns when nothing of the container is left."""

    @abstractmethod
    def restart(self, timeout: float = 10) -> None:
        """Ends it with SIGTERM, after ``timeout`` seconds with SIGKILL, and starts it again."""

    @abstractmethod
    def remove(self, **options: Any) -> None:
        """Ends it."""

    def wait(self, **options: Any) -> dict[str, int]:
        """The status with which it has ended; it has, when it was killed or removed."""
        return {"StatusCode": self.exit_code}


class KafkaProcess(Container):
    """A container of Kafka: an embedded Kafka, which others may use too."""

    def __init__(self, kafka: EmbeddedKafka, name: str | None, labels: Mapping[str, str] | None) -> None:
        address = kafka.bootstrap_servers
        super().__init__(name, labels, {ADVERTISED: advertised(address, address)})
        self._kafka = kafka

    @property
    def status(self) -> str:
        return RUNNING if self._kafka.running() else EXITED

    def logs(self, **options: Any) -> bytes:
        # The Kafka outlasts the container: its log may have been rolled, perhaps often, since it said that it is ready.
        ready = f"{READY}\n".encode() if self._kafka.running() else b""
        return ready + self._kafka.log_file().read_bytes()

    def kill(self, how: str | int | None = None) -> None:
        if _number(how) == signal.SIGTERM:
            self._kafka.stop()
        else:
            self._kafka.kill()

    def restart(self, timeout: float = 10) -> None:
        self._kafka.stop(timeout=timeout)
        self._kafka.start()

    def remove(self, **options: Any) -> None:
        """Deletes the container's topics; the Kafka stays for the next one."""
        if self._kafka.running():
            admin = self._kafka.admin()
            names = admin.list_topics(timeout=_ADMIN_TIMEOUT).topics
            ours = [name for name in names if name.startswith(f"{prefix_of(self.id)}.")]
            for deleted in admin.delete_topics(ours).values() if ours else ():
                deleted.result()


class Process(Container):
    """A container that runs a command.

    Args:
        command: in it ``%h`` stands for the name that Docker would give the container's host.
        folder: where it runs, and from where it imports.
    """

    def __init__(
        self,
        command: Sequence[str | None],
        env: Mapping[str, Any],
        folder: Path,
        name: str | None,
        labels: Mapping[str, str] | None,
        ports: Iterable[str],
    ) -> None:
        super().__init__(name, labels, env, ports)
        # pytest-docker-tools makes None of an empty text.
        self._command = [(each or "").replace("%h", self.id[:12]) for each in command]
        self._folder = folder
        self._log = folder / f".{self.id}.log"
        self._process = self._start()

    @property
    def environment(self) -> dict[str, str]:
        """The variables of its processes: their ``python`` and ``celery`` are those of the tests."""
        path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
        importable = os.pathsep.join([str(self._folder), *(each for each in sys.path if each)])
        return {**os.environ, **self._env, "PATH": path, "PYTHONPATH": importable}

    def _start(self) -> RunningCommand:
        return start(self._command, self._folder, self.environment, self._log)

    @property
    def status(self) -> str:
        return RUNNING if self._process.poll() is None else EXITED

    @property
    def exit_code(self) -> int:
        code = self._process.poll() or 0
        return code if code >= 0 else 128 - code

    def logs(self, **options: Any) -> bytes:
        return self._log.read_bytes()

    def kill(self, how: str | int | None = None) -> None:
        if (number := _number(how)) == signal.SIGKILL:
            self.remove()
        else:
            with suppress(ProcessLookupError):
                os.kill(self._process.pid, number)
            time.sleep(_SIGNAL)

    def restart(self, timeout: float = 10) -> None:
        self.kill(signal.SIGTERM)
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(timeout)
        self.remove()
        self._process = self._start()

    def remove(self, **options: Any) -> None:
        """Ends the whole process group, as the end of its first process ends a container."""
        for end in (os.killpg, os.kill):  # a process that was started just now leads no group yet
            with suppress(ProcessLookupError):
                end(self._process.pid, signal.SIGKILL)
        self._process.wait(_KILL_TIMEOUT)

    def exec_run(self, command: str | list[str], **options: Any) -> tuple[int, bytes]:
        """Runs a further command in the container; its status, and what it has written."""
        done = subprocess.run(
            shlex.split(command) if isinstance(command, str) else command,
            cwd=self._folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=self.environment,
        )
        return done.returncode, done.stdout


def _number(name: str | int | None) -> int:
    """The number of a signal, from its name, its number, or None: SIGKILL."""
    if name is None:
        return signal.SIGKILL
    return int(name) if isinstance(name, int) or name.isdecimal() else signal.Signals[name]
