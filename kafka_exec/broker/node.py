"""One node of the embedded broker: a folder, a configuration and a Java process."""

from __future__ import annotations

import fcntl
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import IO

from kafka_exec.broker import guard, settings
from kafka_exec.broker.errors import BrokerError, BrokerNotRunning, BrokerStartFailed, DataInUse, PortUnavailable
from kafka_exec.broker.install import java
from kafka_exec.broker.ports import NodeAddress

#: An error shows so many lines of the log, without the frames of Java's tracebacks.
LOG_LINES = 20
JAVA_FRAME = "\t"

#: A socket and a lock are tried this often; a killed process must end, and a lock be free, within these times; seconds.
POLL = 0.02
KILL_TIMEOUT = 10.0
CLAIM_TIMEOUT = 3.0


class BrokerNode:
    """One Kafka process, started and ended by a guard (see guard.py)."""

    def __init__(self, number: int, folder: Path, address: NodeAddress) -> None:
        self.number = number
        self.folder = folder
        self.address = address
        self._guard: subprocess.Popen[bytes] | None = None
        self._claim: IO[str] | None = None
        self._lock = threading.Lock()
        self._pid = 0

    @property
    def data(self) -> Path:
        """The folder of Kafka's records."""
        return self.folder / "data"

    @property
    def log_file(self) -> Path:
        """The file of Kafka's log."""
        return self.folder / "broker.log"

    @property
    def _output_file(self) -> Path:
        return self.folder / "output.log"

    @property
    def _properties_file(self) -> Path:
        return self.folder / "server.properties"

    @property
    def running(self) -> bool:
        """True if the Java process lives."""
        return self._guard is not None and self._guard.poll() is None

    @property
    def pid(self) -> int:
        """The process id of the Java process.

        Raises:
            BrokerNotRunning: the process does not live.
        """
        if not self.running:
            raise BrokerNotRunning
        return self._pid

    def claim(self) -> None:
        """Locks the folder for this node's next process; the lock ends with that process.

        Raises:
            DataInUse: another process has the lock.
        """
        self.wait(0)
        self.folder.mkdir(parents=True, exist_ok=True)
        self._claim = (self.folder / "lock").open("w")
        deadline = time.monotonic() + CLAIM_TIMEOUT
        while True:
            try:
                return fcntl.flock(self._claim, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                # The lock of a program that was just killed lasts until its guard has ended.
                if time.monotonic() > deadline:
                    raise DataInUse(self.folder.parent) from None
                time.sleep(POLL)

    def configure(self, values: dict[str, str]) -> None:
        """Writes the configuration files."""
        settings.write_properties(self._properties_file, values)
        settings.write_properties(self.folder / "log4j2.properties", settings.logging_properties(self.log_file))

    def format(self, runtime: Path, jars: Path, archive: tuple[str, ...], cluster: str) -> None:
        """Formats the storage for a cluster id, unless that was done before.

        Args:
            archive: the options of Java that use the start-up archive.

        Raises:
            BrokerStartFailed: Kafka's tool failed.
        """
        if (self.data / "meta.properties").exists():
            return
        # An id may begin with a dash: only in this form the tool takes it for a value.
        arguments = ("format", f"--cluster-id={cluster}", f"--config={self._properties_file}", "--ignore-formatted")
        done = subprocess.run(
            java.command(runtime, jars, "kafka.tools.StorageTool", *arguments, options=(*archive, *java.SHORT_RUN)),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            text=True,
        )
        if done.returncode:
            raise BrokerStartFailed("the storage could not be formatted", done.stdout.strip())

    def launch(self, runtime: Path, jars: Path, options: tuple[str, ...], remove: Path | None) -> None:
        """Starts the Java process; it does not answer yet.

        Args:
            options: options of Java.
            remove: the folder that the guard removes if this process ends first; None: no folder.
        """
        # The log is of this start only: its end explains a failure.
        self.log_file.unlink(missing_ok=True)
        self._output_file.unlink(missing_ok=True)
        log_options = (f"-Dlog4j2.configurationFile={self.folder / 'log4j2.properties'}", "-XX:+ExitOnOutOfMemoryError")
        kafka = java.command(runtime, jars, "kafka.Kafka", str(self._properties_file), options=(*options, *log_options))
        script = [sys.executable, "-I", "-S", guard.__file__]
        arguments = [str(os.getpid()), str(self._output_file), str(remove or "")]
        assert self._claim
        self._guard = subprocess.Popen(
            [*script, *arguments, *kafka],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            # The terminal's Ctrl-C does not reach a session of its own: it would end Kafka before its clients.
            start_new_session=True,
            # The lock lasts until the last process that has the file open is gone.
            pass_fds=[self._claim.fileno()],
        )
        self.release()
        assert self._guard.stdout
        self._pid = int(self._guard.stdout.readline() or 0)

    def release(self) -> None:
        """Closes this process's handle of the lock."""
        if self._claim:
            self._claim.close()
            self._claim = None

    def wait_for_socket(self, deadline: float) -> None:
        """Waits until the client port is open.

        Raises:
            BrokerStartFailed, PortUnavailable: see :meth:`check_alive`.
        """
        while True:
            self.check_alive(deadline)
            try:
                socket.create_connection((self.address.host, self.address.port), timeout=1).close()
                return
            except OSError:
                time.sleep(POLL)

    def check_alive(self, deadline: float) -> None:
        """Makes sure that the process lives and the deadline, by the monotonic clock, is not over.

        Raises:
            PortUnavailable: the process has ended because its port is in use.
            BrokerStartFailed: the process has ended for another reason, or the time is over.
        """
        if self.running and time.monotonic() < deadline:
            return
        log = self.log()
        if self.running:
            raise BrokerStartFailed(f"node {self.number} did not answer in time", log)
        if "BindException" in log or "NodeAddress already in use" in log:
            raise PortUnavailable(self.address.host, self.address.port, "in use")
        raise BrokerStartFailed(f"node {self.number} ended while it was starting", log)

    def log(self) -> str:
        """The last lines that the process has written; only those above INFO if there are any."""
        lines: list[str] = []
        for path in (self._output_file, self.log_file):
            if path.exists():
                text = path.read_text(encoding="utf-8", errors="replace")
                lines += [line for line in text.splitlines() if not line.startswith(JAVA_FRAME)]
        important = [line for line in lines if " INFO " not in line]
        return "\n".join((important or lines)[-LOG_LINES:])

    def signal(self, number: signal.Signals) -> None:
        """Sends a signal to the Java process; returns when it was sent.

        Raises:
            BrokerNotRunning: the process does not live.
        """
        with self._lock:
            process = self._guard
            if process is None or process.poll() is not None:
                raise BrokerNotRunning
            assert process.stdin
            assert process.stdout
            try:
                os.write(process.stdin.fileno(), bytes([number]))
                os.read(process.stdout.fileno(), 1)
            except BrokenPipeError:
                raise BrokerNotRunning from None

    def wait(self, timeout: float) -> bool:
        """Waits for the end of the process, ``timeout`` seconds at most. False: it still runs."""
        if self._guard is None:
            return True
        try:
            self._guard.wait(timeout)
        except subprocess.TimeoutExpired:
            return False
        for pipe in (self._guard.stdin, self._guard.stdout):
            assert pipe
            pipe.close()
        self._guard = None
        return True

    def kill(self) -> None:
        """Ends the process with SIGKILL, as a power cut would, and waits until it is gone.

        Raises:
            BrokerError: the process does not end.
        """
        with suppress(BrokerNotRunning):
            self.signal(signal.SIGKILL)
        if not self.wait(KILL_TIMEOUT):
            raise BrokerError(f"the Java process {self._pid} of node {self.number} does not end: look into it by hand")
