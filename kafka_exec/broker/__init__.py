"""A real Apache Kafka for development and tests: no Docker, no Java of the system, loopback addresses only.

    with EmbeddedKafka() as kafka:
        app = Celery(broker=kafka.url, backend=kafka.url)

It needs ``pip install "kafka_exec[broker]"``.
"""

from __future__ import annotations

from kafka_exec.broker.embedded import EmbeddedKafka
from kafka_exec.broker.errors import (
    BrokerError,
    BrokerNotInstalled,
    BrokerNotRunning,
    BrokerStartFailed,
    DataInUse,
    DataMismatch,
    FolderNotWritable,
    PortUnavailable,
    RegistryUnreachable,
    UnsupportedPlatform,
)
from kafka_exec.broker.install.distribution import STEPS

__all__ = (
    "STEPS",
    "BrokerError",
    "BrokerNotInstalled",
    "BrokerNotRunning",
    "BrokerStartFailed",
    "DataInUse",
    "DataMismatch",
    "EmbeddedKafka",
    "FolderNotWritable",
    "PortUnavailable",
    "RegistryUnreachable",
    "UnsupportedPlatform",
)
