"""The fixtures for tests of applications, in projects of their own that are told a broker."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from kafka_exec.broker import EmbeddedKafka
from tests.integration.pytest_projects import PROJECTS, names_in, passed, run
from tests.integration.workers import ROOT
from tests.snippets import programs

PAGE = ROOT / "docs" / "testing.md"


def test_a_project_uses_all_fixtures_in_two_processes(broker_url: str, kafka: EmbeddedKafka, tmp_path: Path) -> None:
    output = run("fixtures", tmp_path, "-n", "2", "--kafka-url", broker_url, "test_shop.py")
    assert passed(output) == names_in("fixtures/test_shop.py")
    prefix = broker_url.rpartition("/")[2]
    assert [name for name in kafka.admin().list_topics(timeout=10).topics if name.startswith(prefix)] == []


def test_they_work_with_celerys_own_fixtures(broker_url: str, tmp_path: Path) -> None:
    output = run("contrib", tmp_path, "--kafka-url", broker_url)
    assert passed(output) == names_in("contrib/test_with_celerys_fixtures.py")


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
