"""The demonstration as a user starts it: a process that starts a broker and workers, and must leave none behind."""

from __future__ import annotations

import re
import socket
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from celery_app import demo
from kafka_exec.broker import STEPS
from kafka_exec.cli.broker import STEPS as COMMANDS_STEPS

DEMO = [sys.executable, "-m", "celery_app.demo"]
FILES = 90
TIMEOUT = 150

# The process without Celery counts one file less than the workers were given.
WRONG_TOTALS = """
import sys
from celery_app import corpus, demo
count_files = corpus.count_files
corpus.count_files = lambda root, names: count_files(root, list(names)[1:])
sys.exit(demo.main())
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder of 90 text files of 2 lines and 6 words each, a third of them with a licence."""
    for number in range(FILES):
        text = "Permission is hereby granted, free of charge\n" if number % 3 == 0 else "six words on this line here\n"
        (tmp_path / f"{number:02}.txt").write_text(text + "\n", encoding="utf-8")
    (tmp_path / "binary").write_bytes(b"\0")
    return tmp_path


def processes_of(demo: subprocess.Popen[str]) -> list[psutil.Process]:
    """Everything the demonstration has started, pool processes and broker included."""
    processes: list[psutil.Process] = psutil.Process(demo.pid).children(recursive=True)
    return processes


def wait_for_line(demo: subprocess.Popen[str], text: str) -> None:
    assert demo.stdout is not None
    for line in demo.stdout:
        if text in line:
            return
    raise AssertionError(f"the demonstration ended without saying {text!r}: {demo.communicate()[1]}")


def test_the_demo_counts_a_folder_and_leaves_nothing_behind(folder: Path) -> None:
    with subprocess.Popen(
        [*DEMO, "--folder", str(folder)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as demo:
        wait_for_line(demo, "workers answer")
        started = processes_of(demo)
        output, errors = demo.communicate(timeout=TIMEOUT)

    assert demo.returncode == 0, errors
    report = [line.split() for line in output.splitlines()]
    assert ["files", "90", "90", "OK"] in report
    assert ["lines", "180", "180", "OK"] in report
    assert ["licences", "90", "90", "OK"] in report
    assert ["none", "stated", "60"] in report
    assert ["MIT", "30"] in report
    assert "the function waited for its approval" in output
    assert "sent the invoice of order 2 for 3 parcels" in output
    assert "is killed while the orders are under way" in output
    assert "naps that fail three times in ten were retried until they succeeded, though demo2@" in output
    assert re.search(r"^celery_app +\d+ +\d+ +0 +0 +0 +\d+ +0$", output, re.MULTILINE), "the audit finds nothing wrong"
    assert output.count("each of its steps is in its history once") == 2
    assert "WRONG" not in output
    assert output.splitlines()[-1].startswith("demo: OK")
    assert len(started) >= 3
    assert psutil.wait_procs(started, timeout=10)[1] == []


def test_a_wrong_total_fails_the_demo(folder: Path, broker_url: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", WRONG_TOTALS, "--folder", str(folder), "--broker", broker_url],
        capture_output=True,
        text=True,
        timeout=TIMEOUT,
    )

    assert done.returncode == 1
    assert "totals are wrong" in done.stderr
    assert ["files", "90", "89", "WRONG"] in [line.split() for line in done.stdout.splitlines()]


def test_a_killed_worker_fails_the_demo_by_name_and_the_others_are_ended(folder: Path, broker_url: str) -> None:
    with subprocess.Popen(
        [*DEMO, "--folder", str(folder), "--broker", broker_url],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as demo:
        wait_for_line(demo, "workers answer")
        started = processes_of(demo)
        victim = next(process for process in started if f"demo1@pid{demo.pid}" in process.cmdline())
        victim.kill()
        _, errors = demo.communicate(timeout=TIMEOUT)

    assert demo.returncode == 1
    assert f"demo: FAILED: worker demo1@pid{demo.pid} ended by itself with status -9 (logs: " in errors
    assert psutil.wait_procs(started, timeout=10)[1] == []


def test_a_terminated_demo_ends_its_processes(folder: Path, broker_url: str) -> None:
    with subprocess.Popen(
        [*DEMO, "--folder", str(folder), "--broker", broker_url], stdout=subprocess.PIPE, text=True
    ) as demo:
        wait_for_line(demo, "workers answer")
        started = processes_of(demo)
        demo.terminate()
        demo.communicate(timeout=TIMEOUT)

    assert demo.returncode == 143
    assert psutil.wait_procs(started, timeout=10)[1] == []


def test_without_a_broker_one_line_says_so(folder: Path) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{unused.getsockname()[1]}"
        done = subprocess.run(
            [*DEMO, "--folder", str(folder), "--broker", f"kafka-exec://{address}"],
            capture_output=True,
            text=True,
            timeout=TIMEOUT,
        )

    assert done.returncode == 1
    failure = done.stderr.splitlines()[-1]
    assert failure.startswith("demo: FAILED: no broker at ")
    assert address in failure
    assert "Traceback" not in done.stderr


def test_every_step_of_the_brokers_start_has_a_text() -> None:
    assert set(demo.BROKER_STEPS) == set(COMMANDS_STEPS) == set(STEPS)
