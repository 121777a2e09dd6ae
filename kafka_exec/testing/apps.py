"""An app of a program that uses another broker for a while."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from celery import Celery, _state

#: Celery reads these before the configuration of an app.
_VARIABLES = ("CELERY_BROKER_URL", "CELERY_BROKER_READ_URL", "CELERY_BROKER_WRITE_URL", "CELERY_RESULT_BACKEND")


@contextmanager
def pointed(app: Celery, config: Mapping[str, Any]) -> Iterator[Celery]:
    """Gives an app other settings, and makes it the current one; afterwards all is as before.

    Connections of the app are dropped before and after, since they are to the former broker. Variables of Celery's with
    URLs are out of the environment meanwhile: they would win.
    """
    with _without(_VARIABLES), _current(app):
        had = {name: app.conf.changes[name] for name in config if name in app.conf.changes}
        _drop_connections(app)
        app.conf.update(config)
        try:
            yield app
        finally:
            for name in config:
                app.conf.changes.pop(name, None)
            app.conf.update(had)
            _drop_connections(app)


@contextmanager
def _without(names: tuple[str, ...]) -> Iterator[None]:
    had = {name: os.environ.pop(name) for name in names if name in os.environ}
    try:
        yield
    finally:
        os.environ.update(had)


@contextmanager
def _current(app: Celery) -> Iterator[None]:
    default, current = _state.default_app, _state._tls.current_app
    app.set_default()
    app.set_current()
    try:
        yield
    finally:
        _state.set_default_app(default)
        _state._tls.current_app = current


def _drop_connections(app: Celery) -> None:
    if app._pool is not None:
        app._pool.force_close_all()
    app._pool = None
    app.amqp._producer_pool = None
    app._backend_cache = None
    vars(app._local).pop("backend", None)
