"""Our part of a Flower that runs: the HTTP API, the pages, and metrics beside its own."""

from __future__ import annotations

import atexit
import logging
import re
import threading
from contextlib import ExitStack
from typing import Any

from celery import Celery
from prometheus_client import CollectorRegistry, generate_latest
from tornado.web import url

from kafka_exec.api import application
from kafka_exec.api.openapi import ALIASES, BASE
from kafka_exec.core.overview.metrics import PREFIX
from kafka_exec.errors import KafkaExecError
from kafka_exec.flower import handlers
from kafka_exec.flower.navigation import Templates
from kafka_exec.flower.pages import PAGES
from kafka_exec.operations.metrics import metrics

logger = logging.getLogger("kafka_exec")


def add_to(flower: Any) -> None:
    """Adds all that to a Flower that is to be started.

    Raises:
        ConfigurationError: what the API needs is not installed.
        ImportError, AttributeError, KeyError: this version of Flower lacks a place to add it to.
    """
    options = flower.options
    api = application(flower.capp, read_only=options.read_only)
    root = f"/{options.url_prefix.strip('/')}" if options.url_prefix else ""
    parts = {"api": api, "root": root}
    aliases = "|".join(sorted({re.escape(alias.split("/")[1]) for alias in ALIASES}))
    templates = Templates(flower.settings["template_path"], f"{root}/kafka/queues")
    served: tuple[tuple[str, Any, dict[str, Any]], ...] = (
        (rf"(?:{BASE}|/(?:{aliases}))(?:/.*)?", handlers.ApiHandler, parts),
        (r"/kafka/?", handlers.FirstPage, parts),
        (rf"/kafka/({'|'.join(PAGES)})", handlers.ListHandler, parts),
        (r"/kafka/executions/([^/]+)", handlers.TaskHandler, parts),
        (r"/kafka/dead/([^/]+)/([0-9]+:[0-9]+)", handlers.LetterHandler, parts),
        (r"/kafka/acts/(\w+)", handlers.ActHandler, parts),
        (r"/metrics", handlers.MetricsHandler, {"text": Scrapes(flower.capp).text}),
    )
    flower.add_handlers(".*", [url(re.escape(root) + pattern, handler, given) for pattern, handler, given in served])
    flower.settings["template_loader"] = templates


class Scrapes:
    """The metrics of an app's topics as texts. What tasks come to is counted from the first text on."""

    def __init__(self, app: Celery) -> None:
        self._app = app
        self._lock = threading.Lock()
        self._open = ExitStack()
        self._registry: CollectorRegistry | None = None
        atexit.register(self._open.close)

    def text(self) -> bytes:
        """The metrics of now, as Prometheus reads them."""
        with self._lock:
            try:
                if self._registry is None:
                    self._registry = self._open.enter_context(metrics(self._app))
            except KafkaExecError as error:
                logger.warning("no metrics: %s", error)
                return f"{PREFIX}up 0.0\n".encode()
            return bytes(generate_latest(self._registry))
