"""A tour of the features of kafka_exec: each is used once, on real input, and what was seen is checked."""

from __future__ import annotations

from celery_app.tour import delivery, failures, keys, operations, results, timing, workflows
from celery_app.tour.guide import DemoError, Elsewhere, Seen, Stop, Tour, take

__all__ = ["ELSEWHERE", "STOPS", "DemoError", "Elsewhere", "Seen", "Stop", "Tour", "chosen", "take"]

#: Time passes for the first ones while the others are shown; those that a worker is killed for are the last ones.
STOPS = [
    *timing.STOPS,
    *results.STOPS,
    *delivery.STOPS[:1],
    *operations.STOPS[:1],
    *delivery.STOPS[1:4],
    *keys.STOPS,
    *workflows.STOPS,
    *failures.STOPS,
    *operations.STOPS[1:],
    *delivery.STOPS[4:],
]

ELSEWHERE = [*delivery.ELSEWHERE, *results.ELSEWHERE, *operations.ELSEWHERE]


def chosen(only: str | None) -> list[Stop]:
    """The stops whose features have one of these texts in their names, which commas separate; all of them if None.

    Raises:
        DemoError: a text is in no name.
    """
    if only is None:
        return STOPS
    texts = [text.strip().lower() for text in only.split(",")]
    for text in texts:
        if not any(text in stop.feature.lower() for stop in STOPS):
            raise DemoError(f"no feature of the tour is named {text}: {', '.join(stop.feature for stop in STOPS)}")
    return [stop for stop in STOPS if any(text in stop.feature.lower() for text in texts)]
