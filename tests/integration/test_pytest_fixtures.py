"""The fixtures for tests of applications, in projects of their own, with a broker's URL and with embedded brokers."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from kafka_exec.broker import EmbeddedKafka
from tests.integration.workers import ROOT, environment
from tests.snippets import programs

PROJECTS = ROOT / "tests" / "pytest_projects"
PROJECT = PROJECTS / "fixtures"
PAGE = ROOT / "docs" / "testing.md"
OPTIONS = ("-rA", "-p", "no:schemathesis", "-p", "no:cacheprovider")
TESTS = re.compile(r"^def (test_\w+)", re.M)


def run(folder: Path, cache: Path, *options: str) -> str:
    """What pytest says of a project whose tests must all pass. ``cache``: the folder for its files."""
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *OPTIONS, "--basetemp", str(cache / "tmp"), *options],
        cwd=folder,
        env=environment("", cache),
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert done.returncode == 0, done.stdout[-20_000:] + done.stderr
    return done.stdout


def passed(output: str) -> set[str]:
    return set(re.findall(r"^PASSED \S+::(\w+)", output, re.M))


def test_a_project_uses_all_fixtures_in_two_processes(broker_url: str, kafka: EmbeddedKafka, tmp_path: Path) -> None:
    output = run(PROJECT, tmp_path, "-n", "2", "--kafka-url", broker_url, "test_shop.py")
    assert passed(output) == set(TESTS.findall((PROJECT / "test_shop.py").read_text()))
    prefix = broker_url.rpartition("/")[2]
    assert [name for name in kafka.admin().list_topics(timeout=10).topics if name.startswith(prefix)] == []


def test_they_work_with_celerys_own_fixtures(broker_url: str, tmp_path: Path) -> None:
    output = run(PROJECTS / "contrib", tmp_path, "--kafka-url", broker_url)
    assert len(passed(output)) == 2


def test_without_a_url_each_process_has_a_broker_of_its_own(tmp_path: Path) -> None:
    output = run(PROJECT, tmp_path, "-n", "2", "test_brokers.py")
    brokers = re.findall(r"^the broker of (gw\d) is (\S+)$", output, re.M)
    assert {process for process, _ in brokers} == {"gw0", "gw1"}
    assert len({url for _, url in brokers}) == 2


def test_the_page_shows_what_is_run_here() -> None:
    files = [path.read_text(encoding="utf-8") for path in PROJECTS.rglob("*.py")]
    found = programs(PAGE.read_text(encoding="utf-8"))
    assert found
    for program in found:
        lines = re.sub(r"^# \S+\.py\n", "", program)
        for part in lines.strip("\n").split("\n\n\n"):
            assert any(part in text for text in files), part


@pytest.mark.parametrize("name", ["celery", "kombu", "confluent_kafka", "kafka_exec"])
def test_who_does_not_use_them_does_not_pay_for_them(name: str) -> None:
    check = f"import sys, _kafka_exec_pytest; sys.exit({name!r} in sys.modules)"
    assert subprocess.run([sys.executable, "-c", check], cwd=ROOT).returncode == 0
