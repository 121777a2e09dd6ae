"""A worker's requests: what the end of a task means for those that wait for it in its lane."""

from __future__ import annotations

from typing import Any

from celery.exceptions import Ignore, Retry
from celery.worker import request
from kombu.utils.encoding import safe_repr

from kafka_exec.core.envelope import STOPS_ON_FAILURE


class Request(request.Request):  # type: ignore[misc]
    """Celery's, which tells the channel what an end is before it acknowledges it."""

    def on_retry(self, exc_info: Any) -> Any:
        """The task was sent anew."""
        if (deliveries := self._deliveries) is not None:
            deliveries.will_retry(self.message.delivery_tag)
        return super().on_retry(exc_info)

    _error = ""

    def on_failure(self, exc_info: Any, *args: Any, **kwargs: Any) -> Any:
        """The task has failed, or was sent anew."""
        self._error = safe_repr(exc_info.exception)
        stops = self._request_dict.get(STOPS_ON_FAILURE) and not isinstance(exc_info.exception, (Retry, Ignore))
        if stops and (deliveries := self._deliveries) is not None:
            deliveries.will_fail(self.message.delivery_tag)
        return super().on_failure(exc_info, *args, **kwargs)

    def reject(self, requeue: bool = False) -> None:
        """The message becomes a dead letter that says of which error its task died, or is delivered again."""
        deliveries = self._deliveries
        if deliveries is not None and self._error and not requeue and not self.acknowledged:
            deliveries.because(self.message.delivery_tag, self._error)
        super().reject(requeue)

    @property
    def _deliveries(self) -> Any:
        return getattr(self.message.channel, "deliveries", None)
