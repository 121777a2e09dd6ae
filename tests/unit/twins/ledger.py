"""A ledger the dumb way: keeps all that was told and looks through it anew each time."""

from __future__ import annotations


class PlainLedger:
    def __init__(self) -> None:
        self.told: list[tuple[str, int, int, str]] = []

    def tell(self, kind: str, offset: int, attempt: int, incarnation: str) -> None:
        self.told.append((kind, offset, attempt, incarnation))

    def has_ended(self, offset: int) -> bool:
        return any(kind == "e" and where == offset for kind, where, _, _ in self.told)

    def is_parked(self, offset: int) -> bool:
        return any(kind == "p" and where == offset for kind, where, _, _ in self.told)

    def attempts(self, offset: int) -> int:
        starts = [attempt for kind, where, attempt, _ in self.told if (kind, where) == ("s", offset)]
        return 0 if self.has_ended(offset) else max(starts, default=0)

    def lease(self, offset: int) -> str | None:
        """The incarnation that runs a task: the first one of the highest attempt, unless it has released the task.

        A start that comes when nobody runs the task counts whatever its attempt.
        """
        runs: tuple[int, str] | None = None
        highest = 0
        for kind, where, attempt, incarnation in self.told:
            if where != offset:
                continue
            if kind == "s" and (runs is None or attempt > highest or (attempt == highest and runs[1] == incarnation)):
                highest, runs = max(attempt, highest), (attempt, incarnation)
            elif kind == "r" and runs is not None and runs[1] == incarnation and runs[0] <= attempt:
                runs = None
        return None if runs is None or self.has_ended(offset) else runs[1]
