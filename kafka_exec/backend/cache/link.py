"""A client of Redis that delays its callers only briefly: it answers soon or fails, and rests after a failure."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import Any, TypeVar

from kafka_exec.core.cluster.health import Health
from kafka_exec.core.cluster.settings import PREFIX
from kafka_exec.errors import ConfigurationError
from kafka_exec.kafka.client import native

T = TypeVar("T")

logger = logging.getLogger("kafka_exec")

#: After a failure Redis is left alone for this time, seconds.
REST = 1.0


class Silent(Exception):
    """Redis has not answered, or is not asked just now. The log has a line about it already."""


class Link:
    """A client of one Redis, for one purpose. Thread-safe; not for use after a fork. It connects when first used.

    Args:
        url: the URL of Redis; it may hold a password and is never shown.
        purpose: a text for the log.
        timeout: for connecting, for sending and for each answer, seconds. A timeout in the URL wins.

    Raises:
        ConfigurationError: the URL is wrong, or the client library is not installed.
    """

    def __init__(self, url: str, purpose: str, timeout: float) -> None:
        try:
            import redis
        except ImportError:
            raise ConfigurationError(
                f"{PREFIX}cache_url needs the package redis: whoever deploys the application must install it, "
                "with pip install 'kafka_exec[redis]'"
            ) from None
        from redis.backoff import NoBackoff
        from redis.retry import Retry

        try:
            self._client = redis.Redis.from_url(
                url,
                # Every version of Redis speaks the older protocol.
                protocol=2,
                retry=Retry(NoBackoff(), 0),
                socket_timeout=timeout,
                socket_connect_timeout=timeout,
            )
            pool = self._client.connection_pool
            pool.connection_class(**pool.connection_kwargs)  # connects nothing, and refuses unknown options
        except (ValueError, TypeError):
            # The library's message would quote the URL.
            raise ConfigurationError(
                f"{PREFIX}cache_url is no URL of a Redis: whoever deploys the application must correct it; special "
                "characters of user and password are written as %XX"
            ) from None
        options = pool.connection_kwargs
        self.where = options.get("path") or f"{options.get('host', 'localhost')}:{options.get('port', 6379)}"
        #: The error that a transaction raises if another client has changed a key that it watches.
        self.conflict = redis.WatchError
        self._errors = (redis.RedisError, OSError, UnicodeError)
        self._health = Health(self.where, name=f"Redis ({purpose})")
        self._not_before = float("-inf")

    def __repr__(self) -> str:
        return f"<Link {self.where}>"

    def ask(self, question: Callable[[Any], T]) -> T:
        """Calls a function with the client, and returns what it returns.

        Raises:
            Silent: Redis does not answer, or did not a moment ago; or this thread may use no sockets.
        """
        if time.monotonic() < self._not_before or not native.may_use_sockets():
            raise Silent
        try:
            answer = question(self._client)
        except self._errors as error:
            self._not_before = time.monotonic() + REST
            # The library's text about a command of a transaction holds the command's arguments too: they are cut off.
            reason = str(error).rpartition("caused error: ")[2]
            self._tell(self._health.failed(reason, time.time()))
            raise Silent from None
        self._tell(self._health.answered(time.time()))
        return answer

    def _tell(self, line: str | None) -> None:
        if line is not None:
            logger.warning(line)
