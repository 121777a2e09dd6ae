"""The demonstration as a user starts it: a process that starts a broker and workers, and must leave none behind."""

from __future__ import annotations

import socket
import subprocess
import sys
from pathlib import Path

import psutil

from celery_app import demo
from kafka_exec.broker import STEPS
from kafka_exec.cli.broker import STEPS as COMMANDS_STEPS
from tests.integration.demo_runs import DEMO, TIMEOUT, folder, processes_of, wait_for_line

__all__ = ["folder"]

# The process without Celery counts one file less than the workers were given.
WRONG_TOTALS = """
import sys
from celery_app import corpus, demo
count_files = corpus.count_files
corpus.count_files = lambda root, names: count_files(root, list(names)[1:])
sys.exit(demo.main())
"""


def test_the_demo_counts_a_folder_and_leaves_nothing_behind(folder: Path) -> None:
    with subprocess.Popen(
        [*DEMO, "--folder", str(folder), "--only", "chords"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as demo:
        output = wait_for_line(demo, "workers answer")
        started = processes_of(demo)
        rest, errors = demo.communicate(timeout=TIMEOUT)

    assert demo.returncode == 0, errors
    assert "WRONG" not in output + rest
    assert "] Chords | " in rest
    report = [line.split() for line in rest.splitlines()]
    assert ["files", "90", "90", "OK"] in report
    assert ["lines", "180", "180", "OK"] in report
    assert ["licences", "90", "90", "OK"] in report
    assert ["none", "stated", "60"] in report
    assert ["MIT", "30"] in report
    assert len(started) >= 5
    assert psutil.wait_procs(started, timeout=10)[1] == []


def test_a_wrong_total_fails_the_demo(folder: Path, broker_url: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", WRONG_TOTALS, "--folder", str(folder), "--broker", broker_url, "--only", "chords"],
        capture_output=True,
        text=True,
        timeout=TIMEOUT,
    )

    assert done.returncode == 1
    assert "totals are wrong" in done.stderr
    assert ["files", "90", "89", "WRONG"] in [line.split() for line in done.stdout.splitlines()]


def test_a_killed_worker_fails_the_demo_by_name_and_the_others_are_ended(folder: Path, broker_url: str) -> None:
    with subprocess.Popen(
        [*DEMO, "--folder", str(folder), "--broker", broker_url, "--only", "shared work"],
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
    assert f"demo: FAILED: demo1@pid{demo.pid} ended by itself with status -9 (logs: " in errors
    assert psutil.wait_procs(started, timeout=10)[1] == []


def test_a_terminated_demo_ends_its_processes(folder: Path, broker_url: str) -> None:
    with subprocess.Popen(
        [*DEMO, "--folder", str(folder), "--broker", broker_url, "--only", "retries"], stdout=subprocess.PIPE, text=True
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
