"""Kafka's libraries: resolved and downloaded once by jgo, then kept for every later start."""

from __future__ import annotations

import fcntl
import logging
import os
import shutil
import zipfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from kafka_exec.broker.errors import BrokerNotInstalled, FolderNotWritable, RegistryUnreachable

KAFKA_VERSION = "4.3.1"
KAFKA = ("org.apache.kafka", "kafka_2.13", KAFKA_VERSION)
LOG4J = "org.apache.logging.log4j"

#: A download is tried so many times.
ATTEMPTS = 3
PARALLEL_DOWNLOADS = 4

Result = TypeVar("Result")

#: A function that is called with the name of a step, the number of its parts that are done, and of all its parts.
Progress = Callable[[str, int, int], None]

#: The steps of a start; the first two only if they were never done on this machine.
STEPS = ("download", "archive", "format", "start")

logger = logging.getLogger(__name__)


def cache_folder() -> Path:
    """The folder of the libraries: ``kafka_exec`` in the user's cache folder."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "kafka_exec"


def libraries(on_progress: Progress) -> Path:
    """The folder with Kafka's jar files, downloaded first if it is missing (46 MB, about 20 s).

    Several processes may call it at once: the others wait. An interrupted download begins anew.

    Raises:
        RegistryUnreachable: the registry does not answer.
        FolderNotWritable: the cache folder cannot be written.
        BrokerNotInstalled: a package that downloads is missing.
    """
    cache = cache_folder()
    folder = cache / f"kafka-{KAFKA_VERSION}"
    if folder.is_dir():
        return folder
    try:
        cache.mkdir(parents=True, exist_ok=True)
        with locked(cache / "download.lock"):
            if not folder.is_dir():
                # The folder gets its name when it is complete, so a process that sees it may use it.
                _download(cache / "unfinished", on_progress).rename(folder)
            shutil.rmtree(cache / "unfinished", ignore_errors=True)
    except OSError as error:
        raise FolderNotWritable(cache, error.strerror or str(error)) from error
    return folder


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Waits until no other process is in the block with this lock file."""
    with path.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _download(scratch: Path, on_progress: Progress) -> Path:
    """Downloads all files to the folder ``scratch`` and returns the folder of the jar files in it."""
    try:
        import requests
        from jgo.maven import MavenContext
    except ImportError as error:
        raise BrokerNotInstalled(error.name or "jgo") from error
    # jgo takes a file that it finds for a complete one, even if its download was cut off: so old files are removed.
    repository, jars = scratch / "repository", scratch / "jars"
    shutil.rmtree(scratch, ignore_errors=True)
    jars.mkdir(parents=True)
    context = MavenContext(repo_cache=repository)
    on_progress("download", 0, 0)
    try:
        artifacts = _retry(lambda: _resolve(context), lambda: shutil.rmtree(repository, ignore_errors=True))
        done = 0
        with ThreadPoolExecutor(PARALLEL_DOWNLOADS) as pool:
            for path in pool.map(_fetch, artifacts):
                path.rename(jars / path.name)
                done += 1
                on_progress("download", done, len(artifacts))
    except (requests.RequestException, zipfile.BadZipFile, RuntimeError) as error:
        # The cause is left out: it would show host names and, in a proxy's URL, a password.
        raise RegistryUnreachable(f"Kafka {KAFKA_VERSION}", type(error).__name__) from None
    return jars


def _resolve(context: Any) -> list[Any]:
    """The artifacts that run Kafka: its own, those that it depends on, and the one that makes its log visible."""

    def component(group: str, name: str, version: str) -> Any:
        return context.project(group, name).at_version(version)

    from jgo.parse import Coordinate

    kafka = context.create_dependency(Coordinate(*KAFKA))
    inputs, others = context.resolver.resolve([kafka])
    artifacts = [each.artifact for each in [*inputs, *others] if each.scope in (None, "compile", "runtime")]
    log4j = next(artifact for artifact in artifacts if artifact.artifactId == "log4j-api")
    # The binding is resolved apart from Kafka: together, log4j's managed versions would win and bring an old kafka-clients.
    # Its dependencies are here already. Kafka uses slf4j 1.7, which would not find log4j-slf4j2-impl.
    artifacts.append(component(LOG4J, "log4j-slf4j-impl", log4j.version).artifact())
    return artifacts


def _fetch(artifact: Any) -> Path:
    def resolve() -> Path:
        path = Path(artifact.resolve())
        # jgo only warns of a wrong checksum; the one inside a jar file is compared here.
        with zipfile.ZipFile(path) as jar:
            if jar.testzip():
                raise zipfile.BadZipFile(path.name)
        return path

    return _retry(resolve, lambda: Path(artifact.cached_path).unlink(missing_ok=True))


def _retry(action: Callable[[], Result], clean_up: Callable[[], object]) -> Result:
    import requests

    for attempt in range(1, ATTEMPTS + 1):
        try:
            return action()
        except (requests.RequestException, zipfile.BadZipFile) as error:
            clean_up()
            if attempt == ATTEMPTS:
                raise
            logger.info("download failed (%s), attempt %d of %d", type(error).__name__, attempt + 1, ATTEMPTS)
    raise AssertionError
