"""All settings in one frozen value.

They come, the later ones winning, from the secrets file, the broker URL with Celery's own security settings, the
``kafka_exec_*`` keys of Celery's configuration, and ``broker_transport_options`` (same names without the prefix).
``broker_transport_options["kafka"]`` passes any librdkafka property.
"""

from __future__ import annotations

import difflib
import json
import math
import os
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from kafka_exec.core.names import Topics
from kafka_exec.core.schedule import read_catch_up
from kafka_exec.errors import ConfigurationError

#: How the settings are called in Celery's configuration.
PREFIX = "kafka_exec_"

#: The schemes of a cache's URL.
CACHE_SCHEMES = ("redis", "rediss", "unix")

DEFAULT_PARTITIONS: Mapping[str, int] = {"queue": 16, "exchange": 6, "state": 16, "control": 8, "delay": 10}


#: Kafka counts in milliseconds, and 0 has special meanings there.
_SHORTEST = 0.001


def _time(name: str, value: object) -> None:
    if not isinstance(value, (int, float)) or isinstance(value, bool) or not _SHORTEST <= value < math.inf:
        raise ConfigurationError(f"{PREFIX}{name} must be a number of seconds, at least {_SHORTEST}, not {value!r}")


def _count(name: str, value: object) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise ConfigurationError(f"{PREFIX}{name} must be a whole number greater than 0, not {value!r}")


def _is_cache_url(value: object) -> bool:
    return isinstance(value, str) and value.partition("://")[0] in CACHE_SCHEMES


def _mapping(name: str, value: object) -> None:
    if not isinstance(value, Mapping):
        raise ConfigurationError(f"{PREFIX}{name} must be a mapping, not {value!r}")


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
        topics: other names of topics, by kind (``queue``, ``exchange``, ``dead``, ``bindings``, ``nodes``, ``state``,
            ``control``, ``control-state``, ``delay``, ``delay-state``, ``revoked``, ``sync``, ``schedule``).
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
        for name in (
            *("heartbeat", "session_timeout", "publish_timeout", "commit_interval"),
            *("exchange_retention", "dead_retention", "audit_retention", "revoked_retention"),
            *("deduplication_retention", "wrong_node_timeout", "beat_claim_heartbeat"),
        ):
            _time(name, getattr(self, name))
        _count("buffer", self.buffer)
        _count("max_deliveries", self.max_deliveries)
        if self.replication is not None:
            _count("replication", self.replication)
        if self.group_protocol not in ("classic", "consumer"):
            raise ConfigurationError(f"{PREFIX}group_protocol is {self.group_protocol!r}: choose classic or consumer")
        for name in ("control_plane", "work_sharing"):
            if not isinstance(value := getattr(self, name), bool):
                raise ConfigurationError(f"{PREFIX}{name} must be True or False, not {value!r}")
        try:
            read_catch_up(self.beat_catch_up)
        except ConfigurationError as error:
            raise ConfigurationError(f"{PREFIX}beat_{error}") from None
        if not isinstance(self.beat_labels, (list, tuple, set, frozenset)) or not all(
            isinstance(label, str) for label in self.beat_labels
        ):
            raise ConfigurationError(f"{PREFIX}beat_labels must be a list of texts, not {self.beat_labels!r}")
        _mapping("partitions", self.partitions)
        unknown = set(self.partitions) - set(DEFAULT_PARTITIONS)
        if unknown:
            raise ConfigurationError(f"{PREFIX}partitions: unknown kind {', '.join(sorted(map(str, unknown)))}")
        for kind, number in self.partitions.items():
            _count(f"partitions[{kind!r}]", number)
        _mapping("topics", self.topics)
        try:
            Topics("check", self.topics)
        except ConfigurationError as error:
            raise ConfigurationError(f"{PREFIX}{error}") from None
        if self.secrets_file is not None and not isinstance(self.secrets_file, (str, os.PathLike)):
            # Not its value: it may be the secrets.
            raise ConfigurationError(f"{PREFIX}secrets_file must be a path, not {type(self.secrets_file).__name__}")
        if self.cache_url is not None and not _is_cache_url(self.cache_url):
            # Not its value either.
            raise ConfigurationError(f"{PREFIX}cache_url must be a URL of {', '.join(CACHE_SCHEMES)}")

    @classmethod
    def read(cls, options: Mapping[str, Any]) -> Settings:
        """Picks the settings out of a mapping of options; names that are not ours are left alone."""
        names = {f.name for f in fields(cls)}
        return cls(**{name: value for name, value in options.items() if name in names})

    def partitions_of(self, kind: str) -> int:
        """Partitions of a new topic of this kind."""
        return self.partitions.get(kind, DEFAULT_PARTITIONS[kind])


def check_names(keys: Iterable[str]) -> None:
    """Refuses an unknown ``kafka_exec_*`` key.

    Raises:
        ConfigurationError: names the key and the nearest right one.
    """
    known = [PREFIX + f.name for f in fields(Settings)]
    for key in keys:
        if key.startswith(PREFIX) and key not in known:
            near = difflib.get_close_matches(key, known, n=1)
            hint = f", did you mean {near[0]}?" if near else f"; known are {', '.join(known)}"
            raise ConfigurationError(f"unknown setting {key}{hint}")


_SSL = {
    "ca_certs": "ssl.ca.location",
    "cafile": "ssl.ca.location",
    "ssl_ca_certs": "ssl.ca.location",
    "certfile": "ssl.certificate.location",
    "ssl_certfile": "ssl.certificate.location",
    "keyfile": "ssl.key.location",
    "ssl_keyfile": "ssl.key.location",
    "keyfile_password": "ssl.key.password",
    "password": "ssl.key.password",
    "ciphers": "ssl.cipher.suites",
}
_SSL_VERIFY = ("cert_reqs", "ssl_cert_reqs")


def bootstrap_servers(hosts: str | None, port: int | None) -> str:
    """``h1:port,h2:port`` of the host part of a URL, in which several hosts of one port stand between commas."""
    names = [host.strip() for host in (hosts or "").split(",")]
    return ",".join(f"{host}:{port or 9092}" for host in names if host) or f"127.0.0.1:{port or 9092}"


def client_properties(
    *,
    servers: str,
    settings: Settings,
    user: str | None = None,
    password: str | None = None,
    mechanism: str | None = None,
    tls: bool | Mapping[str, Any] | None = None,
    extra: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """The librdkafka properties by which every client of a cluster is made.

    Args:
        servers: ``bootstrap.servers``.
        user: with it SASL is used; ``mechanism`` is SCRAM-SHA-512 unless given.
        tls: True, or a mapping as Celery's ``broker_use_ssl``: ``ca_certs``, ``certfile``, ``keyfile``, ``cert_reqs`` …
        extra: properties that win over all others.

    Raises:
        ConfigurationError: the secrets file cannot be read.
    """
    extra = {} if extra is None else extra
    if not isinstance(extra, Mapping):
        raise ConfigurationError('broker_transport_options["kafka"] must be a mapping of librdkafka properties')
    made: dict[str, Any] = {**_secrets(settings.secrets_file), "bootstrap.servers": servers}
    if user:
        made["sasl.username"] = user
        made["sasl.password"] = password or made.get("sasl.password", "")
    if "sasl.username" in made:
        made["sasl.mechanism"] = mechanism or made.get("sasl.mechanism") or "SCRAM-SHA-512"
    elif mechanism and mechanism not in ("PLAIN", "AMQPLAIN", "EXTERNAL"):
        made["sasl.mechanism"] = mechanism
    for name, value in tls.items() if isinstance(tls, Mapping) else ():
        if name in _SSL:
            made[_SSL[name]] = value
        elif name in _SSL_VERIFY:
            made["enable.ssl.certificate.verification"] = str(value) not in ("0", "CERT_NONE", "VerifyMode.CERT_NONE")
        elif "." in name:
            made[name] = value
        else:
            raise ConfigurationError(
                f"broker_use_ssl: unknown key {name!r}; known are {', '.join([*_SSL, *_SSL_VERIFY])}"
            )
    names = (*made, *extra)
    stated = str(made.get("security.protocol", "")).lower()
    sasl = stated.startswith("sasl_") or any(name.startswith("sasl.") for name in names)
    encrypted = bool(tls) or stated.endswith("ssl") or any(name.startswith("ssl.") for name in names)
    made["security.protocol"] = ("sasl_" if sasl else "") + ("ssl" if encrypted else "plaintext")
    made.update(extra)
    return made


def _secrets(path: str | None) -> dict[str, Any]:
    if path is None:
        return {}
    try:
        found = json.loads(Path(path).read_bytes())
    except OSError as error:
        raise ConfigurationError(f"{PREFIX}secrets_file {path}: {error.strerror}") from None
    except (ValueError, RecursionError):
        # The parser's message would quote the file.
        raise ConfigurationError(f"{PREFIX}secrets_file {path} is not JSON") from None
    if not isinstance(found, dict):
        raise ConfigurationError(f"{PREFIX}secrets_file {path} must hold a JSON object of librdkafka properties")
    if "sasl.mechanisms" in found:  # librdkafka knows it by two names
        found["sasl.mechanism"] = found.pop("sasl.mechanisms")
    return found
