"""The ways in which users give the broker's URL, and an app that is made in one of them.

A process makes it with the way's name in WAY and the URL in WAY_URL; EFFECTS as for :mod:`tests.integration.app`.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from celery import Celery
from celery.contrib.testing.app import TestApp

import kafka_exec
from tests.integration.app import note, run_until

#: A broker of another kind, to which nothing connects.
OTHER = "redis://127.0.0.1:1/0"


class Way(NamedTuple):
    """A way to give the broker's URL: in the code, the environment, or the arguments of the command ``celery``."""

    make: Callable[[str], Celery]
    environment: Callable[[str], Mapping[str, str]] = lambda url: {}
    arguments: Callable[[str], list[str]] = lambda url: []
    is_ours: bool = True


def app_with(**settings: Any) -> Celery:
    """An app with nothing but this."""
    return Celery("ways", set_as_current=False, **settings)


def configured(act: Callable[[Celery, str], Any], *, after_a_read: bool = False) -> Callable[[str], Celery]:
    """Makes an app and then tells it the URL; ``after_a_read``: when its configuration has been loaded, and tasks made."""

    def make(url: str) -> Celery:
        app = app_with()
        if after_a_read:
            assert not add_tasks(app)["work"].acks_late, app.conf.humanize()
        act(app, url)
        return app

    return make


def add_tasks(app: Celery) -> Any:
    """Gives an app its tasks, if it has none; all of them."""
    if "work" in app._tasks:
        return app.tasks

    @app.task(name="work", bind=True, shared=False)
    def work(self: Any) -> None:
        note("begin", self.request.id)
        note("end", self.request.id)

    @app.task(name="hold", bind=True, shared=False)
    def hold(self: Any, gate: str) -> None:
        run_until(gate, self.request.id)

    app.finalize()
    return app.tasks


def installed(url: str) -> Celery:
    """An app that was made before the import of kafka_exec."""
    app = Celery("ways", set_as_current=False, fixups=[])
    kafka_exec.install(app)
    app.conf.broker_url = url
    return app


class Subclass(Celery):
    """A class of the user's, which sends in its own way."""

    def send_task(self, *args: Any, **kwargs: Any) -> Any:
        return super().send_task(*args, **kwargs)


WAYS: Mapping[str, Way] = {
    "Celery(broker=)": Way(lambda url: app_with(broker=url)),
    "Celery(changes=)": Way(lambda url: app_with(changes={"broker_url": url})),
    "a list": Way(lambda url: app_with(broker=[url, url])),
    "failover": Way(lambda url: app_with(broker=f"{url};{url}")),
    "autofinalize=False": Way(lambda url: app_with(broker=url, autofinalize=False)),
    "a subclass": Way(lambda url: Subclass("ways", broker=url, set_as_current=False)),
    "conf.broker_url =": Way(configured(lambda app, url: setattr(app.conf, "broker_url", url))),
    "conf.update": Way(configured(lambda app, url: app.conf.update(broker_url=url))),
    "conf.broker_url = after a read": Way(
        configured(lambda app, url: setattr(app.conf, "broker_url", url), after_a_read=True)
    ),
    "conf.update after a read": Way(configured(lambda app, url: app.conf.update(broker_url=url), after_a_read=True)),
    "config_from_object": Way(configured(lambda app, url: app.config_from_object({"broker_url": url}))),
    "config_from_object, namespace": Way(
        configured(lambda app, url: app.config_from_object({"CELERY_BROKER_URL": url}, namespace="CELERY"))
    ),
    "the old name": Way(configured(lambda app, url: app.config_from_object({"BROKER_URL": url}))),
    "add_defaults(mapping)": Way(configured(lambda app, url: app.add_defaults({"broker_url": url}))),
    "add_defaults(callable)": Way(configured(lambda app, url: app.add_defaults(lambda: {"broker_url": url}))),
    "read and write URL": Way(
        configured(lambda app, url: app.conf.update(broker_read_url=url, broker_write_url=url)),
    ),
    "TestApp": Way(lambda url: TestApp(config={"broker_url": url}, enable_logging=True)),
    "install": Way(installed),
    "environment": Way(lambda url: app_with(), lambda url: {"CELERY_BROKER_URL": url}),
    "environment, read and write URL": Way(
        lambda url: app_with(), lambda url: {"CELERY_BROKER_READ_URL": url, "CELERY_BROKER_WRITE_URL": url}
    ),
    "environment, another in the code": Way(lambda url: app_with(broker=OTHER), lambda url: {"CELERY_BROKER_URL": url}),
    "celery -b": Way(lambda url: app_with(), arguments=lambda url: ["-b", url]),
    "celery -b, another in the code": Way(lambda url: app_with(broker=OTHER), arguments=lambda url: ["-b", url]),
    "code, another in the environment": Way(
        lambda url: app_with(broker=url), lambda url: {"CELERY_BROKER_URL": OTHER}, is_ours=False
    ),
    "another broker": Way(lambda url: app_with(broker=OTHER), is_ours=False),
}

if "WAY" in os.environ:
    app = WAYS[os.environ["WAY"]].make(os.environ["WAY_URL"])
    add_tasks(app)


def main(gate: str) -> None:
    """Sends, as a program of the user's: two tasks that hold, one that waits for its time, three of one key."""
    for _ in range(2):
        print(app.tasks["hold"].delay(gate).id)
    print(app.tasks["work"].apply_async(countdown=2.5).id)
    for _ in range(3):
        print(app.tasks["work"].apply_async(ordering_key="k").id)


if __name__ == "__main__":
    main(sys.argv[1])
