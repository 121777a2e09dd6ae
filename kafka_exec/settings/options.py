"""The options of a connection: what the user's configuration gives, checked, each as the user wrote it.

Nothing is ignored silently: what nobody knows is refused, what other transports know is told of once, with what replaces
it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from celery import signals

from kafka_exec.core.cluster import foreign
from kafka_exec.core.cluster.settings import (
    KAFKA,
    KINDS,
    PREFIX,
    SCHEMES,
    Settings,
    check_names,
    check_value,
    in_configuration,
)
from kafka_exec.errors import ConfigurationError
from kafka_exec.settings.environment import from_environment
from kafka_exec.settings.once import is_said, logger, unsaid

BROKER = "broker_transport_options"
RESULTS = "result_backend_transport_options"

#: The transport option by which an app that has our parts names itself.
APP_OPTION = "celery_app"

#: The transport that ``broker_transport`` may name beside a URL of ours.
_OUR_TRANSPORTS = (*SCHEMES, "kafka_exec.transport:Transport", "kafka_exec.transport:SSLTransport")


def broker_options(conf: Any, given: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """The options of a broker's connection; ``given`` are its own and win.

    Raises:
        ConfigurationError: a setting has a wrong name or value, or contradicts the URL.
    """
    if (transport := conf.get("broker_transport")) and transport not in _OUR_TRANSPORTS:
        raise ConfigurationError(f"broker_transport is {transport!r} beside a kafka-exec URL: take one of them out")
    options = {**_shown(conf), **_checked(conf.broker_transport_options, BROKER)}
    options.update(_checked(given or {}, "transport_options"))
    from_environment()
    return options


#: What is to be told when a connection is made, for a worker sets up its log after it has made its first object of one.
_untold: dict[str, str] = {}


def note(conf: Any) -> None:
    """Notes what the configuration of an app with our broker says in vain, or gives up; it is told with a connection."""
    _untold.update(_foreign_options(conf.broker_transport_options, BROKER))
    _untold.update(_foreign_settings(conf))
    if _scheme_of_results(conf) in SCHEMES:
        _untold.update(_foreign_options(conf.result_backend_transport_options, RESULTS))


def result_options(conf: Any, *, also_brokers: bool) -> dict[str, Any]:
    """The options of the result back end's connection.

    Args:
        also_brokers: the broker is of the same kind, and its options are the back end's too.

    Raises:
        ConfigurationError: a setting has a wrong name or value.
    """
    options = _shown(conf)
    if also_brokers:
        options.update(_checked(conf.broker_transport_options, BROKER))
    options.update(_checked(conf.result_backend_transport_options, RESULTS))
    _untold.update(_foreign_options(conf.result_backend_transport_options, RESULTS))
    return options


def cache_url(conf: Any, *, also_brokers: bool = True) -> str | None:
    """The URL of the cache of results, which may hold a password; None if there is none.

    Raises:
        ConfigurationError: a setting is wrong.
    """
    options = [conf.result_backend_transport_options]
    if also_brokers:
        options.insert(0, conf.broker_transport_options)
    return Settings.read(configured(conf), *options, from_environment()).cache_url


def check_options(options: Mapping[str, Any]) -> None:
    """Checks the options of a connection that is made now, by whomever, and tells what is to be told.

    Raises:
        ConfigurationError: one has a wrong name or value.
    """
    _checked(options, "transport_options")
    # Those of a Celery app are told of as they were written.
    told = [name for name in options for where in (BROKER, RESULTS) if _is_known(_option(where, name))]
    _untold.update(_foreign_options([name for name in options if name not in told], "transport_options"))
    now = dict(_untold)  # other threads may add to it
    for written in now:
        _untold.pop(written, None)
    _tell(now)


def _is_known(option: str) -> bool:
    return option in _untold or is_said(option)


def configured(conf: Any) -> dict[str, Any]:
    """Our settings in an app's configuration, without their prefix.

    Raises:
        ConfigurationError: a setting has a wrong name or value.
    """
    written = _names_in(conf)
    form = _form(written, getattr(conf, "prefix", None))
    check_names(written, form)
    found = {name: conf[PREFIX + name] for name in written}
    for name, value in found.items():
        check_value(name, value, form)
    return found


def _shown(conf: Any) -> dict[str, Any]:
    found = configured(conf)
    found.pop("cache_url", None)  # a connection's options are shown by ``celery inspect stats``
    return found


def _names_in(conf: Any) -> dict[str, str]:
    """Our settings' names in a configuration, each with how it is written there.

    With a namespace (``config_from_object(…, namespace="CELERY")``) the keys are as the user wrote them. It is known when
    the configuration is loaded, which happens when it is first read.
    """
    namespace = getattr(conf, "prefix", None)
    found: dict[str, str] = {}
    for key in sorted(map(str, conf)):
        name = key.removeprefix(namespace).lower() if namespace and key.startswith(namespace) else key
        if name.startswith(PREFIX):
            found.setdefault(name.removeprefix(PREFIX), key)
        elif (short := name.lower().removeprefix(PREFIX)) != name.lower() and short in KINDS:
            # In capitals, as in Celery's old style or a Django project's settings: Celery does not look for it.
            right = f"{namespace}{PREFIX.upper()}{short.upper()}" if namespace else PREFIX + short
            raise ConfigurationError(f"unknown setting {key}, did you mean {right}?")
    return found


def _form(written: Mapping[str, str], namespace: str | None) -> Callable[[str], str]:
    """How the user writes a name: as it was written, or would have been."""
    in_namespace = bool(namespace) and any(key.startswith(str(namespace)) for key in written.values())

    def form(name: str) -> str:
        if name in written:
            return written[name]
        return f"{namespace}{PREFIX.upper()}{name.upper()}" if in_namespace else in_configuration(name)

    return form


def _checked(options: Any, where: str) -> dict[str, Any]:
    """Our options in a mapping; those of other transports are left out, and Kombu's stay.

    Raises:
        ConfigurationError: one has a wrong name or value.
    """
    if not isinstance(options, Mapping):
        raise ConfigurationError(f"{where} must be a mapping, not {type(options).__name__}")
    found = {}
    for name, value in options.items():
        if name in KINDS or name == KAFKA:
            check_value(name, value, lambda name: _option(where, name))
            found[name] = value
        elif name in foreign.KOMBUS or name == APP_OPTION:
            found[name] = value
        elif name not in foreign.OPTIONS:
            raise ConfigurationError(foreign.unknown_option(str(name), where, (*KINDS, KAFKA)))
        elif foreign.weakens(name, value):
            raise ConfigurationError(
                f"{_option(where, name)} would be ignored, and the connection be weaker: {foreign.OPTIONS[name]}"
            )
    return found


def _option(where: str, name: str) -> str:
    return f'{where}["{name}"]'


def _foreign_options(options: Iterable[str], where: str) -> dict[str, str]:
    """What to do instead of each option of other transports, by how it was written."""
    return {_option(where, name): foreign.OPTIONS[name] for name in options if name in foreign.OPTIONS}


def _foreign_settings(conf: Any) -> dict[str, str]:
    """What the user has set of Celery that means nothing here or gives something up, each as written, and why."""
    namespace = str(getattr(conf, "prefix", None) or "")
    results = _scheme_of_results(conf)
    # What stands in a Django project's settings without the namespace is not Celery's.
    keys = [key for key in map(str, conf.without_defaults()) if key.startswith(namespace) or key.islower()]
    written = {key.removeprefix(namespace).lower(): key for key in keys}
    found = {}
    for name, key in written.items():
        advice = foreign.advice_for(name)
        if name in foreign.REDIS_RESULTS and results not in _REDIS:
            advice = foreign.REDIS_ADVICE
        if advice is not None:
            found[key] = advice
    for name, reason in foreign.GIVEN_UP.items():
        if is_set(conf, name) and conf[name] is False:
            found[f"{written.get(name, name)}=False"] = reason
    return found


def is_set(conf: Any, name: str) -> bool:
    """Tells whether the user has set one of Celery's settings, also within a namespace or by its old name.

    Celery's own ``value_set_for`` knows neither of the two before 5.7.
    """
    given = type(conf)({}, conf.maps[:-1], conf._keys, conf.prefix)
    try:
        given[name]  # ``in`` does not look for old names before 5.7
    except KeyError:
        return False
    return True


def _scheme_of_results(conf: Any) -> str:
    return str(conf.result_backend or "").partition("://")[0]


#: The result back ends that read the settings ``redis_…``.
_REDIS = ("redis", "rediss", "sentinel", "redis+socket", "socket")


def _leave_it_to_the_worker(**kwargs: Any) -> None:
    """A pool's child tells nothing: it is forked before its worker has connected and told."""
    global _is_child
    _is_child = True


signals.worker_process_init.connect(_leave_it_to_the_worker, weak=False)

#: Whether this process is the child of a worker's pool.
_is_child = False


def _tell(advice: Mapping[str, str]) -> None:
    """Logs, in one line, what was not said before: what stands together has the same reason."""
    if _is_child:
        return
    names: dict[str, list[str]] = {}
    for written in sorted(unsaid(advice)):
        names.setdefault(advice[written], []).append(written)
    if names:
        logger.warning(
            "settings that mean nothing here, or give something up (docs/migration.md): %s",
            "; ".join(f"{', '.join(written)}: {reason}" for reason, written in names.items()),
        )
