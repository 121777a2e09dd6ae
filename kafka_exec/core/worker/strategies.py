"""The choice between the executors that can run a task."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple


class Offer(NamedTuple):
    """An executor that can run a task. ``place``: the executor among those that were asked."""

    priority: int
    name: str
    place: int = -1


#: The offer of the application's own function.
LOCAL = Offer(0, "")


def chosen(offers: Iterable[Offer]) -> Offer | None:
    """The offer of the highest priority; of several ones the first by its name; None if there is none.

    So all workers with the same configuration choose the same one.
    """
    return min(offers, key=lambda offer: (-offer.priority, offer.name), default=None)
