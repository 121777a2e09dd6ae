"""The parts of a beat that :class:`~kafka_exec.kafka.beat.exclusive.Exclusive` asks: its entries and their tasks."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Protocol

from kafka_exec.core.beat.agenda import Plan
from kafka_exec.core.beat.claimant import Firing
from kafka_exec.kafka.publish.scopes import Outgoing


class EntryHost(Protocol):
    """The beat's side of the entries and their tasks. Only the thread that fires calls it."""

    def plans(self) -> Mapping[str, Plan] | None:
        """The plans of the entries that this node is able to fire, by name; None if they are the same as before."""

    def perform(self, entry: str, firing: Firing, runs: int) -> Sequence[Outgoing]:
        """The messages of a firing. ``runs``: the number of runs before it."""

    def acquired(self, entry: str) -> None:
        """Called when this node holds an entry from now on."""

    def released(self, entry: str) -> None:
        """Called when this node holds an entry no longer."""

    # -- runs of the node's own ----------------------------------------------------------------------------------------

    def begin(self, entry: str, firing: Firing, fence: int) -> None:
        """Begins a run on this node, when its firing is in the log. ``fence``: the claim's epoch."""

    def ended(self) -> Sequence[str]:
        """The entries whose runs on this node have ended since the last call."""

    def stop(self, entries: Iterable[str], reason: str) -> None:
        """Stops the runs of these entries, as far as there are any; returns when they are over."""

    def lease(self, until: float) -> None:
        """Lets runs go on without this process until a time, seconds of the monotonic clock."""
