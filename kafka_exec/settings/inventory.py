"""The inventory of a process: the versions of this package and of the libraries below it, and the settings in force."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import Any

import celery
import confluent_kafka
import kombu

from kafka_exec.about import __version__
from kafka_exec.core.cluster.settings import Settings
from kafka_exec.settings.environment import from_environment, variable


def in_force(settings: Any) -> dict[str, Any]:
    """Our settings by name, as JSON values. Settings that may hold a secret are left out, as in ``repr``."""
    shown = {field.name: getattr(settings, field.name) for field in fields(settings) if field.repr}
    return {name: _plain(value) for name, value in shown.items()}


def origins(settings: Settings) -> dict[str, tuple[Any, str]]:
    """Our settings in force that are not the defaults, each with its value and where it comes from."""
    defaults, environment = in_force(Settings()), from_environment()
    return {
        name: (
            value,
            f"the environment variable {variable(name)}" if name in environment else "the configuration or the URL",
        )
        for name, value in in_force(settings).items()
        if value != defaults[name]
    }


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
