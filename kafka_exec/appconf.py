"""What an app's configuration says: whether broker and back end are ours, our settings, and where their topics are."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from kombu import Connection

from kafka_exec.config import PREFIX, Settings, check_names
from kafka_exec.errors import ConfigurationError

if TYPE_CHECKING:
    from celery import Celery

SCHEMES = ("kafka-exec", "kafka-execs")


def is_our_url(url: Any) -> bool:
    """Whether a URL is of one of our schemes."""
    return str(url or "").strip().partition("://")[0] in SCHEMES


def has_our_broker(conf: Any) -> bool:
    """Whether an app's broker, or one of those to fail over to, is kafka-exec."""
    urls = (conf.get("broker_write_url"), conf.get("broker_read_url"), conf.get("broker_url"))
    return any(
        is_our_url(alternative)
        for url in urls
        for alternative in (url if isinstance(url, (list, tuple)) else str(url or "").split(";"))
    )


def settings_of(conf: Any) -> dict[str, Any]:
    """Our settings in an app's configuration that a connection needs, without their prefix.

    Raises:
        ConfigurationError: a name or a value is wrong.
    """
    found = _ours(conf)
    found.pop("cache_url", None)  # a connection's options are shown by ``celery inspect stats``
    return found


def cache_url(conf: Any) -> str | None:
    """The URL of the cache of results, which may hold a password; None if there is none.

    Raises:
        ConfigurationError: a setting is wrong.
    """
    options = {**_ours(conf), **conf.broker_transport_options, **conf.result_backend_transport_options}
    return Settings.read(options).cache_url


def _ours(conf: Any) -> dict[str, Any]:
    keys = [str(key) for key in conf]
    # With a namespace (``config_from_object(…, namespace="CELERY")``) the keys are as the user wrote them. It is known
    # when the configuration is loaded, which happens when it is first read.
    namespace = getattr(conf, "prefix", None)
    if namespace:
        keys = [key.removeprefix(namespace).lower() if key.startswith(namespace) else key for key in keys]
    keys = sorted({key for key in keys if key.startswith(PREFIX)})
    check_names(keys)
    found = {key.removeprefix(PREFIX): conf[key] for key in keys}
    Settings.read(found)
    return found


def broker_home(app: Celery) -> Any:
    """The namespace (cluster, topic names, settings) of an app's broker.

    Raises:
        ConfigurationError: the broker is not kafka-exec, or a setting is wrong.
        ConnectionFailed: no broker answers, or it refuses the connection.
    """
    if not has_our_broker(app.conf):
        raise ConfigurationError(
            "the application has no kafka-exec:// broker: name the application with celery -A APP, or its broker with "
            "celery --broker URL"
        )
    with app.connection_for_write() as connection:
        return connection.connect().space


def result_home(app: Celery, url: str) -> Any:
    """The namespace (cluster, topic names, settings) of a result back end's URL.

    Raises:
        ConfigurationError: a setting is wrong.
        ConnectionFailed: no broker answers, or it refuses the connection.
    """
    conf = app.conf
    options = {**settings_of(conf), **conf.broker_transport_options, **conf.result_backend_transport_options}
    with Connection(
        url,
        transport_options=options,
        ssl=conf.broker_use_ssl,
        login_method=conf.broker_login_method,
        connect_timeout=conf.broker_connection_timeout,
    ) as connection:
        return connection.connect().space
