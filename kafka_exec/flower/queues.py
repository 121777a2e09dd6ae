"""Flower's page of the broker, and its ``/api/queues/length``, from the topics."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Collection
from typing import Any

from celery import Celery

from kafka_exec.kafka.overview.queues import Overview
from kafka_exec.settings.appconf import broker_home


class Queues:
    """In the place of Flower's ``Broker``, for one request."""

    def __init__(self, app: Celery) -> None:
        self._app = app

    async def queues(self, names: Collection[str]) -> list[dict[str, Any]]:
        """All queues, in Flower's words. ``names``: those that workers answer for; Kafka knows the others too."""
        return await asyncio.get_running_loop().run_in_executor(None, self._queues)

    def _queues(self) -> list[dict[str, Any]]:
        space = broker_home(self._app)
        return [
            {
                "name": report.name,
                "messages": report.counts.total,
                "messages_ready": report.counts.ready,
                "messages_unacknowledged": report.counts.running + report.counts.lost,
                "consumers": report.workers,
                "blocked": report.counts.blocked,
                "delayed": report.delayed,
                "dead": report.dead,
                "state": report.state.value,
            }
            for report in Overview(space.cluster, space.topics).survey(time.time()).queues
        ]
