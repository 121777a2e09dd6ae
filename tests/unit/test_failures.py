"""Each of Kafka's errors has one meaning, and each meaning one kind of exception."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
from confluent_kafka import KafkaError, KafkaException
from kombu.exceptions import ChannelError, OperationalError

from kafka_exec.core.failures import _NAMES, FAILURES, Failure, failure_of
