"""The preparation of a Celery app: safer defaults, the worker's parts, and confirmation, if its broker is kafka-exec."""

from __future__ import annotations

import atexit
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

from celery import Celery, _state, signals
from celery.app import utils
from celery.exceptions import ImproperlyConfigured, NotRegistered
from kombu.utils.imports import symbol_by_name
from kombu.utils.uuid import uuid

from kafka_exec.app import letting_go  # noqa: F401 - connects to signals
from kafka_exec.app.pooling import Pool
from kafka_exec.app.scheduled import tell_scheduled
from kafka_exec.app.sending import addressed, due_of, log_offset, without_countdown
from kafka_exec.app.task import made_ours, with_ours
from kafka_exec.core.cluster.settings import KAFKA, PREFIX, SECRETS
from kafka_exec.errors import ConfigurationError
from kafka_exec.kafka.cluster.cluster import close_all, flush_all
from kafka_exec.kafka.publish import clock
from kafka_exec.kafka.publish.scopes import confirmed, confirmed_with_others
from kafka_exec.settings.appconf import has_our_broker, is_our_url, is_prepared, use_safer_defaults
from kafka_exec.settings.inventory import in_force, versions
from kafka_exec.settings.options import APP_OPTION, broker_options, note
from kafka_exec.settings.url import check_schemes, split

#: The base class of tasks of an app that names no other one.
_CELERYS_TASK = "celery.app.task:Task"

# Celery's reports hide secret settings by their names.
utils.HIDDEN_SETTINGS = re.compile(f"{utils.HIDDEN_SETTINGS.pattern}|CACHE_URL", utils.HIDDEN_SETTINGS.flags)


def install(app: Celery) -> None:
    """Prepares an app that was created before ``import kafka_exec``. A second call changes nothing.

    Raises:
        ImproperlyConfigured: the app is finalized already: its author must call this earlier.
    """
    if is_prepared(app):
        return
    if app.finalized:
        raise ImproperlyConfigured(
            "kafka_exec.install() comes too late: the app is finalized; call it where it is made"
        )
    app.fixups = {*app.fixups, f"{Fixup.__module__}:{Fixup.__name__}"}  # for the copies in a pool's spawned children
    app._fixups.append(Fixup(app))


def prepare_default_app() -> None:
    """Prepares Celery's default app, which Celery makes without fixups.

    That app runs ``celery -b URL …``, and tasks without an app. With green pools it exists before kafka_exec is imported.
    """
    on_init = Celery.on_init

    def prepare(app: Celery) -> None:
        on_init(app)
        if app.main == "default" and not app.fixups:
            app._fixups.append(Fixup(app))

    Celery.on_init = prepare
    if _state.default_app is not None and not _state.default_app.finalized:
        install(_state.default_app)


class Fixup:
    """The preparation of one app; Celery makes a fixup for each app.

    It replaces some methods of the app by methods that call Celery's own. Each call looks Celery's method up anew, so that
    replacements by other libraries (Sentry, OpenTelemetry) are called too.
    """

    def __init__(self, app: Celery) -> None:
        self._app = app
        if "flower.views" in sys.modules:
            symbol_by_name("kafka_exec.flower:extend")()
        methods = {
            "producer_or_acquire": self.producer_or_acquire,
            "send_task": self.send_task,
            "_connection": self.connection,
            "_task_from_fun": self.task_from_fun,
            "register_task": self.register_task,
            "bugreport": self.bugreport,
        }
        self._replaced = {name: vars(app)[name] for name in methods if name in vars(app)}
        vars(app).update(methods)
        if app.task_cls == _CELERYS_TASK and "Task" not in vars(app):
            app.task_cls = "kafka_exec.app.task:Task"
        app.add_defaults(self.configure)
        app.steps["consumer"].add("kafka_exec.worker:Membership")

    def _celerys(self, name: str) -> Callable[..., Any]:
        if name in self._replaced:
            found: Callable[..., Any] = self._replaced[name]
        else:
            found = getattr(type(self._app), name)
            if hasattr(type(found), "__get__"):  # a mock has none
                found = found.__get__(self._app)
        return found

    def task_from_fun(self, fun: Any, name: Any = None, base: Any = None, **options: Any) -> Any:
        """Makes a task of a function, with our base class beneath the application's own; replaces Celery's method."""
        base = with_ours(base or self._app.Task)
        return self._celerys("_task_from_fun")(fun, name=name, base=base, **options)

    def register_task(self, task: Any, **options: Any) -> Any:
        """Registers a task that is a class, with our base class beneath it; replaces Celery's method."""
        return self._celerys("register_task")(made_ours(task), **options)

    def configure(self) -> dict[str, Any]:
        """Checks the user's configuration. Celery calls this when it has loaded it, and expects further defaults: none.

        Raises:
            ImproperlyConfigured: one of our settings has a wrong name or value.
        """
        conf = self._app.conf
        use_safer_defaults(conf)
        try:
            check_schemes(conf.broker_read_url, conf.broker_write_url, conf.result_backend)
            if has_our_broker(conf):
                broker_options(conf)
        except ConfigurationError as error:
            raise ImproperlyConfigured(str(error)) from None
        return {}

    def connection(self, url: Any, *args: Any, transport_options: Any = None, **kwargs: Any) -> Any:
        """Makes a connection with our settings as transport options; replaces Celery's method."""
        check_schemes(url)
        connect = self._celerys("_connection")
        if not is_our_url(url):
            return connect(url, *args, transport_options=transport_options, **kwargs)
        options = {**broker_options(self._app.conf, transport_options), APP_OPTION: self._app.main}
        note(self._app.conf)
        connection = connect(url, *args, transport_options=options, **kwargs)
        connection.info = partial(_shown, connection.info)
        connection.Pool = partial(Pool, connection)
        return connection

    def send_task(
        self,
        name: str,
        args: Any = None,
        kwargs: Any = None,
        countdown: Any = None,
        eta: Any = None,
        task_id: str | None = None,
        **options: Any,
    ) -> Any:
        """Sends a task with our options too, such as ``ordering_key``; replaces Celery's method.

        It writes the state SCHEDULED of a delayed task. A task that is sent by its name is the same as one that is sent by
        its object, if the application has it.

        Raises:
            NotRegistered: the task is an object that the application has not registered: a worker would not know it.
        """
        send = self._celerys("send_task")
        options["task_id"] = task_id
        if not has_our_broker(self._app.conf):
            return send(name, args, kwargs, countdown, eta, **options)
        task_type = options.get("task_type") or self._app._tasks.get(name)
        if task_type is not None and name not in self._app._tasks and name not in self._app.tasks:
            raise NotRegistered(name)
        options = addressed(name, task_type, args, kwargs, options)
        with clock.by_the_log(offset := log_offset()):
            if offset is not None:
                countdown, eta = without_countdown(countdown, eta)
            due = due_of(countdown, eta, clock.now())
            if due is None:
                return send(name, args, kwargs, countdown, eta, **options)
            options["task_id"] = options["task_id"] or uuid()
            with confirmed_with_others():
                tell_scheduled(self._app, name, due, options)
                return send(name, args, kwargs, countdown, eta, **options)

    @contextmanager
    def producer_or_acquire(self, producer: Any = None) -> Iterator[Any]:
        """Provides a producer; its messages are confirmed together when it is released. Replaces Celery's method."""
        if producer is not None:
            yield producer
            return
        with self._celerys("producer_or_acquire")() as acquired, confirmed():
            yield acquired

    def bugreport(self) -> str:
        """The text of ``celery report`` with our versions, and with our settings in force if the broker is kafka-exec."""
        lines = [f"{name}:{version}" for name, version in versions().items()]
        told = f"{self._celerys('bugreport')().rstrip()}\n\nversions -> {' '.join(lines)}\n"
        if not has_our_broker(self._app.conf):
            return told
        with self._app.connection_for_write() as connection:
            settings = in_force(connection.transport.settings)
        return f"{told}in force:\n" + "".join(f"{PREFIX}{name}: {value!r}\n" for name, value in settings.items())


def _shown(info: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """The facts of a connection that ``celery inspect stats`` shows, without secrets.

    Some values of librdkafka's properties are secret. The URL's path is shown without the settings of its query.
    """
    shown = info()
    shown["virtual_host"] = split(shown["virtual_host"])[0]
    options = {name: value for name, value in (shown.get("transport_options") or {}).items() if name not in SECRETS}
    if KAFKA in options:
        options[KAFKA] = sorted(options[KAFKA])
    return {**shown, "transport_options": options}


@signals.worker_process_shutdown.connect(weak=False)
def _flush_child(**kwargs: Any) -> None:
    flush_all()


atexit.register(close_all)
