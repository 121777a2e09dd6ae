"""The first task of README.md, word for word: only the broker's port is the tests' own."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient

from kafka_exec.broker import EmbeddedKafka
from tests.integration.workers import PATIENCE, until
from tests.snippets import README, ROOT, blocks, section

QUICK_START = section(README.read_text(encoding="utf-8"), "Your first task")
COMMANDS = [block.text.strip() for block in blocks(QUICK_START) if not block.language]
APPLICATION, CALLER = (block.text for block in blocks(QUICK_START) if block.language == "python")

#: By default ``celery kafka broker`` listens there.
PORT = "127.0.0.1:9092"


@pytest.fixture
def folder(kafka: EmbeddedKafka, tmp_path: Path) -> Path:
    """A folder with the file that the reader is told to write."""
    assert APPLICATION.count(PORT) == 1
    name = QUICK_START.partition("the file `")[2].partition("`")[0]
    (tmp_path / name).write_text(APPLICATION.replace(PORT, f"127.0.0.1:{kafka.port}"), encoding="utf-8")
    return tmp_path


@pytest.fixture
def environment() -> dict[str, str]:
    """That of a shell with an activated virtual environment."""
    path = os.pathsep.join((str(Path(sys.executable).parent), os.environ["PATH"]))
    others = {key: value for key, value in os.environ.items() if not key.startswith(("CELERY", "KAFKA_EXEC"))}
    return {**others, "PATH": path, "PYTHONPATH": str(ROOT)}


@pytest.fixture
def worker(folder: Path, environment: dict[str, str]) -> Iterator[subprocess.Popen[bytes]]:
    """The worker that the reader is told to start."""
    log = folder / "worker.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            shlex.split(COMMANDS[-1]),
            cwd=folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        yield process
    finally:
        try:
            os.killpg(process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        process.wait(PATIENCE)


def is_consumed(topic: str, admin: AdminClient) -> bool:
    """Says whether a worker has partitions of a queue's topic."""
    try:
        group = admin.describe_consumer_groups([topic])[topic].result(10)
    except KafkaException:
        return False  # there is no such group yet
    return any(member.assignment and member.assignment.topic_partitions for member in group.members)


def test_a_newcomers_first_task_runs(
    kafka: EmbeddedKafka, folder: Path, environment: dict[str, str], worker: subprocess.Popen[bytes]
) -> None:
    assert COMMANDS[1:] == ["celery kafka broker", "celery -A shop worker"]
    admin = kafka.admin()
    until(lambda: is_consumed("shop.queue.celery", admin), what="the worker consumes")
    done = subprocess.run(
        [sys.executable, "-c", CALLER],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == CALLER.strip().rpartition("# ")[2]
    worker.send_signal(signal.SIGTERM)
    assert worker.wait(PATIENCE) == 0
