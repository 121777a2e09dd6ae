"""URLs of kafka-exec: settings in their query, several hosts, and schemes that are almost ours.

Kombu takes the names in a query for arguments of its connections. So this module leaves the query in the path of the URL,
where the transport finds it for every connection, also for one to fail over to, and for one that any program has made.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import Any
from urllib.parse import parse_qsl, urlencode

from kombu.utils import url as kombus

from kafka_exec.core.cluster.settings import KAFKA, KINDS, SCHEMES, check_names, check_value
from kafka_exec.errors import ConfigurationError
from kafka_exec.settings.once import warn_once

#: The names that Kombu itself reads from a query, beside ``ssl_…``.
_KOMBUS = ("login_method", "connect_timeout")

#: The schemes of Kombu's own transport for Kafka. Without ``import kafka_exec`` Kombu's error message proposes them.
_KOMBUS_OWN = ("kafka", "confluentkafka")

#: The similarity from which on a scheme is taken for a misspelled one of ours, from 0 to 1.
_ALIKE = 0.75

#: The topic prefix of a URL without a path.
DEFAULT_PREFIX = "celery"


def _written(name: str) -> str:
    return f"?{name}= in the URL"


def parse_url(url: str) -> dict[str, Any]:
    """Parses a URL, in place of Kombu's function of this name.

    Raises:
        ConfigurationError: a URL of ours has other names than settings in its query, or hosts that cannot be read.
    """
    if url.partition("://")[0].strip().lower() not in SCHEMES:
        return dict(kombus.parse_url(url))
    address, _, text = url.partition("?")
    query = _pairs(text)
    theirs = {name: value for name, value in query.items() if name in _KOMBUS or name.startswith("ssl_")}
    settings = {name: value for name, value in query.items() if name not in theirs}
    _settings(settings)
    try:
        found = dict(kombus.parse_url(f"{address}?{urlencode(theirs)}" if theirs else address))
    except (ValueError, KeyError):
        # The library's message would show the URL, and its password.
        raise ConfigurationError(
            "the URL cannot be read: several hosts share one port, as in kafka-exec://h1,h2:9092/prefix (those with ports "
            'of their own go into broker_transport_options["kafka"]["bootstrap.servers"]), and special characters of user '
            "and password are written as %XX"
        ) from None
    if "connect_timeout" in found:
        found["connect_timeout"] = _seconds(found["connect_timeout"])
    if settings:
        found["virtual_host"] = f"{found['virtual_host'] or ''}?{urlencode(settings)}"
    return found


def split(path: str | None) -> tuple[str, dict[str, Any]]:
    """The prefix and the settings in a URL's path as :func:`parse_url` has made it.

    Raises:
        ConfigurationError: a name or a value is wrong.
    """
    prefix, _, query = (path or "").partition("?")
    return prefix.strip("/") or DEFAULT_PREFIX, _settings(_pairs(query))


def warn_of_number(prefix: str) -> None:
    """Warns once if the prefix is a number: the user may mean a database, as in a Redis URL."""
    if prefix.isdecimal():
        warn_once(
            f"the topics are called {prefix}.…, for the path of the URL is their prefix, and no number of a database as in "
            "a Redis URL: name it after your application, as in kafka-exec://host:9092/shop"
        )


def _pairs(query: str) -> dict[str, str]:
    pairs = parse_qsl(query, keep_blank_values=True)
    names = [name for name, _ in pairs]
    for name in names:
        if names.count(name) > 1:
            raise ConfigurationError(f"{_written(name)} is there more than once")
    return dict(pairs)


def _settings(query: dict[str, str]) -> dict[str, Any]:
    for name in query:
        if "." in name or name == KAFKA:
            raise ConfigurationError(
                f'{_written(name)}: librdkafka\'s properties go into broker_transport_options["kafka"], or as JSON into '
                "KAFKA_EXEC_KAFKA"
            )
    check_names(query, _written)
    found = {}
    for name, text in query.items():
        if KINDS[name].is_secret:
            raise ConfigurationError(f"{_written(name)}: a URL is shown, write it as kafka_exec_{name}")
        found[name] = KINDS[name].read(text)
        check_value(name, found[name], _written)
    return found


def _seconds(text: object) -> float:
    try:
        return float(str(text))
    except ValueError:
        raise ConfigurationError(f"{_written('connect_timeout')} must be a number of seconds, not {text!r}") from None


def check_schemes(*urls: Any) -> None:
    """Refuses URLs whose scheme is almost one of ours, since Kombu's error would not name the mistake.

    A URL of Kombu's own transport for Kafka gets a warning, once.

    Raises:
        ConfigurationError: a scheme is misspelled; the message names it and the right one.
    """
    for url in urls:
        for each in _alternatives(url):
            _check_scheme(each)


def _alternatives(url: Any) -> Iterable[str]:
    if isinstance(url, str):
        return url.split(";")
    return [each for each in url if isinstance(each, str)] if isinstance(url, (list, tuple)) else ()


def _check_scheme(url: str) -> None:
    scheme, colon, _ = url.strip().partition("://" if "://" in url else ":")
    if not colon or (scheme in SCHEMES and "://" in url):
        return
    if scheme in _KOMBUS_OWN:
        warn_once(
            f"{scheme}:// is another transport, Kombu's own: none of what kafka_exec promises holds with it; for kafka_exec "
            f"write {SCHEMES[0]}://"
        )
        return
    near = difflib.get_close_matches(scheme.lower().replace("_", "-"), SCHEMES, n=1, cutoff=_ALIKE)
    if near:
        raise ConfigurationError(f"{scheme}:// names no broker and no result back end: write {near[0]}://")
