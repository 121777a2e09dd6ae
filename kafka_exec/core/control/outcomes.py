"""Outcomes of the newest callbacks: a caller whose answer was lost with the control plane's owner asks the next one."""

from __future__ import annotations

from typing import Any

from kafka_exec.core.control.wait_effects import Reply
from kafka_exec.core.control.wait_table import WaitOutcome
from kafka_exec.core.record.fields import a_list, moment, text, whole

#: The time for which an outcome is remembered, seconds: a caller asks again after some seconds.
REMEMBERED = 60.0


class Outcomes:
    """The outcomes of the callbacks of one partition, by the ids under which their callers look for them."""

    def __init__(self) -> None:
        # With the times up to which they are remembered, the earliest first.
        self._outcomes: dict[str, tuple[Reply, float]] = {}

    def note(self, reply: Reply, now: float) -> list[Any]:
        """Remembers an outcome. Returns it as a JSON value."""
        until = now + REMEMBERED
        self.forget(reply.reply)
        self._outcomes[reply.reply] = (reply, until)
        return [reply.outcome.value, reply.got, reply.expected, until]

    def of(self, id: str) -> Reply | None:
        """The outcome under an id; None if it is not known, or no more."""
        return self._outcomes[id][0] if id in self._outcomes else None

    def forget(self, id: str) -> None:
        """Forgets the outcome under an id, if there is one."""
        self._outcomes.pop(id, None)

    def due(self, now: float) -> list[str]:
        """Forgets the outcomes whose time is over. Returns their ids."""
        found = []
        while (timer := self.next_timer) is not None and timer <= now:
            found.append(id := next(iter(self._outcomes)))
            self.forget(id)
        return found

    @property
    def next_timer(self) -> float | None:
        """The time at which :meth:`due` has an id; None if there is no such time."""
        return next((until for _, until in self._outcomes.values()), None)

    def restore(self, id: str, found: Any) -> None:
        """The inverse of :meth:`note`; None: the outcome was forgotten.

        Raises:
            ValueError: :meth:`note` has not made the value.
        """
        self.forget(id)
        if found is not None:
            outcome, got, expected, until = a_list(found)
            reply = Reply(id, WaitOutcome(text(outcome)), whole(got), whole(expected))
            self._outcomes[id] = (reply, moment(until))
