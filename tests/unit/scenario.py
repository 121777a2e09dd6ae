"""Scenarios as text: a command on each line, with the answer behind an arrow where there is one."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path


def assert_played(path: Path, answer: Callable[..., str]) -> None:
    """Gives the words of each command to ``answer``; what it says must be what is written."""
    lines = path.read_text().splitlines()
    played = []
    for line in lines:
        command = line.partition(" -> ")[0]
        said = answer(*command.split()) if command and not command.startswith("#") else ""
        played.append(f"{command} -> {said}" if said else command)
    assert played == lines
