"""Kafka for pytest-celery: the classes of a vendor, its fixtures (:mod:`.fixtures`), and containers that are processes.

It needs ``pip install pytest-celery``.
"""

from __future__ import annotations

from kafka_exec.testing.containers.client import ProcessClient
from kafka_exec.testing.containers.kafka import KafkaContainer, KafkaTestBackend, KafkaTestBroker

__all__ = ("KafkaContainer", "KafkaTestBackend", "KafkaTestBroker", "ProcessClient")
