"""An application that cannot be loaded: Celery tells of it in a traceback before any command begins."""

from __future__ import annotations

from typing import Any, NoReturn

import click
from celery import Celery
from celery.bin import celery as umbrella

from kafka_exec.errors import ConfigurationError


class Unloaded:
    """Stands for an application that could not be loaded: a command that needs none runs all the same."""

    #: Celery asks for them before the command begins.
    user_options: dict[str, Any] = {}

    def __init__(self, name: str, error: BaseException) -> None:
        self._name = name
        self._error = error

    def __getattr__(self, attribute: str) -> NoReturn:
        error = self._error
        if ":" in self._name and isinstance(error, ModuleNotFoundError) and error.__context__ is not None:
            error = error.__context__  # where a module has no such application, Celery looks for a module of that name
        raise ConfigurationError(
            f"the application {self._name} cannot be loaded: {type(error).__name__}: {error}"
        ) from error


def guard_loading(group: click.Group) -> None:
    """Has an application that cannot be loaded told of by the commands of a group of ``celery``, as their other errors."""
    find_app = umbrella.find_app

    def find(name: str, *args: Any, **kwargs: Any) -> Any:
        context = click.get_current_context(silent=True)
        if context is None or context.invoked_subcommand != group.name:
            return find_app(name, *args, **kwargs)
        try:
            found = find_app(name, *args, **kwargs)
        except Exception as error:
            return Unloaded(name, error)
        if isinstance(found, Celery):
            return found
        return Unloaded(name, TypeError(f"it is {found!r}, not a Celery application"))

    umbrella.find_app = find
