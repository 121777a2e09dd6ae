"""All settings in one frozen value.

They come from these places, of which the later ones win:

1. the secrets file (``kafka_exec_secrets_file``), and the broker URL with Celery's own security settings,
2. the ``kafka_exec_*`` keys of Celery's configuration,
3. ``broker_transport_options`` (same names without the prefix),
4. ``result_backend_transport_options``, for the result back end,
5. the query of the URL (``kafka-exec://host:9092/prefix?max_deliveries=2``; no secrets),
6. the environment (``KAFKA_EXEC_MAX_DELIVERIES=2``), which wins, as Celery's own ``CELERY_BROKER_URL`` does.

A setting comes from one place as a whole: mappings are not merged. ``broker_transport_options["kafka"]`` passes any
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

#: The prefix of the settings in Celery's configuration.
PREFIX = "kafka_exec_"

#: The name of the librdkafka properties beside the settings, in transport options and in the environment.
KAFKA = "kafka"

DEFAULT_PARTITIONS: Mapping[str, int] = {"queue": 16, "exchange": 6, "state": 16, "control": 8, "delay": 10}


@dataclass(frozen=True)
class Settings:
    """The settings that a user can choose. Times are seconds.

    Attributes:
        partitions: partitions of new topics, by kind (``queue``, ``exchange``, ``state``, ``control``, ``delay``).
        replication: replicas of new topics; None: three, or as many as there are brokers.
        heartbeat: the time between two heartbeats of a worker.
        session_timeout: Kafka gives a member's partitions to others when it has heard nothing from it for this time.
        publish_timeout: ``delay()`` waits so long for the broker's acknowledgement before it raises.
        commit_interval: the time between two commits; without a journal, tasks that ended within it may run again after a
            ``kill -9``.
        group_protocol: ``classic`` or ``consumer`` (KIP-848).
        exchange_retention: Kafka keeps broadcast messages (events, remote control, replies) for this time.
        dead_retention: Kafka keeps dead letters and notes for this time.
        audit_retention: ended messages stay in their queue, and their journal entries in the journal, for this time.
        deduplication_retention: a second task of a deduplication id is dropped for this time after the first has ended.
        revoked_retention: workers remember a revoked task for this time.
        buffer: the number of records that a consumer holds in memory, per queue, before it pauses.
        max_deliveries: a task is begun so often, if its runs are lost, before it becomes a dead letter.
        wrong_node_timeout: a task that no worker knows waits for this time before it becomes a dead letter.
        suspend_timeout: a suspended task waits for this time, if it names no other, before it fails.
        resume_timeout: a callback waits for this time for its task's suspension before it becomes a dead letter; a
            suspension that is over is remembered for as long, to recognise copies of its callbacks.
        work_sharing: a full worker gives tasks that wait for a pool slot to workers that have one free.
        control_plane: workers drive the control plane (chords, delays); if not, another process must.
        beat_catch_up: the missed slots that are fired, unless the periodic entry says it: none (``skip``), the last one
            (``one``), or ``all``.
        beat_labels: labels of this machine, for periodic entries that not every beat is able to fire.
        beat_claim_heartbeat: the time between two repetitions of a beat's claims.
        topics: other names of topics, by kind (``queue``, ``journal``, ``exchange``, ``dead``, ``bindings``, ``nodes``,
            ``state``, ``notes``, ``steps``, ``control``, ``control-state``, ``delay``, ``delay-state``, ``revoked``,
            ``sync``, ``schedule``).
        health_file: the beginning of the paths of files by which ``python -m kafka_exec.health`` tells if nodes of this
            machine are alive; None: they write none.
        metrics_port: workers, beats and control planes serve metrics of their own process on this port, or the next one that
            is free; 0: they serve none.
        metrics_host: the address on which they listen; ``0.0.0.0``: all of the machine.
        secrets_file: the path of a JSON object of librdkafka properties.
        api_tokens: the users of the HTTP API, each a text ``USER:TOKEN``; without any it answers only this machine.
        cache_url: the URL of the Redis that holds copies of results; None: there is none. It may hold a password, so it is
            never shown.
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
    suspend_timeout: float = 7200.0
    resume_timeout: float = 86400.0
    work_sharing: bool = True
    control_plane: bool = True
    beat_catch_up: str = "one"
    beat_labels: Collection[str] = ()
    beat_claim_heartbeat: float = 60.0
    topics: Mapping[str, str] = field(default_factory=dict)
    health_file: str | None = None
    metrics_port: int = 0
    metrics_host: str = "127.0.0.1"
    secrets_file: str | None = None
    api_tokens: Collection[str] = field(default=(), repr=False)
    cache_url: str | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        for name in KINDS:
            check_value(name, getattr(self, name))

    @classmethod
    def read(cls, *layers: Mapping[str, Any]) -> Settings:
        """The settings in mappings of options, of which the later ones win. Other names are ignored."""
        return cls(**{name: value for layer in layers for name, value in layer.items() if name in KINDS})

    def partitions_of(self, kind: str) -> int:
        """The number of partitions of a new topic of this kind."""
        return self.partitions.get(kind, DEFAULT_PARTITIONS[kind])


#: The kind of each setting's value.
KINDS: Mapping[str, values.ValueKind] = {
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
    "suspend_timeout": values.TIME,
    "resume_timeout": values.TIME,
    "work_sharing": values.FLAG,
    "control_plane": values.FLAG,
    "beat_catch_up": values.choice("skip", "one", "all"),
    "beat_labels": values.LABELS,
    "beat_claim_heartbeat": values.TIME,
    "topics": values.TOPICS,
    "health_file": values.optional(values.PATH),
    "metrics_port": values.PORT,
    "metrics_host": values.HOST,
    "secrets_file": values.optional(values.PATH),
    "api_tokens": values.TOKENS,
    "cache_url": values.optional(values.CACHE_URL),
}

#: The names of settings that are never shown.
SECRETS = frozenset(name for name, kind in KINDS.items() if kind.is_secret)

#: Returns a setting's name as the user has written it.
Written = Callable[[str], str]


def in_configuration(name: str) -> str:
    """A setting's name as it is written in Celery's configuration."""
    return PREFIX + name


def check_value(name: str, value: object, written: Written = in_configuration) -> None:
    """Refuses a wrong value of a setting.

    Raises:
        ConfigurationError: the value is wrong; the message names the setting as the user has written it.
    """
    kind = values.PROPERTIES if name == KAFKA else KINDS[name]
    if complaint := kind.complaint(value):
        raise ConfigurationError(f"{written(name)}{complaint}")


def check_names(names: Iterable[str], written: Written = in_configuration, also: Iterable[str] = ()) -> None:
    """Refuses the name of an unknown setting.

    Args:
        names: the names without their prefix.
        written: returns a name as the user has written it.
        also: names that are known beside the settings.

    Raises:
        ConfigurationError: a name is unknown; the message names it and the nearest right one, as the user writes them.
    """
    known = (*KINDS, *also)
    for name in names:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            hint = f"did you mean {written(near[0])}?" if near else f"known are {', '.join(map(written, known))}"
            raise ConfigurationError(f"unknown setting {written(name)}{', ' if near else '; '}{hint}")
