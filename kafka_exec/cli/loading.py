"""Errors of applications that cannot be loaded: Celery would print a traceback before any command begins."""

from __future__ import annotations

from typing import Any, NoReturn

import click
from celery import Celery
from celery.bin import celery as umbrella

from kafka_exec.errors import ConfigurationError


class Unloaded:
    """A stand-in for an application that could not be loaded: commands that need no application run all the same."""

    #: Celery reads these options before the command begins.
    user_options: dict[str, Any] = {}

    def __init__(self, name: str, error: BaseException) -> None:
        self._name = name
        self._error = error

    def __getattr__(self, attribute: str) -> NoReturn:
        error = self._error
        if ":" in self._name and isinstance(error, ModuleNotFoundError) and error.__context__ is not None:
            error = error.__context__  # Celery looks for a module of this name if the module has no such application
        raise ConfigurationError(
            f"the application {self._name} cannot be loaded: {type(error).__name__}: {error}"
        ) from error


def guard_loading(group: click.Group) -> None:
    """Has a group of ``celery`` print the error of an application that cannot be loaded as it prints its other errors."""
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
