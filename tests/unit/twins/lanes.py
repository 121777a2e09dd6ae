"""Lanes by the words of the rule: a list of records, looked through from its beginning every time."""

from __future__ import annotations


class PlainLanes:
    """Records as (offset, lane, task, retries), in their order; by lane, the (task, retries) that it waits for."""

    def __init__(self) -> None:
        self.records: list[tuple[int, str, str, int]] = []
        self.holds: dict[str, tuple[str, int]] = {}

    def may_run(self, offset: int) -> bool:
        """True if a record is the first of its lane, or the one that its lane waits for."""
        lane = next(record[1] for record in self.records if record[0] == offset)
        members = [record for record in self.records if record[1] == lane]
        if lane in self.holds:
            members = [record for record in members if record[2:] == self.holds[lane]]
        return bool(members) and members[0][0] == offset

    def end(self, offset: int) -> None:
        """A record has ended, and is not awaited any more."""
        _, lane, task, retries = next(record for record in self.records if record[0] == offset)
        if self.holds.get(lane) == (task, retries):
            del self.holds[lane]
        self.records = [record for record in self.records if record[0] != offset]
