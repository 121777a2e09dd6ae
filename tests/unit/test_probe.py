"""The probe of nodes: who is dead, who is not ready, and that it imports next to nothing."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from kafka_exec import health
from kafka_exec.health import MAX_AGE, NodeHealth, Signs, exists, file_of, judge, main
from kafka_exec.kafka.nodes.health_file import HealthFile
from tests.snippets import ROOT

NOW = 1000.0

#: The process of these signs; every other one has ended.
PID = 7


def signs(turned: float = NOW, heard: float | None = NOW, pid: int = PID) -> Signs:
    return Signs("one", pid, turned, heard)


def verdict(*told: Signs) -> NodeHealth:
    return judge(told, lambda pid: pid == PID, now=NOW)[0]


@pytest.mark.parametrize(
    ("told", "expected"),
    [
        ([], NodeHealth.ABSENT),
        ([signs()], NodeHealth.READY),
        ([signs(NOW - MAX_AGE + 0.1, NOW - MAX_AGE + 0.1)], NodeHealth.READY),
        ([signs(heard=None)], NodeHealth.NOT_READY),
        ([signs(heard=NOW - MAX_AGE)], NodeHealth.NOT_READY),
        ([signs(heard=NOW - 86400)], NodeHealth.NOT_READY),
        ([signs(NOW - MAX_AGE, NOW - MAX_AGE)], NodeHealth.DEAD),
        ([signs(NOW - MAX_AGE, NOW)], NodeHealth.DEAD),
        ([signs(), signs(heard=None)], NodeHealth.NOT_READY),
        ([signs(), signs(heard=None), signs(0.0)], NodeHealth.DEAD),
        ([signs(pid=8)], NodeHealth.DEAD),
        ([signs(0.0, pid=8), signs()], NodeHealth.READY),
    ],
)
def test_a_node_that_stands_still_is_dead_and_one_that_does_not_hear_is_not_ready(
    told: list[Signs], expected: NodeHealth
) -> None:
    assert verdict(*told) is expected


@pytest.mark.parametrize(
    ("turned", "heard", "alive", "ready"),
    [(0.0, 0.0, 0, 0), (0.0, None, 0, 1), (0.0, 60.0, 0, 1), (60.0, 60.0, 1, 1), (None, None, 0, 1)],
)
def test_its_status_says_if_a_node_is_alive_or_ready(
    turned: float | None, heard: float | None, alive: int, ready: int, tmp_path: Path
) -> None:
    """The times are ages; without one there is no file."""
    path, now = str(tmp_path / "health"), time.monotonic()
    if turned is not None:
        health.write(
            file_of(path, "worker", "w/1"),
            Signs("w/1", os.getpid(), now - turned, heard if heard is None else now - heard),
        )
    assert main(["--file", path]) == alive
    assert main(["--file", path, "--ready"]) == ready
    assert main(["--file", path, "--worker", "w/1", "--ready", "--max-age", "3600"]) == int(heard is None)


def test_it_looks_at_the_nodes_that_it_is_asked_for(tmp_path: Path) -> None:
    path, now = str(tmp_path / "health"), time.monotonic()
    health.write(file_of(path, "worker", "good"), Signs("good", os.getpid(), now, now))
    health.write(file_of(path, "worker", "bad"), Signs("bad", os.getpid(), now - 60, now))
    health.write(file_of(path, "beat", "b"), Signs("b", os.getpid(), now, now))
    (tmp_path / "health.worker.other").write_text("no JSON")
    statuses = {
        tuple(asked): main(["--file", path, *asked])
        for asked in (
            [],
            ["--worker"],
            ["--worker", "good"],
            ["--worker", "bad"],
            ["--worker", "goo"],
            ["--beat"],
            ["--beat", "b"],
        )
    }
    assert [asked for asked, status in statuses.items() if status] == [(), ("--worker",), ("--worker", "bad")]


@pytest.mark.parametrize(
    "arguments", [[], ["--file", "/nowhere/health"], ["--file", "x", "--worker", "a", "--beat", "b"]]
)
def test_wrong_usage_has_a_status_of_its_own(arguments: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(health.VARIABLE, raising=False)
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 2


def test_a_node_writes_its_file_and_removes_it(tmp_path: Path) -> None:
    path = tmp_path / "health"
    made = HealthFile(path, "worker", "w@h")
    made.write(5.0)
    made.heard = 6.0
    made.write(7.0)
    assert health.read(str(path)) == [Signs("w@h", os.getpid(), 7.0, 6.0)]
    assert [each.name for each in tmp_path.iterdir()] == ["health.worker.w@h"]
    made.remove()
    assert health.read(str(path)) == []


def test_a_file_that_cannot_be_written_is_told_of_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    made = HealthFile(tmp_path / "none" / "health", "worker", "w@h")
    with caplog.at_level(logging.WARNING, "kafka_exec"):
        made.write(5.0)
        made.write(6.0)
    assert len(caplog.records) == 1
    HealthFile(None, "worker", "w@h").write(5.0)


def test_a_process_that_has_ended_is_found_out() -> None:
    with subprocess.Popen([sys.executable, "-c", ""]) as ended:
        pass
    assert not exists(ended.pid)
    assert exists(os.getpid())


def test_the_probe_imports_neither_celery_nor_librdkafka_nor_the_rest_of_the_package(tmp_path: Path) -> None:
    code = "import json, sys; print(json.dumps(sorted(sys.modules)))"
    hook = tmp_path / "sitecustomize.py"
    hook.write_text(f"import atexit\natexit.register(lambda: exec({code!r}, {{}}))\n")
    done = subprocess.run(
        [sys.executable, "-m", "kafka_exec.health", "--file", str(tmp_path / "health")],
        env={**os.environ, "PYTHONPATH": f"{tmp_path}{os.pathsep}{ROOT}"},
        capture_output=True,
        text=True,
        check=True,
    )
    said, modules = done.stdout.splitlines()
    assert said == "absent: no node has begun"
    found = json.loads(modules)
    assert [each for each in found if each.partition(".")[0] in ("celery", "kombu", "confluent_kafka", "click")] == []
    assert [each for each in found if each.startswith("kafka_exec")] == ["kafka_exec"]
