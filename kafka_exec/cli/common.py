"""What the commands on an application share."""

from __future__ import annotations

import logging
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import click


def result_backend(context: click.Context) -> Any:
    """The application's result back end.

    Raises:
        ConfigurationError: it is not kafka-exec.
    """
    from kafka_exec.backend import KafkaBackend
    from kafka_exec.errors import ConfigurationError

    backend = context.obj.app.backend
    if not isinstance(backend, KafkaBackend):
        raise ConfigurationError(
            "the application has no kafka-exec:// result backend: name the application with celery -A APP, "
            "or its backend with celery --result-backend URL"
        )
    return backend


@contextmanager
def told(verbose: bool) -> Iterator[None]:
    """Tells of an error in one line and ends the process with status 1."""
    from kombu.exceptions import OperationalError

    from kafka_exec.errors import KafkaExecError

    if not verbose:
        logging.getLogger("kafka_exec").setLevel(logging.CRITICAL)
    try:
        yield
    except (KafkaExecError, OperationalError) as error:
        click.echo(f"Error: {error}", err=True)
        if verbose:
            click.echo(traceback.format_exc(), err=True)
        sys.exit(1)
