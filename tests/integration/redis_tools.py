"""A Redis for tests: the server if the machine has one, else a stand-in in Python, each as a process on a free port.

Run as a module it is the stand-in: ``python -m tests.integration.redis_tools PORT [PASSWORD]``.
"""

from __future__ import annotations

import shutil
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import redis

from tests.integration.workers import ROOT, until


class RedisServer:
    """In memory only: what is stopped has lost all, what is paused has not."""

    def __init__(self, folder: Path, password: str = "") -> None:
        with socket.socket() as listener:
            listener.bind(("127.0.0.1", 0))
            self._port = listener.getsockname()[1]
        self._log = folder / "redis.log"
        self._password = password
        self._process: subprocess.Popen[bytes] | None = None
        self.client = redis.Redis.from_url(self.url, protocol=2)
        self.start()

    @property
    def url(self) -> str:
        return self.url_with(self._password)

    def url_with(self, password: str) -> str:
        return f"redis://{f':{password}@' if password else ''}127.0.0.1:{self._port}/0"

    def _command(self) -> list[str]:
        if (program := shutil.which("redis-server")) is None:
            return [sys.executable, "-m", __name__, str(self._port), self._password]
        options = ["--port", str(self._port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]
        return [program, *options, *(["--requirepass", self._password] if self._password else [])]

    def start(self) -> None:
        """Starts it, empty, and waits until it answers."""
        with self._log.open("ab") as output:
            self._process = subprocess.Popen(
                self._command(), cwd=ROOT, stdin=subprocess.DEVNULL, stdout=output, stderr=output
            )
        until(self._answers, what=f"Redis answers; see {self._log}")

    def _answers(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, self._log.read_text()
        try:
            return bool(self.client.ping())
        except redis.ConnectionError:
            return False

    def stop(self) -> None:
        """Ends it, if it runs."""
        self.client.close()
        if self._process is not None:
            self._process.kill()
            self._process.wait(10)
            self._process = None

    def signal(self, number: signal.Signals) -> None:
        assert self._process is not None
        self._process.send_signal(number)

    def names(self, what: str) -> list[str]:
        """The keys that end so."""
        found: Any = self.client.keys(f"kafka_exec:*:{what}")
        return sorted(name.decode() for name in found)


def main(port: str, password: str = "") -> None:
    from fakeredis import TcpFakeServer

    TcpFakeServer.allow_reuse_address = True
    server = TcpFakeServer(("127.0.0.1", int(port)), server_type="redis")
    if password:
        server.fake_server.config[b"requirepass"] = password.encode()
    server.serve_forever()


if __name__ == "__main__":
    main(*sys.argv[1:])
