"""The broker of the tests: an embedded one for each process of pytest, or a running one; and each test's prefix in it."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

from celery import Celery

from kafka_exec.broker import EmbeddedKafka
from kafka_exec.settings.appconf import broker_home

#: MB: memory for the topics of some tests at a time.
_HEAP = 512

#: With Java's first compiler only, a broker needs half as much CPU in the minutes that tests take.
_JAVA_OPTIONS = "-XX:TieredStopAtLevel=1"

#: Few partitions, so that topics are made in no time; two of a queue, so that ordering keys matter.
PARTITIONS = {"queue": 2, "state": 2, "control": 1, "delay": 4, "exchange": 1}


@contextmanager
def broker(url: str | None) -> Iterator[str]:
    """The URL of a broker, perhaps with a prefix. ``url``: of a running one; None: an embedded one is started."""
    if url:
        yield url
        return
    kafka = EmbeddedKafka(heap=_HEAP)
    try:
        start(kafka)
        yield kafka.url
    finally:
        kafka.close()


def start(kafka: EmbeddedKafka) -> None:
    """Starts an embedded broker, for minutes."""
    with patch.dict(os.environ, {"JDK_JAVA_OPTIONS": _JAVA_OPTIONS}):
        kafka.start()


@contextmanager
def own_prefix(url: str) -> Iterator[str]:
    """The URL with a prefix of its own, behind that of the URL if it has one. In the end its topics are deleted."""
    address, _, query = url.partition("?")
    scheme, _, rest = address.partition("://")
    hosts, _, before = rest.partition("/")
    prefix = f"{before.strip('/')}-" if before.strip("/") else ""
    own = f"{scheme}://{hosts}/{prefix}{uuid.uuid4().hex[:12]}{'?' if query else ''}{query}"
    try:
        yield own
    finally:
        _delete_topics(own)


def _delete_topics(url: str) -> None:
    with Celery("kafka_exec.testing", broker=url, set_as_current=False) as app:
        space = broker_home(app)
    ours = [name for name in space.cluster.topics.counts() if name.startswith(f"{space.topics.prefix}.")]
    if ours:
        space.cluster.topics.delete(ours)


def settings_for(url: str) -> dict[str, Any]:
    """The settings by which an app uses a broker at a URL, in a test."""
    return {
        "broker_url": url,
        "broker_read_url": url,
        "broker_write_url": url,
        "result_backend": url,
        "broker_connection_retry_on_startup": True,
        "worker_hijack_root_logger": False,  # pytest's own handlers stay
        "worker_redirect_stdouts": False,
        "kafka_exec_partitions": dict(PARTITIONS),
    }
