"""Timers of a reducer: the times at which its items may have an event."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable, Iterator

#: Of a time in a later hour only the name is kept until that hour: there are many, and most of them are far away.
_HOUR = 3600.0


class Timers:
    """Times, epoch seconds, each with the name of an item. The owner skips a time that is no more the item's.

    Args:
        times_of: the present times of an item.
    """

    def __init__(self, times_of: Callable[[str], Iterable[float]]) -> None:
        self._times_of = times_of
        self._clear()

    def _clear(self) -> None:
        self._hour = -1
        self._near: list[tuple[float, str]] = []
        # By hour: the earliest time, and the names; and the hours as a heap.
        self._far: dict[int, tuple[float, list[str]]] = {}
        self._hours: list[int] = []
        self._size = 0

    def __len__(self) -> int:
        return self._size

    def set(self, at: float, name: str) -> None:
        """Adds a time of an item, which :func:`times_of` tells too."""
        self._size += 1
        hour = int(at // _HOUR)
        if hour <= self._hour:
            heapq.heappush(self._near, (at, name))
            return
        if hour not in self._far:
            heapq.heappush(self._hours, hour)
        earliest, names = self._far.get(hour) or (at, [])
        names.append(name)
        self._far[hour] = min(at, earliest), names

    def keep(self, names: Iterable[str]) -> None:
        """Keeps the present times of these items only."""
        self._clear()
        for name in names:
            for at in self._times_of(name):
                self.set(at, name)

    def due(self, now: float) -> Iterator[tuple[float, str]]:
        """Removes the times up to now, the earliest first."""
        while True:
            while self._hours and self._hours[0] <= now // _HOUR:
                self._come_near(heapq.heappop(self._hours))
            if not self._near or self._near[0][0] > now:
                return
            self._size -= 1
            yield heapq.heappop(self._near)

    def _come_near(self, hour: int) -> None:
        self._hour = hour
        _, names = self._far.pop(hour)
        self._size -= len(names)
        for name in set(names):
            for at in self._times_of(name):
                if at // _HOUR == hour:
                    self.set(at, name)

    @property
    def next(self) -> float | None:
        """A time before which none is due; None if there is none."""
        if self._near:
            return self._near[0][0]
        return self._far[self._hours[0]][0] if self._hours else None
