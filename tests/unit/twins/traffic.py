"""A dumb twin of a plan: tasks that come one after another at equal distances, each counted by itself."""

from __future__ import annotations

from collections.abc import Sequence


def starts(rate: int, seconds: int) -> list[float]:
    """The times at which tasks come and begin, ``rate`` of them in each second."""
    return [second + number / rate for second in range(seconds) for number in range(rate)]


def most_at_once(begins: Sequence[float], run: float) -> int:
    """The largest number of tasks that run at the same time, each for ``run`` seconds from its begin on."""
    return max(sum(begin <= now < begin + run for begin in begins) for now in begins)


def bytes_on_disks(begins: Sequence[float], size: float, kept: float, copies: int, now: float) -> float:
    """The bytes that stand on all disks at a time: of each task that came within ``kept`` seconds, so many copies."""
    return sum(size for begin in begins for _ in range(copies) if now - kept < begin <= now)


def seconds_to_drain(waiting: float, comes: float, goes: float, step: float) -> float:
    """The time until nothing waits, step by step: so many tasks come in a second, and so many end in it."""
    elapsed = 0.0
    while waiting > 0:
        waiting += (comes - goes) * step
        elapsed += step
    return elapsed
