"""Flower's pages for an app on Kafka: its queues and tasks of which no event tells, pages of our own, API and metrics.

Every ``celery`` command imports Flower where it is installed. :func:`extend` replaces three of its functions in place, and
no file of it; of an app with another broker they do what they did.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Mapping
from functools import wraps
from types import ModuleType
from typing import Any

from celery import states

from kafka_exec.settings.appconf import has_our_broker

logger = logging.getLogger("kafka_exec")

#: A module of Flower has this attribute once it is extended.
_EXTENDED = "extended_by_kafka_exec"


def extend() -> None:
    """Extends Flower, if it is loaded. A second call changes nothing. What Flower lacks is told once, and it works on."""
    modules = sys.modules
    if (views := modules.get("flower.views")) is None or hasattr(views, _EXTENDED):
        return
    setattr(views, _EXTENDED, True)
    # A state that Celery does not know would hide all later ones but the end.
    for state in ("SUSPENDED", "RESUMED"):
        states.PRECEDENCE_LOOKUP.setdefault(state, states.PRECEDENCE_LOOKUP[states.STARTED])
    missing = []
    for what, extension in _EXTENSIONS.items():
        try:
            extension(modules)
        except (AttributeError, KeyError) as error:
            missing.append(f"no {what} ({error})")
    if missing:
        logger.warning("this version of Flower does not show all of Kafka: %s", ", ".join(missing))


def _show_queues(modules: Mapping[str, ModuleType]) -> None:
    handlers: Any = modules["flower.views"].BaseHandler
    flowers = handlers.get_broker

    def get_broker(handler: Any) -> Any:
        from kafka_exec.flower.queues import Queues

        return Queues(handler.capp) if has_our_broker(handler.capp.conf) else flowers(handler)

    handlers.get_broker = get_broker


def _show_past_tasks(modules: Mapping[str, ModuleType]) -> None:
    users = [modules[name] for name in ("flower.utils.tasks", "flower.views.tasks")]
    flowers = users[0].get_task_by_id

    def get_task_by_id(events: Any, task_id: str) -> Any:
        from kafka_exec.flower.tasks import past_task

        found = flowers(events, task_id)
        return past_task(events, task_id) if found is None else found

    for user in users:
        user.get_task_by_id = get_task_by_id  # type: ignore[attr-defined]


def _serve_pages(modules: Mapping[str, ModuleType]) -> None:
    flower: Any = modules["flower.app"].Flower
    flowers = flower.__init__

    @wraps(flowers)
    def init(self: Any, *args: Any, **kwargs: Any) -> None:
        flowers(self, *args, **kwargs)
        if has_our_broker(self.capp.conf):
            _add_pages(self)

    flower.__init__ = init


def _add_pages(flower: Any) -> None:
    try:
        from kafka_exec.flower.site import add_to

        add_to(flower)
    except Exception as error:  # whatever another version of Flower lacks: its own pages work on
        logger.warning("Flower has no pages of Kafka, and neither its API nor its metrics: %s", error)


_EXTENSIONS: Mapping[str, Callable[[Mapping[str, ModuleType]], None]] = {
    "queues": _show_queues,
    "past tasks": _show_past_tasks,
    "pages": _serve_pages,
}
