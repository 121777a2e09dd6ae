"""The services of docker/compose.yaml without Docker: each one's command, with its environment, as a process."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import yaml

from tests.integration.workers import PATIENCE, ROOT, WITH_FLOWER

COMPOSE = ROOT / "docker" / "compose.yaml"
SERVICES: dict[str, Any] = yaml.safe_load(COMPOSE.read_text())["services"]
OURS = [name for name, service in SERVICES.items() if service["image"].startswith("kafka-exec-example:")]


def expand(value: str, folder: Path) -> str:
    """The value of a variable of a container. ``folder``: its file system. Variables of the shell are not set."""
    return re.sub(r"\$\{\w+:-(.*?)\}", r"\1", value).replace("/tmp", str(folder))


class Service:
    """A service as a process. Its ports are any that are free.

    Args:
        host: the name of its container's host, of one of several containers of a service.
    """

    def __init__(self, name: str, url: str, folder: Path, host: str = "") -> None:
        self.name = name
        self._log = folder / f"{host or name}.log"
        folder = folder / (host or name)  # each container has a file system of its own
        folder.mkdir()
        told = {key: expand(value, folder) for key, value in SERVICES[name]["environment"].items()}
        image = dict(
            re.findall(r"^ +(\w+)=(\S+?)(?: \\)?$", (ROOT / "docker" / "Dockerfile").read_text(), re.MULTILINE)
        )
        self._env = {**os.environ, **image, **told, "EXAMPLE_BROKER_URL": url, "PYTHONPATH": WITH_FLOWER}
        arguments = [re.sub(r"^--port=\d+$", "--port=0", each) for each in SERVICES[name]["command"]]
        if host:
            arguments.append(f"--hostname=celery@{host}")  # as it calls itself on such a host
        with self._log.open("wb") as output:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "celery", *arguments],
                cwd=ROOT,
                env=self._env,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
            )

    @property
    def is_healthy(self) -> bool:
        """The answer of its health check."""
        assert self._process.poll() is None, self._log.read_text()
        address = re.search(r"(?:Serving metrics on|Visit me at) http://0\.0\.0\.0:(\d+)", self._log.read_text())
        if (check := SERVICES[self.name]["healthcheck"]["test"][1:])[1] == "-c":
            if address is None:
                return False
            url = re.search(r"http://127\.0\.0\.1:\d+(/\w+)", check[2])
            assert url is not None
            with urlopen(f"http://127.0.0.1:{address[1]}{url[1]}", timeout=PATIENCE) as answer:
                return bool(answer.status == 200)
        command = [sys.executable, *check[1:]]
        return subprocess.run(command, cwd=ROOT, env=self._env, timeout=PATIENCE, check=False).returncode == 0

    def end(self) -> None:
        """Stops it as Docker does; it must end by itself, and well."""
        self._process.terminate()
        assert self._process.wait(PATIENCE) == 0, self._log.read_text()

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()


@contextmanager
def service(name: str, url: str, folder: Path, host: str = "") -> Iterator[Service]:
    """A service beside the block."""
    made = Service(name, url, folder, host)
    try:
        yield made
    finally:
        made.kill()
