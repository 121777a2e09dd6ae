"""How many messages a channel may hold unacknowledged, and from which priority step the next one comes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

#: Kafka has no priorities: each step is a topic of its own, so their number is bounded.
MOST_STEPS = 4

#: Every so many deliveries one comes from a lower step, so that none starves.
FROM_BELOW_EVERY = 10


def is_full(limit: int, outstanding: int) -> bool:
    """Whether no more may be handed out; a limit of 0 is none, as AMQP's prefetch count."""
    return bool(limit) and outstanding >= limit


def refill_due(limit: int, outstanding: int) -> bool:
    """Whether enough has been acknowledged to be worth a wake-up: a quarter of the window, at least one message."""
    return not limit or outstanding <= limit - max(1, limit // 4)


def steps_for(max_priority: int | None) -> int:
    """The number of priority steps of a queue declared with this ``x-max-priority``."""
    return min(MOST_STEPS, max_priority + 1) if max_priority and max_priority > 0 else 1


def step_of(priority: Any, max_priority: int | None) -> int:
    """The step of a message: higher is more urgent, priorities above the queue's maximum count as the maximum.

    Args:
        priority: what is no whole number counts as none.
    """
    steps = steps_for(max_priority)
    if steps == 1 or not max_priority or type(priority) is not int:
        return 0
    return min(max(priority, 0), max_priority) * steps // (max_priority + 1)


def pick_step(waiting: Sequence[int], turn: int) -> int:
    """The step to take from, among those with messages waiting (ascending), at the ``turn``-th delivery.

    Every :data:`FROM_BELOW_EVERY`-th turn goes to the steps below the highest, each in its turn.
    """
    if len(waiting) == 1 or turn % FROM_BELOW_EVERY != FROM_BELOW_EVERY - 1:
        return waiting[-1]
    below = waiting[:-1]
    return below[(turn // FROM_BELOW_EVERY) % len(below)]
