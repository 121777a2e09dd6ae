"""Timers of a reducer: the times at which its items may have an event."""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator


class Timers:
    """Times, each with the name of an item. An item that has another time by then has its owner skip it."""

    def __init__(self) -> None:
        self._times: list[tuple[float, str]] = []

    def __len__(self) -> int:
        return len(self._times)

    def set(self, at: float, name: str) -> None:
        """Adds a time, epoch seconds."""
        heapq.heappush(self._times, (at, name))

    def replace(self, times: Iterable[tuple[float, str]]) -> None:
        """Keeps only these times."""
        self._times = list(times)
        heapq.heapify(self._times)

    def due(self, now: float) -> Iterator[tuple[float, str]]:
        """Removes the times up to now, the earliest first."""
        while self._times and self._times[0][0] <= now:
            yield heapq.heappop(self._times)

    @property
    def next(self) -> float | None:
        """The earliest time; None if there is none."""
        return self._times[0][0] if self._times else None
