"""Java's start-up archive of Kafka: made once, it halves the time and the CPU of every later start (measured).

It holds Kafka's classes loaded and linked, as Java's ahead-of-time cache (JEP 483, 514). Java checks that the archive
fits the runtime and the jar files, and starts without it if it does not.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path

from kafka_exec.broker.errors import BrokerError
from kafka_exec.broker.install.distribution import Progress, locked

logger = logging.getLogger(__name__)


def options(jars: Path, runtime: Path, train: Callable[[tuple[str, ...]], None], on_progress: Progress) -> list[str]:
    """Java's options that use the archive, which is made first if it is missing (10 s and 70 MB, once).

    If the archive cannot be made there is no error and no second try: a broker starts without it too.

    Args:
        train: runs a broker with the Java options that it is given, and ends it.
    """
    # Another runtime needs another archive; the release file names the runtime's exact build.
    build = (runtime.parent.parent / "release").stat().st_mtime_ns
    path = jars.with_name(f"{jars.name}-{build}.aot")
    try:
        if not path.exists():
            with locked(path.with_suffix(".lock")):
                if not path.exists():
                    on_progress("archive", 0, 1)
                    _make(path, train)
                    on_progress("archive", 1, 1)
        return [f"-XX:AOTCache={path}"] if path.stat().st_size else []
    except OSError as error:
        logger.info("no start-up archive: %s", error)
        return []


def _make(path: Path, train: Callable[[tuple[str, ...]], None]) -> None:
    unfinished = path.with_suffix(".unfinished")
    unfinished.unlink(missing_ok=True)
    try:
        train((f"-XX:AOTCacheOutput={unfinished}",))
    except BrokerError as error:
        logger.info("no start-up archive: %s", error)
    # An empty file says that the archive cannot be made here.
    if not unfinished.exists():
        unfinished.touch()
    unfinished.rename(path)
