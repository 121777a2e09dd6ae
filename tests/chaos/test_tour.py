"""The whole demonstration: each feature of README's table on real input, and the page of the example application."""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest
import requests

from celery_app import tour
from tests.integration.demo_runs import DEMO, TIMEOUT, folder, processes_of, wait_for_line
from tests.snippets import EXAMPLE, ROOT, blocks

__all__ = ["folder"]


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
