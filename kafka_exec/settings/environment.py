"""Settings from the environment: ``KAFKA_EXEC_MAX_DELIVERIES=2``, or JSON for a setting that is a mapping or a list."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from kafka_exec.core.cluster.settings import KAFKA, KINDS, check_names, check_value
from kafka_exec.core.cluster.values import PROPERTIES
from kafka_exec.errors import ConfigurationError

PREFIX = "KAFKA_EXEC_"

#: The variables of user and password, if these are not in the URL.
USER = "KAFKA_EXEC_USER"
PASSWORD = "KAFKA_EXEC_PASSWORD"

#: The names of variables that are no settings.
OTHERS = ("user", "password")

#: Celery's own variables, by the names that a user may try here.
_CELERYS = {
    **dict.fromkeys(("url", "broker", "broker_url"), "CELERY_BROKER_URL"),
    **dict.fromkeys(("backend", "backend_url", "result_backend"), "CELERY_RESULT_BACKEND"),
}


def variable(name: str) -> str:
    """The name of a setting's environment variable."""
    return PREFIX + name.upper()


def from_environment(environment: Mapping[str, str] | None = None) -> dict[str, Any]:
    """The settings in the environment, and ``kafka``. An empty variable is not set.

    Raises:
        ConfigurationError: a variable has our prefix and an unknown name, or its value is wrong.
    """
    given = os.environ if environment is None else environment
    texts = {key: text for key, text in given.items() if text and key.upper().startswith(PREFIX)}
    names = {key: key.upper().removeprefix(PREFIX).lower() for key in texts}
    for key, name in names.items():
        known = variable(name) if name in (*KINDS, KAFKA, *OTHERS) else _CELERYS.get(name, key)
        if key != known:
            raise ConfigurationError(f"unknown setting {key}, did you mean {known}?")
    check_names(names.values(), variable, also=(KAFKA, *OTHERS))
    return {name: _read(name, texts[key]) for key, name in names.items() if name not in OTHERS}


def _read(name: str, text: str) -> Any:
    kind = PROPERTIES if name == KAFKA else KINDS[name]
    value = kind.read(text)
    if value == text and kind.is_json:
        # The message does not show the text: it may hold a password.
        raise ConfigurationError(f"{variable(name)} must be JSON, such as {kind.example}")
    check_value(name, value, variable)
    return value
