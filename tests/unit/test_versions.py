"""Versions of tasks, and the workers that are able to run them."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from kafka_exec.app.sending import addressed
from kafka_exec.core.worker.versions import capabilities, needed, newest
from kafka_exec.errors import ConfigurationError


@pytest.mark.parametrize(
    ("task", "sent", "expected"),
    [
        ({}, {}, True),
        ({}, {"task_version": 1}, False),
        ({"version": 1}, {}, True),
        ({"version": 1}, {"task_version": 1}, True),
        ({"version": 2}, {"task_version": 1}, False),
        ({"version": 2, "runs_versions": (1,)}, {"task_version": 1}, True),
        ({"version": "2.0b"}, {"task_version": "2.0b"}, True),
        ({"version": 0}, {"task_version": 0}, True),
        ({"runs_versions": (1,)}, {"task_version": 1}, False),
    ],
)
def test_a_worker_runs_what_it_has(task: dict[str, object], sent: dict[str, object], expected: bool) -> None:
    able = set(capabilities([SimpleNamespace(name="t", **task)]))
    assert (needed({"task": "t", **sent}) in able) is expected


def test_a_message_is_of_its_senders_version_and_stays_so() -> None:
    task = SimpleNamespace(version=2)
    assert addressed("t", task, (), {}, {})["headers"]["task_version"] == 2
    assert addressed("t", task, (), {}, {"headers": {"task_version": 1}})["headers"]["task_version"] == 1
    assert "task_version" not in addressed("t", SimpleNamespace(), (), {}, {})["headers"]


@pytest.mark.parametrize(
    ("known", "version"),
    [
        ([["t"]], None),
        ([["t", "t@2", "u@3"], ["t", "t@10"]], "10"),
        ([["t", "t@10", "t@9"]], "10"),
        ([["t", "t@2:b"], ["t", "t@2:a"]], "2:a"),
        ([["t", "t@10:a"], ["t", "t@2:b"]], "10:a"),
        ([["t", "t@1.9"], ["t", "t@1.10"], ["t"]], "1.10"),
        ([["t", "t@beta"], ["t", "t@1"]], "1"),
        ([["t", "t@²"], ["t", "t@1"]], "1"),
    ],
)
def test_the_newest_version_is_that_of_the_greatest_number_or_the_youngest_worker(
    known: list[list[str]], version: str | None
) -> None:
    assert newest("t", enumerate(known)) == version


def test_of_a_task_that_nobody_knows_there_is_no_version() -> None:
    with pytest.raises(LookupError, match="no living worker knows task t"):
        newest("t", [(1.0, ["tt@1", "u"])])


@pytest.mark.parametrize("version", [1.5, True, "", ["1"], "x" * 513])
def test_a_version_is_a_number_or_a_text(version: object) -> None:
    with pytest.raises(ConfigurationError, match="version must be"):
        addressed("t", SimpleNamespace(version=version), (), {}, {})
