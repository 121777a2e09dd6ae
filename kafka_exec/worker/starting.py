"""The start of a worker's tasks: when the pool has a slot, if they are still its own, not paused, and not lost too often."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping
from typing import Any

from celery.worker.state import task_ready
from kombu.exceptions import OperationalError

from kafka_exec.backend import KafkaBackend
from kafka_exec.core.message.envelope import (
    CONTINUED,
    CREATED,
    FENCE,
    LOG_OFFSET,
    RECORD_HEADER,
    REPEATED,
    START_BY,
    WAITED_FOR,
    created_at,
)
from kafka_exec.core.results.lifecycle import State
from kafka_exec.core.results.state_record import StateRecord
from kafka_exec.core.worker.gate import Gate, is_given_up
from kafka_exec.errors import KafkaExecError, TooManyDeliveries, Undecodable
from kafka_exec.kafka.client.loop import run_once
from kafka_exec.transport.deliveries import Deliveries
from kafka_exec.transport.sources import Item, Source
from kafka_exec.worker.request import is_acknowledged_on_failure

logger = logging.getLogger("kafka_exec")

#: A task that cannot begin because Kafka does not answer is tried again after this time, seconds.
_PAUSE = 1.0

#: The event loop waits no longer for the journal to have the begin of a task durably, seconds.
_PATIENCE = 0.5


class Starter:
    """Celery's ``on_task_request`` of a worker. Thread-safe.

    Args:
        pool: Celery's pool.
        start: hands a request to the pool.
        on_fault: called with a message whose run cannot begin, and with the error. False: the message has not caused it.
    """

    def __init__(self, pool: Any, start: Callable[[Any], None], on_fault: Callable[[Any, Exception], bool]) -> None:
        self._pool = pool
        self._start = start
        self._on_fault = on_fault
        self._gate: Gate[tuple[Deliveries, int], Any] = Gate()
        self._lock = threading.Lock()
        self._pumping = False
        self._stopped = False

    def attach(self, deliveries: Deliveries) -> None:
        """Has the runs of a channel's messages begin here instead of with their delivery."""
        deliveries.deferred = True
        deliveries.on_settled = lambda tag: self._settled(deliveries, tag)
        self._stopped = False

    def stop(self) -> None:
        """Begins no more tasks: other workers get those that wait."""
        self._stopped = True

    @property
    def is_full(self) -> bool:
        """True if no pool slot is free for the tasks that wait."""
        with self._lock:
            return self._gate.is_full(self._pool.num_processes)

    @property
    def waiting(self) -> int:
        """The number of tasks that wait for a pool slot."""
        with self._lock:
            return self._gate.waiting

    def withdraw(self, most: int) -> list[tuple[Source, Item]]:
        """Takes back tasks that wait for a slot, those that would wait longest, for the caller to give away."""
        with self._lock:
            last = self._gate.last(most)
        found = []
        for (deliveries, tag), request in last:
            if (item := deliveries.withdraw(tag)) is not None:
                task_ready(request)
                found.append(item)
        return found

    def __call__(self, request: Any) -> None:
        deliveries = request.message.channel.deliveries
        if not deliveries.deferred:
            self._start(request)
            return
        tag = request.message.delivery_tag
        with self._lock:
            self._gate.add((deliveries, tag), request, attempts=deliveries.attempts(tag))
        self.pump()

    def _settled(self, deliveries: Deliveries, tag: int) -> None:
        with self._lock:
            self._gate.done((deliveries, tag))
        if self._pool.is_green:
            # This is the ended task's greenlet. The pool's slot is free only when it is over, so it must not wait for that.
            run_once("pump", self.pump, cooperative=True)
        else:
            self.pump()

    def pump(self) -> None:
        """Begins the tasks that may begin now."""
        with self._lock:
            if self._pumping:
                return  # the thread that does it looks again
            self._pumping = True
        while (found := self._next()) is not None:
            try:
                self._guarded(self._begin, *found)
            except BaseException:
                self._pumping = False
                raise

    def _guarded(self, act: Callable[..., None], key: tuple[Deliveries, int], request: Any) -> None:
        """Calls ``act``. An error that the task's own message has caused ends here, so that other tasks begin.

        While the worker stops, its pool may refuse any task. That one begins elsewhere, when this worker has left.
        """
        try:
            act(key, request)
        except Exception as error:
            if self._stopped:
                logger.warning("task %s does not begin here, this worker stops: %s", request.id, error)
                with self._lock:
                    self._gate.done(key)
            elif not self._on_fault(request.message, error):
                raise

    def _next(self) -> tuple[tuple[Deliveries, int], Any] | None:
        with self._lock:
            found = None if self._stopped else self._gate.next(self._pool.num_processes)
            self._pumping = found is not None
            return found

    def _begin(self, key: tuple[Deliveries, int], request: Any) -> None:
        deliveries, tag = key
        if self._stopped:
            with self._lock:
                self._gate.done(key)
            return
        if deliveries.put_back_if_paused(tag):
            task_ready(request)
            return
        attempts = deliveries.attempts(tag)
        try:
            if (ended := self._end_of(request, attempts)) is not None:
                self._end_again(request, ended)
            elif is_given_up(attempts, request.message.channel.connection.space.settings.max_deliveries):
                self._give_up(request, deliveries, tag, attempts)
            elif deliveries.begin(tag):
                if attempts and request.request_dict.get(REPEATED) is None:
                    request.request_dict[REPEATED] = _place(request).get("timestamp")
                self._start_when_confirmed(key, request)
            else:
                task_ready(request)
        except (KafkaExecError, OperationalError) as error:
            self._later(self._begin, key, request, error)

    def _start_when_confirmed(self, key: tuple[Deliveries, int], request: Any) -> None:
        deliveries, tag = key
        try:
            begun = deliveries.confirm(tag, _PATIENCE, surely=bool(getattr(request.task, "durable", False)))
        except KafkaExecError as error:
            self._later(self._start_when_confirmed, key, request, error)
            return
        if begun is None:
            task_ready(request)
        else:
            ahead = request.message.channel.connection.log_offset
            request.request_dict.update({FENCE: begun.fence, START_BY: begun.start_by, LOG_OFFSET: ahead})
            if request.request_dict.get(CONTINUED) is not None:
                request.send_event("task-resumed")
            self._start(request)

    def _later(self, act: Callable[..., None], key: tuple[Deliveries, int], request: Any, error: Exception) -> None:
        """Calls ``act`` again after a pause. The task's slot stays taken until then."""
        logger.warning("task %s cannot begin yet: %s", request.id, error)
        run_once("begin", lambda: self._guarded(act, key, request), after=_PAUSE, cooperative=True)

    def _end_of(self, request: Any, attempts: int) -> StateRecord | None:
        """The state record by which a task has ended already: in a lost run, or by the message of which this one is a copy.

        Nothing is looked up for the first run of a message that a first run has sent.
        """
        since = request.request_dict.get(REPEATED)
        if not (attempts or since):
            return None
        backend = request.task.backend
        if not isinstance(backend, KafkaBackend):
            return None
        try:
            record = backend.reader.find(request.id)
        except Undecodable as error:
            logger.warning("the state of task %s is not understood, it is begun again: %s", request.id, error)
            return None
        if record is None:
            return None
        context = request._context
        nothing_follows = not (context.errbacks or context.chord or context.chain or context.get(WAITED_FOR))
        if attempts and record.ends_run_of(_where(request), also_failed=nothing_follows):
            return record
        created = created_at(context.get(CREATED), _place(request))
        if since and record.ends_copy(parent=context.parent_id, created=created, since=since):
            logger.info("task %s has ended before this copy of its message could begin", request.id)
            return record
        return None

    def _end_again(self, request: Any, ended: StateRecord) -> None:
        """Ends the message of a task that has ended before: as after its end if that was its own end."""
        is_own = (ended.topic, ended.partition, ended.offset) == _where(request)
        if is_own and ended.state is State.FAILED and not is_acknowledged_on_failure(request.task):
            deliveries = request.message.channel.deliveries
            if (raised := ended.exception) is not None:
                deliveries.because(request.message.delivery_tag, f"{raised.type}: {raised.message}")
            request.reject(requeue=False)
        else:
            request.acknowledge()
        task_ready(request)

    def _give_up(self, request: Any, deliveries: Deliveries, tag: int, attempts: int) -> None:
        lost = deliveries.error(tag)
        error = TooManyDeliveries(
            f"task {request.name}[{request.id}] was begun {attempts} times and never ended"
            f"{f', the last time {lost}' if lost else ''}: it may be what kills its workers; it is in the dead letters "
            "(kafka_exec_max_deliveries)"
        )
        logger.error(str(error))
        try:
            request.task.backend.mark_as_failure(
                request.id, error, request=request._context, store_result=request.store_errors
            )
        except OperationalError:
            raise  # giving up is tried again as a whole
        except Exception:
            logger.exception("what follows from the end of task %s[%s] cannot be done", request.name, request.id)
        deliveries.bury(tag, "max-deliveries", str(error))
        request.send_event("task-failed", exception=repr(error), traceback="")
        task_ready(request)


def _place(request: Any) -> Mapping[str, Any]:
    """The place of a request's record, and when it was published."""
    return request.request_dict.get(RECORD_HEADER) or {}


def _where(request: Any) -> tuple[Any, Any, Any]:
    place = _place(request)
    return place.get("topic"), place.get("partition"), place.get("offset")
