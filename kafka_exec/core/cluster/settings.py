"""All settings in one frozen value.

They come, the later ones winning, from

1. the secrets file (``kafka_exec_secrets_file``), and the broker URL with Celery's own security settings,
2. the ``kafka_exec_*`` keys of Celery's configuration,
3. ``broker_transport_options`` (same names without the prefix),
4. ``result_backend_transport_options``, for the result back end,
5. the query of the URL (``kafka-exec://host:9092/prefix?max_deliveries=2``; nothing that is secret),
6. the environment (``KAFKA_EXEC_MAX_DELIVERIES=2``), which wins, as Celery's own ``CELERY_BROKER_URL`` does.

A setting is taken from one place as a whole: mappings are not merged. ``broker_transport_options["kafka"]`` passes any
librdkafka property; in the environment that is ``KAFKA_EXEC_KAFKA``.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from kafka_exec.core.cluster import values
from kafka_exec.errors import ConfigurationError

#: The schemes of our URLs: in the clear, and with TLS.
SCHEMES = ("kafka-exec", "kafka-execs")

#: How the settings are called in Celery's configuration.
PREFIX = "kafka_exec_"

#: What passes librdkafka properties beside the settings, in transport options and in the environment.
KAFKA = "kafka"

DEFAULT_PARTITIONS: Mapping[str, int] = {"queue": 16, "exchange": 6, "state": 16, "control": 8, "delay": 10}


@dataclass(frozen=True)
class Settings:
    """What a user can choose. Times are seconds.

    Attributes:
        partitions: partitions of new topics, by kind (``queue``, ``exchange``, ``state``, ``control``, ``delay``).
        replication: replicas of new topics; None: three, or as many as there are brokers.
        heartbeat: time between two heartbeats of a worker.
        session_timeout: after this time without a sign of life Kafka gives a member's partitions to others.
        publish_timeout: how long ``delay()`` waits for the broker's acknowledgement before it raises.
        commit_interval: time between commits of finished work; without a journal, what a ``kill -9`` may run again.
        group_protocol: ``classic`` or ``consumer`` (KIP-848).
        exchange_retention: how long broadcast messages (events, remote control, replies) are kept.
        dead_retention: how long dead letters and notes are kept.
        audit_retention: how long messages stay in the queue, and what was told of them in its journal, after they ended.
        deduplication_retention: how long a second task of a deduplication id is dropped after the first has ended.
        revoked_retention: how long workers know that a task was revoked.
        buffer: records a consumer holds in memory, per queue, before it pauses.
        max_deliveries: how often a task is begun whose runs are lost, before it becomes a dead letter.
        wrong_node_timeout: how long a task that nobody knows waits before it becomes a dead letter.
        work_sharing: whether workers give tasks that wait for a slot to workers that have one free.
        control_plane: whether workers drive the control plane (chords, delays); somebody must.
        beat_catch_up: what becomes of a periodic entry's times that were missed, unless the entry says: skip, one or all.
        beat_labels: what this machine is or has, for periodic entries that not every beat is able to fire.
        beat_claim_heartbeat: time between two repetitions of a beat's claims.
        topics: other names of topics, by kind (``queue``, ``journal``, ``exchange``, ``dead``, ``bindings``, ``nodes``,
            ``state``, ``notes``, ``control``, ``control-state``, ``delay``, ``delay-state``, ``revoked``, ``sync``,
            ``schedule``).
        secrets_file: a JSON object of librdkafka properties.
        cache_url: the Redis that holds copies of results; None: there is none. It may hold a password and is not shown.
    """

    partitions: Mapping[str, int] = field(default_factory=dict)
    replication: int | None = None
    heartbeat: float = 1.0
    session_timeout: float = 10.0
    publish_timeout: float = 15.0
    commit_interval: float = 0.2
    group_protocol: str = "classic"
    exchange_retention: float = 3600.0
    dead_retention: float = 30 * 86400.0
    audit_retention: float = 7 * 86400.0
    deduplication_retention: float = 7 * 86400.0
    revoked_retention: float = 90 * 86400.0
    buffer: int = 4000
    max_deliveries: int = 5
    wrong_node_timeout: float = 3600.0
    work_sharing: bool = True
    control_plane: bool = True
    beat_catch_up: str = "one"
    beat_labels: Collection[str] = ()
    beat_claim_heartbeat: float = 60.0
    topics: Mapping[str, str] = field(default_factory=dict)
    secrets_file: str | None = None
    cache_url: str | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        for name in KINDS:
            check_value(name, getattr(self, name))

    @classmethod
    def read(cls, *layers: Mapping[str, Any]) -> Settings:
        """Picks the settings out of mappings of options, the later ones winning; other names are left alone."""
        return cls(**{name: value for layer in layers for name, value in layer.items() if name in KINDS})

    def partitions_of(self, kind: str) -> int:
        """Partitions of a new topic of this kind."""
        return self.partitions.get(kind, DEFAULT_PARTITIONS[kind])


#: What the value of each setting may be.
KINDS: Mapping[str, values.Kind] = {
    "partitions": values.counts_of(DEFAULT_PARTITIONS),
    "replication": values.optional(values.COUNT),
    "heartbeat": values.TIME,
    "session_timeout": values.TIME,
    "publish_timeout": values.TIME,
    "commit_interval": values.TIME,
    "group_protocol": values.choice("classic", "consumer"),
    "exchange_retention": values.TIME,
    "dead_retention": values.TIME,
    "audit_retention": values.TIME,
    "deduplication_retention": values.TIME,
    "revoked_retention": values.TIME,
    "buffer": values.COUNT,
    "max_deliveries": values.COUNT,
    "wrong_node_timeout": values.TIME,
    "work_sharing": values.FLAG,
    "control_plane": values.FLAG,
    "beat_catch_up": values.choice("skip", "one", "all"),
    "beat_labels": values.LABELS,
    "beat_claim_heartbeat": values.TIME,
    "topics": values.TOPICS,
    "secrets_file": values.optional(values.PATH),
    "cache_url": values.optional(values.CACHE_URL),
}

#: How a user has written a setting's name.
Written = Callable[[str], str]


def in_configuration(name: str) -> str:
    """A setting as it is written in Celery's configuration."""
    return PREFIX + name


def check_value(name: str, value: object, written: Written = in_configuration) -> None:
    """Refuses a wrong value of a setting.

    Raises:
        ConfigurationError: names the setting as it was written.
    """
    kind = values.PROPERTIES if name == KAFKA else KINDS[name]
    if complaint := kind.complaint(value):
        raise ConfigurationError(f"{written(name)}{complaint}")


def check_names(names: Iterable[str], written: Written = in_configuration, also: Iterable[str] = ()) -> None:
    """Refuses the name of an unknown setting.

    Args:
        names: without their prefix.
        also: names that are known beside the settings.

    Raises:
        ConfigurationError: names the setting and the nearest right one, as the user writes them.
    """
    known = (*KINDS, *also)
    for name in names:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            hint = f"did you mean {written(near[0])}?" if near else f"known are {', '.join(map(written, known))}"
            raise ConfigurationError(f"unknown setting {written(name)}{', ' if near else '; '}{hint}")
