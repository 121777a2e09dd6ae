"""The inventory of a process: the versions of this package and of the libraries below it, and the settings in force."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import Any

import celery
import confluent_kafka
import kombu

from kafka_exec.about import __version__


def in_force(settings: Any) -> dict[str, Any]:
    """Our settings by name, as JSON values. Settings that may hold a secret are left out, as in ``repr``."""
    shown = {field.name: getattr(settings, field.name) for field in fields(settings) if field.repr}
    return {name: _plain(value) for name, value in shown.items()}


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return dict(value)
    return sorted(value) if isinstance(value, (list, tuple, set, frozenset)) else value


def versions() -> dict[str, str]:
    """The versions of this package and of the libraries below it, by name."""
    return {
        "kafka_exec": __version__,
        "celery": celery.__version__,
        "kombu": kombu.__version__,
        "confluent-kafka": confluent_kafka.__version__,
        "librdkafka": confluent_kafka.libversion()[0],
    }
