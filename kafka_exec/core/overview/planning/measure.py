"""The measures of a queue's tasks over a time, from its messages, its journal and the states of its tasks."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Mapping

from kafka_exec.core.overview.audit import JournalEvent
from kafka_exec.core.overview.planning.plan import Demand
from kafka_exec.core.queue.transitions import ENDED, RELEASED, STARTED

#: Seconds of which the busiest ones are looked for.
_MINUTE = 60.0


class Measures:
    """The sums of a time.

    Args:
        since, until: its begin and its end, epoch seconds.
        firsts: the offset of the first message of the time in each partition.
    """

    def __init__(self, since: float, until: float, firsts: Mapping[Hashable, int]) -> None:
        self._since = since
        self._until = until
        self._firsts = firsts
        self._sent = 0
        self._bytes = 0
        self._minutes: Counter[int] = Counter()
        self._keys: Counter[str] = Counter()
        self._begun: dict[Hashable, float] = {}
        self._runs = 0
        self._ran = 0.0
        self._states = 0
        self._state_bytes = 0

    def sent(self, at: float, size: int, key: str | None) -> None:
        """Counts a message: when it was written, its bytes, and its ordering key."""
        self._sent += 1
        self._bytes += size
        self._minutes[int((at - self._since) // _MINUTE)] += 1
        if key is not None:
            self._keys[key] += 1

    def told(self, partition: Hashable, event: JournalEvent) -> None:
        """Folds what the journal of a partition tells.

        The begin of a run that ends at once may not be told: such a run took no time. Of one that began before the time
        the length is not known.
        """
        transition = event.transition
        place = (partition, transition.offset)
        if transition.kind == STARTED:
            self._begun[place] = event.at
        elif transition.kind == RELEASED:
            self._begun.pop(place, None)
        elif transition.kind == ENDED and transition.attempt:
            begun = self._begun.pop(place, None)
            if begun is None and transition.offset < self._firsts.get(partition, 0):
                return
            self._runs += 1
            self._ran += 0.0 if begun is None else max(0.0, event.at - begun)

    def state(self, size: int) -> None:
        """Counts the bytes of the state with which a task has ended."""
        self._states += 1
        self._state_bytes += size

    @property
    def run(self) -> float | None:
        """The seconds of a run, on the average; None if none has ended."""
        return self._ran / self._runs if self._runs else None

    def demand(self, run: float, waiting: int) -> Demand | None:
        """The demand of the time; None if no message came.

        Args:
            run: the seconds of a run.
            waiting: the messages that wait now.
        """
        if not self._sent:
            return None
        seconds = self._until - self._since
        rate = self._sent / seconds
        keyed = sum(self._keys.values())
        return Demand(
            rate,
            max(rate, max(self._minutes.values()) / _MINUTE),
            run,
            message=self._bytes / self._sent,
            state=self._state_bytes / self._states if self._states else 0.0,
            keys=len(self._keys) if keyed == self._sent else None,
            busiest=max(self._keys.values(), default=0) / seconds,
            waiting=waiting,
        )
