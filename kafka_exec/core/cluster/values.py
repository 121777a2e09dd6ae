"""Kinds of values of settings. Each kind reads a value that is written as text, and complains about a wrong one."""

from __future__ import annotations

import json
import math
import os
import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass

from kafka_exec.core.cluster.names import Topics
from kafka_exec.errors import ConfigurationError

#: The schemes of a cache's URL.
CACHE_SCHEMES = ("redis", "rediss", "unix")

#: The shortest time, seconds: Kafka counts in milliseconds, and gives 0 special meanings.
_SHORTEST = 0.001

_LARGEST_PORT = 65535


#: The shortest token of a user of the HTTP API, characters: shorter ones can be guessed.
_SHORTEST_TOKEN = 16
_TOKEN = re.compile(rf"[^:\s]+:[!-~]{{{_SHORTEST_TOKEN},}}")


def _as_is(text: str) -> object:
    return text


@dataclass(frozen=True)
class ValueKind:
    """A kind of values.

    Attributes:
        name: the name of the kind, for the documentation.
        complaint: returns the complaint about a wrong value, to be read after the name of the setting; None for a right one.
        read: returns the value of a text; the text itself if it stands for no value, so that ``complaint`` refuses it.
        example: a value as it is written as text.
        is_secret: the value may hold a password: no complaint shows it, and it is not read from places that are shown.
    """

    name: str
    complaint: Callable[[object], str | None]
    read: Callable[[str], object] = _as_is
    example: str = ""
    is_secret: bool = False

    @property
    def is_json(self) -> bool:
        """True if the value is written as JSON."""
        return self.read is _json


def _float(text: str) -> object:
    try:
        return float(text)
    except ValueError:
        return text


def _int(text: str) -> object:
    try:
        return int(text)
    except ValueError:
        return text


def _bool(text: str) -> object:
    return {"true": True, "false": False}.get(text.strip().lower(), text)


def _json(text: str) -> object:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text


def _no_time(value: object) -> str | None:
    if isinstance(value, (int, float)) and not isinstance(value, bool) and _SHORTEST <= value < math.inf:
        return None
    return f" must be a number of seconds, at least {_SHORTEST}, not {value!r}"


def _no_count(value: object) -> str | None:
    if isinstance(value, int) and not isinstance(value, bool) and value >= 1:
        return None
    return f" must be a whole number greater than 0, not {value!r}"


def _no_port(value: object) -> str | None:
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= _LARGEST_PORT:
        return None
    return f" must be a port, from 1 to {_LARGEST_PORT}, or 0 for none, not {value!r}"


def _no_host(value: object) -> str | None:
    if isinstance(value, str) and value and not any(each.isspace() for each in value):
        return None
    return f" must be the name or the address of a machine, not {value!r}"


def _no_flag(value: object) -> str | None:
    return None if isinstance(value, bool) else f" must be True or False, not {value!r}"


def _no_path(value: object) -> str | None:
    # The value is not shown: it may be the secrets themselves.
    return None if isinstance(value, (str, os.PathLike)) else f" must be a path, not {type(value).__name__}"


def _no_cache_url(value: object) -> str | None:
    if isinstance(value, str) and value.partition("://")[0] in CACHE_SCHEMES:
        return None
    return f" must be a URL of {', '.join(CACHE_SCHEMES)}"


def _no_tokens(value: object) -> str | None:
    # The value is not shown: it is secret.
    if isinstance(value, (list, tuple)) and all(isinstance(each, str) and _TOKEN.fullmatch(each) for each in value):
        return None
    return f" must be a list of texts USER:TOKEN, with tokens of at least {_SHORTEST_TOKEN} visible ASCII characters"


def _no_labels(value: object) -> str | None:
    if isinstance(value, (list, tuple, set, frozenset)) and all(isinstance(label, str) for label in value):
        return None
    return f" must be a list of texts, not {value!r}"


def _no_topics(value: object) -> str | None:
    if not isinstance(value, Mapping):
        return f" must be a mapping, not {value!r}"
    try:
        Topics("check", value)
    except ConfigurationError as error:
        return str(error).removeprefix("topics")
    return None


def _no_properties(value: object) -> str | None:
    # The value is not shown: it may hold a password.
    return None if isinstance(value, Mapping) else " must be a mapping of librdkafka properties"


TIME = ValueKind("seconds", _no_time, _float, "2.5")
COUNT = ValueKind("whole number", _no_count, _int, "8")
PORT = ValueKind("port", _no_port, _int, "9810")
HOST = ValueKind("host", _no_host, example="0.0.0.0")
FLAG = ValueKind("true or false", _no_flag, _bool, "false")
LABELS = ValueKind("list of texts", _no_labels, _json, '["gpu"]')
TOPICS = ValueKind("mapping of texts", _no_topics, _json, '{"queue": "jobs.{name}"}')
PATH = ValueKind("path", _no_path, example="/run/secrets/kafka.json")
CACHE_URL = ValueKind("URL", _no_cache_url, example="redis://host:6379/0", is_secret=True)
TOKENS = ValueKind("list of texts", _no_tokens, _json, '["anna:a-long-random-text"]', is_secret=True)
PROPERTIES = ValueKind(
    "mapping of librdkafka properties", _no_properties, _json, '{"compression.type": "zstd"}', is_secret=True
)


def optional(kind: ValueKind) -> ValueKind:
    """The kind of values that may also be None."""
    return ValueKind(
        kind.name,
        lambda value: None if value is None else kind.complaint(value),
        kind.read,
        kind.example,
        kind.is_secret,
    )


def choice(*values: str) -> ValueKind:
    """The kind of a value that is one of these texts."""

    def complaint(value: object) -> str | None:
        return None if value in values else f" is {value!r}: choose {' or '.join(values)}"

    return ValueKind(" or ".join(values), complaint, example=values[-1])


def counts_of(kinds: Collection[str]) -> ValueKind:
    """The kind of a mapping from some of these names to whole numbers."""

    def complaint(value: object) -> str | None:
        if not isinstance(value, Mapping):
            return f" must be a mapping, not {value!r}"
        if unknown := sorted(map(str, set(value) - set(kinds))):
            return f": unknown kind {', '.join(unknown)}"
        for kind, number in value.items():
            if found := _no_count(number):
                return f"[{kind!r}]{found}"
        return None

    return ValueKind("mapping of whole numbers", complaint, _json, '{"queue": 32}')
