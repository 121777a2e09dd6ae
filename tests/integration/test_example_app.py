"""The demonstration as a user starts it: a process that starts a broker and workers, and must leave none behind."""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
import socket
import subprocess
import sys
from pathlib import Path

import psutil
import pytest
import requests

from celery_app import demo, tour
from kafka_exec.broker import STEPS
from kafka_exec.cli.broker import STEPS as COMMANDS_STEPS
from tests.snippets import EXAMPLE, ROOT, blocks

DEMO = [sys.executable, "-m", "celery_app.demo"]
FILES = 90
TIMEOUT = 300

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


def wait_for_line(demo: subprocess.Popen[str], text: str) -> str:
    """Waits until a demonstration has said something; all that it has said."""
    assert demo.stdout is not None
    said = ""
    for line in demo.stdout:
        said += line
        if text in line:
            return said
    raise AssertionError(f"the demonstration ended without saying {text!r}: {said}{demo.communicate()[1]}")


def lines_of_readme(language: str) -> list[str]:
    """The blocks of a language on the page of the example application."""
    return [block.text for block in blocks(EXAMPLE.read_text(encoding="utf-8")) if block.language == language]


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_tour_shows_all_features_is_kept_and_leaves_nothing_behind(folder: Path) -> None:
    with subprocess.Popen(
        [*DEMO, "--folder", str(folder), "--keep"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as demo:
        output = wait_for_line(demo, "all goes on until Ctrl-C")
        started = processes_of(demo)
        addresses = dict(re.findall(r"(Flower|HTTP API|exporter) +(http\S+)$", output, re.MULTILINE))
        pages = {name: requests.get(address, timeout=TIMEOUT).text for name, address in addresses.items()}
        url = re.findall(r"EXAMPLE_BROKER_URL=(\S+)", output)[0]
        environment = {**os.environ, "EXAMPLE_BROKER_URL": url, "EXAMPLE_DIARY": str(folder / "diary")}
        commands = [line for block in lines_of_readme("sh") for line in block.splitlines()]
        # Started together: each takes a second to import Celery.
        asked = [
            subprocess.Popen(
                [sys.executable, "-m", *shlex.split(line)]
                if line.startswith("celery")
                else [sys.executable, "-c", line],
                env=environment,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                cwd=ROOT,
            )
            for line in [*commands, *lines_of_readme("python")]
        ]
        answers = [each.communicate(timeout=TIMEOUT)[0] for each in asked]
        demo.send_signal(signal.SIGINT)
        end, errors = demo.communicate(timeout=TIMEOUT)

    assert demo.returncode == 0, errors
    for stop in tour.STOPS:
        assert f"] {stop.feature} | " in output, stop.feature
    assert all(f"] {each.feature} | not run: " in output for each in tour.ELSEWHERE)
    assert re.search(r"^celery_app +\d+ +\d+ +0 +0 +0 +\d+ +0$", output, re.MULTILINE), "the audit finds nothing wrong"
    report = [line.split() for line in output.splitlines()]
    assert ["files", "90", "90", "OK"] in report
    assert ["lines", "180", "180", "OK"] in report
    assert ["licences", "90", "90", "OK"] in report
    assert ["none", "stated", "60"] in report
    assert ["MIT", "30"] in report
    assert "WRONG" not in output
    assert end.splitlines()[-1].startswith("demo: OK")
    assert "celery_app.single" in pages["Flower"]
    assert json.loads(pages["HTTP API"])["queues"]
    assert "kafka_exec_up 1.0" in pages["exporter"]
    for line, each, answer in zip([*commands, "the program"], asked, answers, strict=True):
        assert each.returncode == 0, (line, answer)
    assert len(started) >= 8
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
