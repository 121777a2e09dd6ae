"""A worker's requests: they tell the channel how a task has ended, for the tasks that wait for it in its lane."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any

from billiard.einfo import ExceptionInfo, ExceptionWithTraceback
from celery.exceptions import Ignore, Retry, TimeLimitExceeded
from celery.worker import request
from kombu.utils.encoding import safe_repr

from kafka_exec.app.durable.run import Suspended
from kafka_exec.core.message.envelope import STOPS_ON_FAILURE


def is_acknowledged_on_failure(task: Any) -> bool:
    """True if the message of a task that has failed is acknowledged; otherwise it becomes a dead letter.

    Celery before 5.7 has one option for failures and for hard time limits; kafka_exec's base class has the other one too.
    """
    own: bool | None = getattr(task, "acks_on_failure", None)
    return bool(task.acks_on_failure_or_timeout if own is None else own)


class Request(request.Request):  # type: ignore[misc]
    """Celery's request, which tells the channel how its task has ended before it acknowledges the message."""

    def __init_subclass__(cls, **kwargs: Any) -> None:
        """Wraps the handler of success in the class that Celery derives for each task."""
        super().__init_subclass__(**kwargs)
        if "on_success" in vars(cls):
            cls.on_success = _unless_lost(cls.on_success)

    def on_retry(self, exc_info: Any) -> Any:
        """Tells the channel that the task was sent anew."""
        if (deliveries := self._deliveries) is not None:
            deliveries.will_retry(self.message.delivery_tag)
        return super().on_retry(exc_info)

    _error = ""
    _is_dead = False

    def on_failure(self, exc_info: Any, *args: Any, **kwargs: Any) -> Any:
        """Tells the channel of the task's failure, unless the task was sent anew."""
        error = exc_info.exception
        if isinstance(error, ExceptionWithTraceback):  # in pools without processes
            error = error.exc
        if isinstance(error, Suspended):
            if (deliveries := self._deliveries) is not None:
                deliveries.will_retry(self.message.delivery_tag)
            self.send_event("task-suspended", correlation_id=error.args[1], due=error.args[2])
        self._error = safe_repr(error)
        has_failed = not isinstance(error, (Retry, Ignore))
        self._is_dead = (
            has_failed and not isinstance(error, TimeLimitExceeded) and not is_acknowledged_on_failure(self.task)
        )
        stops = self._request_dict.get(STOPS_ON_FAILURE) and has_failed
        if stops and (deliveries := self._deliveries) is not None:
            deliveries.will_fail(self.message.delivery_tag)
        return super().on_failure(exc_info, *args, **kwargs)

    def acknowledge(self) -> None:
        """Acknowledges the message, or rejects it: Celery before 5.7 acknowledges failures that must become dead letters."""
        if self._is_dead:
            self.reject(requeue=False)
        else:
            super().acknowledge()

    def reject(self, requeue: bool = False) -> None:
        """Rejects the message. Its dead letter says the task's error, also if it is delivered again before."""
        deliveries = self._deliveries
        if deliveries is not None and self._error and not self.acknowledged:
            deliveries.because(self.message.delivery_tag, self._error)
        super().reject(requeue)

    @property
    def _deliveries(self) -> Any:
        return getattr(self.message.channel, "deliveries", None)


def _unless_lost(on_success: Callable[..., Any]) -> Callable[..., Any]:
    """Celery's handler of a run's success, which also takes runs that end by ``sys.exit()`` in pools without processes.

    Those pools report such a run as lost to this handler, which Celery has not prepared for it: the task would never end.
    """

    @wraps(on_success)
    def on_end(self: Request, outcome: Any, **kwargs: Any) -> Any:
        if isinstance(outcome, ExceptionInfo):
            return self.on_failure(outcome)
        return on_success(self, outcome, **kwargs)

    return on_end
