"""Flower's pages for an app on Kafka: its queues, and the tasks of which no event tells.

Every ``celery`` command imports Flower where it is installed. :func:`extend` replaces two of its functions in place, and no
file of it; of an app with another broker they do what they did.
"""

from __future__ import annotations

import logging
import sys
from types import ModuleType
from typing import Any

from celery import states

logger = logging.getLogger("kafka_exec")

#: A module of Flower has this attribute once it is extended.
_EXTENDED = "extended_by_kafka_exec"


def extend() -> None:
    """Extends Flower, if it is loaded. A second call changes nothing. What Flower lacks is told once, and it works on."""
    views, tasks = sys.modules.get("flower.views"), sys.modules.get("flower.utils.tasks")
    if views is None or tasks is None or hasattr(views, _EXTENDED):
        return
    setattr(views, _EXTENDED, True)
    try:
        _extend(views, tasks)
    except AttributeError as error:
        logger.warning("this version of Flower shows no queues and no past tasks of Kafka: %s", error)


def _extend(views: ModuleType, tasks: ModuleType) -> None:
    # A state that Celery does not know would hide all later ones but the end.
    for state in ("SUSPENDED", "RESUMED"):
        states.PRECEDENCE_LOOKUP.setdefault(state, states.PRECEDENCE_LOOKUP[states.STARTED])
    flowers_broker, flowers_task = views.BaseHandler.get_broker, tasks.get_task_by_id

    def get_broker(handler: Any) -> Any:
        from kafka_exec.flower.queues import Queues
        from kafka_exec.settings.appconf import has_our_broker

        return Queues(handler.capp) if has_our_broker(handler.capp.conf) else flowers_broker(handler)

    def get_task_by_id(events: Any, task_id: str) -> Any:
        from kafka_exec.flower.tasks import past_task

        found = flowers_task(events, task_id)
        return past_task(events, task_id) if found is None else found

    views.BaseHandler.get_broker = get_broker
    tasks.get_task_by_id = get_task_by_id  # type: ignore[attr-defined]
    sys.modules["flower.views.tasks"].get_task_by_id = get_task_by_id  # type: ignore[attr-defined]
