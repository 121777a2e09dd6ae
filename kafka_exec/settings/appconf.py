"""An app's configuration: tests if its broker and back end are kafka-exec, and the namespaces of their topics."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from celery._state import _get_active_apps
from celery.exceptions import ImproperlyConfigured
from kombu import Connection

from kafka_exec.core.cluster.settings import SCHEMES
from kafka_exec.errors import NotInKafka
from kafka_exec.settings.options import APP_OPTION, result_options
from kafka_exec.settings.url import split

if TYPE_CHECKING:
    from celery import Celery

#: The module of the class that prepares apps. It imports this module, so this one cannot import it.
FIXUP_MODULE = "kafka_exec.app.fixup"

#: Safer values of Celery's own settings. They apply where the user has set nothing.
SAFER_DEFAULTS: Mapping[str, Any] = {
    "task_acks_late": True,
    "task_reject_on_worker_lost": True,
    "task_track_started": True,
    "worker_consumer": "kafka_exec.worker:Consumer",
}


def is_our_url(url: Any) -> bool:
    """True if a URL has one of our schemes. The URL may be a list of URLs, or several ones with semicolons between them."""
    alternatives = url if isinstance(url, (list, tuple)) else str(url or "").split(";")
    return any(str(alternative or "").strip().partition("://")[0] in SCHEMES for alternative in alternatives)


def has_our_broker(conf: Any) -> bool:
    """True if an app's broker, or one to fail over to, is kafka-exec now.

    Only the URLs that Celery connects to decide that. Celery's properties look into the environment (``CELERY_BROKER_URL``,
    ``celery -b``), which wins over the configuration.
    """
    return is_our_url(conf.broker_read_url) or is_our_url(conf.broker_write_url)


class Defaults(dict[str, Any]):
    """Celery's default settings, with safer values as long as the app's broker is kafka-exec.

    Each reading decides anew, since the broker's URL may be set long after the configuration was loaded and tasks were
    made. A value that the user has set wins, as over any default.
    """

    def __init__(self, celerys: Mapping[str, Any], conf: Any) -> None:
        super().__init__(celerys)
        self._conf = conf

    def __getitem__(self, key: str) -> Any:
        if key in SAFER_DEFAULTS and has_our_broker(self._conf):
            return SAFER_DEFAULTS[key]
        return super().__getitem__(key)


def use_safer_defaults(conf: Any) -> None:
    """Replaces Celery's defaults by :class:`Defaults` in a configuration that is loaded."""
    if not isinstance(conf.maps[-1], Defaults):
        conf.maps[-1] = conf.defaults[-1] = Defaults(conf.maps[-1], conf)


def is_prepared(app: Celery) -> bool:
    """True if an app is prepared by :class:`kafka_exec.app.fixup.Fixup`."""
    return any(type(fixup).__module__ == FIXUP_MODULE for fixup in app._fixups)


def require_prepared(app: Celery) -> None:
    """Refuses an app that is not prepared: it would lose tasks.

    Raises:
        ImproperlyConfigured: the app is not prepared: its author must import kafka_exec earlier, or install it.
    """
    if not is_prepared(app):
        raise ImproperlyConfigured(
            f"the Celery app {app.main or app!r} uses kafka-exec:// and was made without kafka_exec, so that it would lose "
            "tasks: import kafka_exec before Celery(...) is made, or call kafka_exec.install(app) right after it"
        )


def require_all_prepared() -> None:
    """Refuses a process with an app that is not prepared and has a kafka-exec broker.

    All apps are checked, because a connection of an app that is not prepared looks like one of any program that uses Kombu.

    Raises:
        ImproperlyConfigured: an app is not prepared: its author must import kafka_exec earlier, or install it.
    """
    for app in list(_get_active_apps()):
        if app.configured and not is_prepared(app) and has_our_broker(app.conf):
            require_prepared(app)


def require_our_broker(app: Celery) -> None:
    """Refuses an app whose broker is another one.

    Raises:
        NotInKafka: the broker is not kafka-exec.
    """
    if not has_our_broker(app.conf):
        raise NotInKafka(
            "the application has no kafka-exec:// broker: name the application with celery -A APP, or its broker with "
            "celery --broker URL"
        )


def broker_home(app: Celery) -> Any:
    """The namespace (cluster, topic names, settings) of an app's broker.

    Raises:
        NotInKafka: the broker is not kafka-exec.
        ConfigurationError: a setting is wrong.
        ConnectionFailed: no broker answers, or it refuses the connection.
    """
    require_our_broker(app)
    with app.connection_for_write() as connection:
        return connection.connect().space


def prefix_of(app: Celery) -> str:
    """The prefix of the topics of an app's broker; makes no request.

    Raises:
        NotInKafka: the broker is not kafka-exec.
    """
    require_our_broker(app)
    with app.connection_for_write() as connection:
        return split(connection.virtual_host)[0]


def settings_of(app: Celery) -> Any:
    """The settings of an app's broker; makes no request.

    Raises:
        NotInKafka: the broker is not kafka-exec.
        ConfigurationError: a setting is wrong.
    """
    require_our_broker(app)
    with app.connection_for_write() as connection:
        return connection.transport.settings


def result_home(app: Celery, url: str) -> Any:
    """The namespace (cluster, topic names, settings) of a result back end's URL.

    Raises:
        ImproperlyConfigured: the app is not prepared.
        ConfigurationError: a setting is wrong.
        ConnectionFailed: no broker answers, or it refuses the connection.
    """
    require_prepared(app)
    conf = app.conf
    with Connection(
        url,
        transport_options={**result_options(conf, also_brokers=has_our_broker(conf)), APP_OPTION: app.main},
        ssl=conf.broker_use_ssl,
        login_method=conf.broker_login_method,
        connect_timeout=conf.broker_connection_timeout,
    ) as connection:
        return connection.connect().space
