"""Periodic entries of other schedulers: where they are read, and how they are added."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from celery import Celery

from kafka_exec.beat.periodic import PeriodicTasks
from kafka_exec.core.beat.imports import Imported, NotImported, of_django, of_redbeat
from kafka_exec.errors import ConfigurationError, ConnectionFailed


def from_redbeat(url: str, prefix: str) -> list[Imported | NotImported]:
    """The entries that RedBeat has in Redis, by name. ``prefix``: RedBeat's setting ``redbeat_key_prefix``.

    Those of the configuration are left out: our beat takes them from ``beat_schedule``, too.

    Raises:
        ConnectionFailed: Redis does not answer.
        ConfigurationError: the URL is none, or the library ``redis`` is missing.
    """
    try:
        import redis
    except ImportError:
        raise ConfigurationError("RedBeat's entries are read by redis: pip install 'kafka_exec[redis]'") from None
    try:
        client = redis.Redis.from_url(url, decode_responses=True, encoding_errors="replace")
    except ValueError:  # which may say a part of the password
        raise ConfigurationError("no URL of Redis, such as redis://:PASSWORD@HOST:6379/0, each part escaped") from None
    try:
        with client:
            statics = {f"{prefix}{name}" for name in client.smembers(f"{prefix}:statics")}
            keys = sorted(client.scan_iter(match=f"{_literal(prefix)}*", _type="hash"))
            found = {key: client.hget(key, "definition") for key in keys if key not in statics}
    except redis.RedisError as error:
        raise ConnectionFailed(f"Redis does not tell RedBeat's entries: {error}") from None
    return [of_redbeat(key.removeprefix(prefix), text) for key, text in found.items() if text is not None]


def _literal(text: str) -> str:
    """A pattern of Redis for a text."""
    return "".join(f"\\{each}" if each in r"*?[]^\-" else each for each in text)


def from_django(app: Celery) -> list[Imported | NotImported]:
    """The entries that django-celery-beat has in the database of the application's Django project, by name.

    Raises:
        ConfigurationError: the application is no Django project's, or has no django_celery_beat.
    """
    app.loader.import_default_modules()  # Celery sets Django up with them
    try:
        from django.apps import apps  # type: ignore[import-untyped]

        model = apps.get_model("django_celery_beat", "PeriodicTask")
        rows = list(model.objects.exclude(task="celery.backend_cleanup").order_by("name"))
    except Exception as error:  # Django is missing, not set up, has no such application, or no database
        raise ConfigurationError(
            f"there is no django_celery_beat in this application's Django project ({error}): name the project's with "
            "celery -A PROJECT, and let Celery find it as its page on Django says"
        ) from None
    zone = str(app.timezone)
    return [of_django(_columns(row), zone) for row in rows]


def _columns(row: Any) -> dict[str, Any]:
    found = {each.name: getattr(row, each.name) for each in row._meta.fields}
    for kind in ("interval", "crontab", "solar", "clocked"):
        related = found[kind]
        found[kind] = related and {each.name: getattr(related, each.name) for each in related._meta.fields}
    if found["crontab"]:
        found["crontab"]["timezone"] = str(found["crontab"]["timezone"])
    if found["start_time"] is not None:
        found["start_time"] = found["start_time"].timestamp()
    return found


def names(app: Celery) -> frozenset[str]:
    """The names of the entries that are there."""
    return frozenset(each.name for each in PeriodicTasks(app).all())


def add(app: Celery, entries: Iterable[Imported]) -> Iterator[NotImported]:
    """Adds entries; yields those that an entry of ours cannot be, each with its reason."""
    tasks = PeriodicTasks(app)
    for each in entries:
        try:
            tasks.add(each.name, each.task, each.schedule, paused=each.paused, **each.more)
        except ConfigurationError as error:
            yield NotImported(each.name, str(error))
