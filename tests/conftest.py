"""The tests of a process share one real Kafka; each has topics of its own.

With pytest-xdist (``-n 4``) each process runs a Kafka. One for all of them does not hold the topics of all tests: Kafka maps
some files of each partition into memory, and the operating system allows 65,530 of these (``vm.max_map_count``).
"""

from __future__ import annotations

import os
import shutil
import tempfile
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from kafka_exec.broker import EmbeddedKafka

#: MB: memory for the topics of all tests. With too little Kafka collects garbage for seconds, and loses its leadership.
HEAP = 1024

#: With Java's optimizing compiler a broker of the tests needs half as much CPU again (measured over 24 workers in turn).
FIRST_COMPILER_ONLY = "-XX:TieredStopAtLevel=1"

#: A file system in memory. Kafka syncs some files of each partition that is made: 3,000 partitions take it 10 s there, and
#: 25 s on a disk (CPU time: 4 s instead of 10 s).
MEMORY = Path("/dev/shm")

#: Bytes that are free there, or all is on the disk.
MEMORY_WANTED = 4 * 2**30


def pytest_configure(config: pytest.Config) -> None:
    """Has all temporary files of the tests, and of their processes, in memory."""
    if "TMPDIR" in os.environ or not MEMORY.is_dir() or os.statvfs(MEMORY).f_flag & os.ST_NOEXEC:
        return
    if shutil.disk_usage(MEMORY).free >= MEMORY_WANTED:
        folder = tempfile.mkdtemp(prefix="tests-", dir=MEMORY)
        os.chmod(folder, 0o711)  # PostgreSQL runs as a user of its own
        tempfile.tempdir = os.environ["TMPDIR"] = folder
        config.add_cleanup(lambda: shutil.rmtree(folder, ignore_errors=True))


@pytest.fixture(scope="session")
def kafka() -> Iterator[EmbeddedKafka]:
    """One unsecured node. A test that stops or kills a broker makes one of its own."""
    os.environ["JDK_JAVA_OPTIONS"] = FIRST_COMPILER_ONLY
    broker = EmbeddedKafka(heap=HEAP)
    broker.start()
    try:
        yield broker
    finally:
        broker.close()


@pytest.fixture
def prefix() -> str:
    """A topic prefix that no other test has."""
    return f"t{uuid.uuid4().hex[:8]}"


@pytest.fixture
def broker_url(kafka: EmbeddedKafka, prefix: str) -> str:
    """The URL of the session's Kafka with the test's own prefix."""
    return f"{kafka.url}/{prefix}"
