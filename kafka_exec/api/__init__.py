"""The HTTP API of an application's tasks, queues and nodes: an ASGI application, alone or within the user's own."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from celery import Celery

__all__ = ("application",)

#: An ASGI application: it gets the scope of a request, and functions that receive and send its messages.
Asgi = Callable[[MutableMapping[str, Any], Callable[..., Any], Callable[..., Any]], Awaitable[None]]


def application(celery_app: Celery, *, read_only: bool = False) -> Asgi:
    """The API of an application, to be served by any ASGI server, or mounted in any ASGI application.

    It needs the extra ``api``. Where the application around it has authenticated the user (Starlette's ``request.user``), it
    asks for no token.

    Args:
        read_only: it refuses all acts.

    Raises:
        ConfigurationError: the extra is not installed, a setting is wrong, or the broker is not kafka-exec.
    """
    from kafka_exec.errors import ConfigurationError
    from kafka_exec.settings.appconf import require_our_broker
    from kafka_exec.settings.options import api_tokens

    try:
        from kafka_exec.api.asgi import Api
    except ModuleNotFoundError as error:
        raise ConfigurationError(f"the API needs {error.name}: install kafka_exec[api]") from None
    from kafka_exec.api.access import Access

    require_our_broker(celery_app)
    return Api(celery_app, Access(api_tokens(celery_app.conf), read_only))
