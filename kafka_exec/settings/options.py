"""The options of a connection: the settings in the user's configuration, checked under the names that the user has written.

Nothing is ignored silently: an unknown option is refused; an option of another transport is logged once, with the option
that replaces it.
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
    SECRETS,
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

#: The transport option with the name of the app, which only a prepared app sets.
APP_OPTION = "celery_app"

#: The values that ``broker_transport`` may have beside a URL of ours.
_OUR_TRANSPORTS = (*SCHEMES, "kafka_exec.transport:Transport", "kafka_exec.transport:SSLTransport")


def broker_options(conf: Any, given: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """The options of a broker's connection. ``given``: the connection's own options, which win.

    Raises:
        ConfigurationError: a setting has a wrong name or value, or contradicts the URL.
    """
    if (transport := conf.get("broker_transport")) and transport not in _OUR_TRANSPORTS:
        raise ConfigurationError(f"broker_transport is {transport!r} beside a kafka-exec URL: take one of them out")
    options = {**_shown(conf), **_checked(conf.broker_transport_options, BROKER)}
    options.update(_checked(given or {}, "transport_options"))
    from_environment()
    return options


#: Advice to log when a connection is opened, by the option as written. A worker makes its first connection object before it
#: has set up its log, so the advice waits until then.
_untold: dict[str, str] = {}


def note(conf: Any) -> None:
    """Notes the settings of an app that have no effect here, or give up a guarantee; the next connection logs them."""
    _untold.update(advice(conf))


def advice(conf: Any) -> dict[str, str]:
    """The advice for the settings of an app that have no effect here, or give up a guarantee, by the setting as written."""
    found = {**_foreign_options(conf.broker_transport_options, BROKER), **_foreign_settings(conf)}
    if _scheme_of_results(conf) in SCHEMES:
        found |= _foreign_options(conf.result_backend_transport_options, RESULTS)
    return found


def result_options(conf: Any, *, also_brokers: bool) -> dict[str, Any]:
    """The options of the result back end's connection.

    Args:
        also_brokers: the broker is kafka-exec too, so that its options are also the back end's.

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
    """The URL of the cache of results, which may hold a password; None without a cache.

    Raises:
        ConfigurationError: a setting is wrong.
    """
    options = [conf.result_backend_transport_options]
    if also_brokers:
        options.insert(0, conf.broker_transport_options)
    return Settings.read(configured(conf), *options, from_environment()).cache_url


def api_tokens(conf: Any) -> dict[str, str]:
    """The tokens of the users of the HTTP API, by their names.

    Raises:
        ConfigurationError: a setting is wrong.
    """
    found = Settings.read(configured(conf), conf.broker_transport_options, from_environment()).api_tokens
    return {user: token for user, _, token in (each.partition(":") for each in found)}


def check_options(options: Mapping[str, Any]) -> None:
    """Checks the options of a connection that any program makes now, and logs the advice that has waited for one.

    Raises:
        ConfigurationError: an option has a wrong name or value.
    """
    _checked(options, "transport_options")
    # The options of a Celery app are logged under the names that the user has written, so not again here.
    told = [name for name in options for where in (BROKER, RESULTS) if _is_known(_option(where, name))]
    _untold.update(_foreign_options([name for name in options if name not in told], "transport_options"))
    now = dict(_untold)  # a copy, since other threads may add to it
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
    # ``celery inspect stats`` shows a connection's options.
    return {name: value for name, value in configured(conf).items() if name not in SECRETS}


def _names_in(conf: Any) -> dict[str, str]:
    """The names of our settings in a configuration, each with the key under which it is written there.

    With a namespace (``config_from_object(…, namespace="CELERY")``) keys are as the user has written them. The namespace is
    known when the configuration is loaded, which happens at its first reading.
    """
    namespace = getattr(conf, "prefix", None)
    found: dict[str, str] = {}
    for key in sorted(map(str, conf)):
        name = key.removeprefix(namespace).lower() if namespace and key.startswith(namespace) else key
        if name.startswith(PREFIX):
            found.setdefault(name.removeprefix(PREFIX), key)
        elif (short := name.lower().removeprefix(PREFIX)) != name.lower() and short in KINDS:
            # The key is in capitals, as in Celery's old style or in a Django project. Celery does not look for such keys.
            right = f"{namespace}{PREFIX.upper()}{short.upper()}" if namespace else PREFIX + short
            raise ConfigurationError(f"unknown setting {key}, did you mean {right}?")
    return found


def _form(written: Mapping[str, str], namespace: str | None) -> Callable[[str], str]:
    """A function that returns the key of a name as the user has written it, or would write it."""
    in_namespace = bool(namespace) and any(key.startswith(str(namespace)) for key in written.values())

    def form(name: str) -> str:
        if name in written:
            return written[name]
        return f"{namespace}{PREFIX.upper()}{name.upper()}" if in_namespace else in_configuration(name)

    return form


def _checked(options: Any, where: str) -> dict[str, Any]:
    """Our options and Kombu's in a mapping, without those of other transports.

    Raises:
        ConfigurationError: an option has a wrong name or value.
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
    """The advice for each option of another transport, by the option as written."""
    return {_option(where, name): foreign.OPTIONS[name] for name in options if name in foreign.OPTIONS}


def _foreign_settings(conf: Any) -> dict[str, str]:
    """The advice for Celery's settings that have no effect here, or give up a guarantee, by the setting as written."""
    namespace = str(getattr(conf, "prefix", None) or "")
    results = _scheme_of_results(conf)
    # In a Django project, settings without the namespace are not Celery's.
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
    """True if the user has set one of Celery's settings, also in a namespace or by its old name.

    Before 5.7 Celery's own ``value_set_for`` knows neither namespaces nor old names.
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
    """Notes that this process is a child of a pool, which logs no advice: it is forked before its worker has logged it."""
    global _is_child
    _is_child = True


signals.worker_process_init.connect(_leave_it_to_the_worker, weak=False)

#: True in a child of a worker's pool.
_is_child = False


def _tell(advice: Mapping[str, str]) -> None:
    """Logs, in one line, the advice that was not logged before; settings with the same reason stand together."""
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
