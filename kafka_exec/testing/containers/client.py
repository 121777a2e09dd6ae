"""A stand-in for Docker's client, as far as pytest-celery uses one: its containers are processes of this machine.

A container of Kafka's image is an embedded Kafka, which all of them share. Any other container runs its command here, with
the interpreter and packages of the tests, in the folder of its volume; images are not built.
"""

from __future__ import annotations

import shutil
import tarfile
import tempfile
import uuid
from collections.abc import Iterable
from pathlib import Path
from typing import IO, Any

from kafka_exec.broker import EmbeddedKafka
from kafka_exec.testing.brokers import start
from kafka_exec.testing.containers.kafka import IMAGE
from kafka_exec.testing.containers.process import Container, KafkaProcess, Process

#: MB: memory for the topics of all tests.
_HEAP = 1024


class Image:
    """An image, which is only a name. Docker's client calls the name an id."""

    def __init__(self, name: str) -> None:
        self.id = name


class Images:
    """The images of the client."""

    def build(self, **options: Any) -> tuple[Image, list[Any]]:
        """The image, and the log of making it, which is empty."""
        return Image(str(options.get("tag") or options.get("path"))), []

    def pull(self, repository: str, **options: Any) -> Image:
        """The image of a repository."""
        return Image(repository)

    def get(self, name: str) -> Image:
        """The image of a name."""
        return Image(name)


class Network:
    """A network, which is only a name: all processes are in that of the machine."""

    def __init__(self, name: str) -> None:
        self.name = name

    def remove(self) -> None:
        """Nothing is left to remove."""


class Networks:
    """The networks of the client."""

    def create(self, name: str, **options: Any) -> Network:
        """A network."""
        return Network(name)


class Volume:
    """A volume: a folder."""

    def __init__(self, name: str, folder: Path) -> None:
        self.name = name
        self.folder = folder

    def remove(self, force: bool = False) -> None:
        """Deletes the folder."""
        shutil.rmtree(self.folder, ignore_errors=True)


class Volumes:
    """The volumes of the client, by name. ``folder``: for their folders."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._volumes: dict[str, Volume] = {}

    def create(self, name: str, **options: Any) -> Volume:
        """A new volume."""
        folder = self._folder / uuid.uuid4().hex
        folder.mkdir(parents=True)
        return self._volumes.setdefault(name, Volume(name, folder))

    def folder(self, names: Iterable[str]) -> Path:
        """The folder of the first of some volumes; of none a new one."""
        known = (self._volumes[name].folder for name in names if name in self._volumes)
        return next(known, None) or self.create(uuid.uuid4().hex).folder


class Filler:
    """A container that is never run: files are put into its volume through it."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def put_archive(self, path: str, data: IO[bytes]) -> bool:
        """Unpacks an archive into the volume, wherever that is bound."""
        with tarfile.open(fileobj=data) as archive:
            archive.extractall(self._folder, filter="data")
        return True

    def remove(self, **options: Any) -> None:
        """Nothing is left to remove."""


class Containers:
    """The containers of the client."""

    def __init__(self, volumes: Volumes) -> None:
        self._volumes = volumes
        self._kafka: EmbeddedKafka | None = None
        self._made: list[Container] = []

    def create(self, image: str, volumes: dict[str, Any] | None = None, **options: Any) -> Filler:
        """A container that is not run."""
        return Filler(self._volumes.folder(volumes or ()))

    def run(
        self,
        image: str,
        command: list[str] | None = None,
        environment: dict[str, str] | None = None,
        volumes: dict[str, Any] | None = None,
        name: str | None = None,
        labels: dict[str, str] | None = None,
        ports: dict[str, Any] | None = None,
        **options: Any,
    ) -> Container:
        """Runs a container."""
        made: Container
        if image.startswith(IMAGE):
            made = KafkaProcess(self._shared_kafka(), name, labels)
        else:
            folder = self._volumes.folder(volumes or ())
            made = Process(command or [], environment or {}, folder, name, labels, ports or ())
        self._made.append(made)
        return made

    def _shared_kafka(self) -> EmbeddedKafka:
        if self._kafka is None:
            self._kafka = EmbeddedKafka(heap=_HEAP)
        start(self._kafka)  # anew, if a test has killed it
        return self._kafka

    def close(self) -> None:
        """Ends all processes."""
        for each in self._made:
            each.remove()
        if self._kafka is not None:
            self._kafka.close()


class ProcessClient:
    """The client. It ends all that it has started when it is left as a context manager."""

    def __init__(self) -> None:
        self._folder = Path(tempfile.mkdtemp(prefix="kafka-exec-containers-"))
        self.images = Images()
        self.networks = Networks()
        self.volumes = Volumes(self._folder)
        self.containers = Containers(self.volumes)

    def __enter__(self) -> ProcessClient:
        return self

    def __exit__(self, *error: object) -> None:
        self.containers.close()
        shutil.rmtree(self._folder, ignore_errors=True)
