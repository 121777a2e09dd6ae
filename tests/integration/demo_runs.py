"""The demonstration as a process, with a folder to count."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import psutil
import pytest

DEMO = [sys.executable, "-m", "celery_app.demo"]
FILES = 90
TIMEOUT = 300


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
