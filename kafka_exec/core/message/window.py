"""The window of a channel: how many messages it may hold unacknowledged, and the priority step of the next one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

#: The largest number of priority steps. Kafka has no priorities, so each step is a topic of its own.
MOST_STEPS = 4

#: One of so many deliveries comes from a lower step, so that no step starves.
FROM_BELOW_EVERY = 10


def is_full(limit: int, outstanding: int) -> bool:
    """True if the channel may get no more messages. ``limit``: AMQP's prefetch count, 0 for no limit."""
    return bool(limit) and outstanding >= limit


def refill_due(limit: int, outstanding: int) -> bool:
    """True if so much of the window was acknowledged that a wake-up is worth it: a quarter, at least one message."""
    return not limit or outstanding <= limit - max(1, limit // 4)


def steps_for(max_priority: int | None) -> int:
    """The number of priority steps of a queue declared with this ``x-max-priority``."""
    return min(MOST_STEPS, max_priority + 1) if max_priority and max_priority > 0 else 1


def step_of(priority: Any, max_priority: int | None) -> int:
    """The priority step of a message; a higher one is more urgent. Priorities above the queue's maximum count as that.

    Args:
        priority: the message's priority; a value that is no whole number counts as none.
        max_priority: the queue's ``x-max-priority``.
    """
    steps = steps_for(max_priority)
    if steps == 1 or not max_priority or type(priority) is not int:
        return 0
    return min(max(priority, 0), max_priority) * steps // (max_priority + 1)


def pick_step(waiting: Sequence[int], turn: int) -> int:
    """The step from which the delivery with the number ``turn`` comes.

    Each :data:`FROM_BELOW_EVERY`-th delivery comes from a step below the highest one, from each of them in turn.

    Args:
        waiting: the steps that have messages, ascending.
    """
    if len(waiting) == 1 or turn % FROM_BELOW_EVERY != FROM_BELOW_EVERY - 1:
        return waiting[-1]
    below = waiting[:-1]
    return below[(turn // FROM_BELOW_EVERY) % len(below)]
