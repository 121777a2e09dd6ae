"""The parts of a beat that :class:`~kafka_exec.kafka.beat.exclusive.Exclusive` asks: its entries and their tasks."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Protocol

from kafka_exec.core.beat.agenda import Plan
from kafka_exec.core.beat.claimant import Firing
from kafka_exec.kafka.publish.scopes import Outgoing


class Seam(Protocol):
    """What the room above knows of the entries. All is called in one thread."""

    def plans(self) -> Mapping[str, Plan] | None:
        """The entries that this node is able to fire; None: as before."""

    def perform(self, entry: str, firing: Firing, runs: int) -> Sequence[Outgoing]:
        """The messages of a firing. ``runs``: how many were before it."""

    def acquired(self, entry: str) -> None:
        """This node holds an entry from now on."""

    def released(self, entry: str) -> None:
        """This node does not hold it any more."""

    # -- runs of the node's own ----------------------------------------------------------------------------------------

    def begin(self, entry: str, firing: Firing, fence: int) -> None:
        """Begins a run on this node; its firing is in the log. ``fence``: the claim's epoch."""

    def ended(self) -> Sequence[str]:
        """The entries whose runs on this node have ended since the last call."""

    def stop(self, entries: Iterable[str], reason: str) -> None:
        """Stops the runs of these entries, as far as there are any; returns when they are over."""

    def lease(self, until: float) -> None:
        """Until when runs may go on without this process, seconds of the monotonic clock."""
