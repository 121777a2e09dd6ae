"""A ledger the dumb way: keeps all that was told and looks through it anew each time."""

from __future__ import annotations


class PlainLedger:
    def __init__(self) -> None:
        self.told: list[tuple[str, int, int, str]] = []

    def tell(self, kind: str, offset: int, attempt: int, incarnation: str) -> None:
        self.told.append((kind, offset, attempt, incarnation))

    def has_ended(self, offset: int) -> bool:
        return any(kind in "eh" and where == offset for kind, where, _, _ in self.told)

    def is_parked(self, offset: int) -> bool:
        return any(kind == "p" and where == offset for kind, where, _, _ in self.told)

    def attempts(self, offset: int) -> int:
        starts = [attempt for kind, where, attempt, _ in self.told if (kind, where) == ("s", offset)]
        return 0 if self.has_ended(offset) else max(starts, default=0)

    def lease(self, offset: int) -> str | None:
        """The incarnation that runs a task: the first one of the highest attempt, unless it has released the task.

        A start that comes when nobody runs the task counts whatever its attempt. If the task is released by one that has
        begun it while another one ran it, that other one runs it.
        """
        runs: tuple[int, str] | None = None
        former: tuple[int, str] | None = None
        highest = 0
        for kind, where, attempt, incarnation in self.told:
            if where != offset:
                continue
            if kind == "s" and runs is None:
                highest, runs = max(attempt, highest), (attempt, incarnation)
            elif kind == "s" and attempt >= highest and (runs[1] == incarnation or runs[0] < attempt):
                former = former if runs[1] == incarnation else runs
                highest, runs = attempt, (attempt, incarnation)
            elif kind == "r" and runs is not None and runs[1] == incarnation and runs[0] <= attempt:
                runs, former = former, None
            elif kind == "r" and former is not None and former[1] == incarnation and former[0] <= attempt:
                former = None
        return None if runs is None or self.has_ended(offset) else runs[1]

    def hold(self) -> tuple[int, int] | None:
        """The record that holds the one lane, and its run. Only a later record takes its place, by its first end."""
        holds: tuple[int, int] | None = None
        for position, (kind, where, attempt, _) in enumerate(self.told):
            is_first = not any(before in "eh" and there == where for before, there, _, _ in self.told[:position])
            if kind == "h" and is_first and (holds is None or where > holds[0]):
                holds = where, attempt
            elif kind == "f" and holds == (where, attempt):
                holds = None
        return holds
