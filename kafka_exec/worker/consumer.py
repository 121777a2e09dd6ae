"""The worker's consumer: it takes messages, hands tasks to the pool when a slot is free, and keeps unknown tasks."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from typing import Any

from celery import Task
from celery.app.task import Context
from celery.exceptions import InvalidTaskError, WorkerShutdown
from celery.worker import consumer
from celery.worker import state as worker_state
from celery.worker.consumer.control import Control
from celery.worker.state import task_ready
from kombu.exceptions import OperationalError

from kafka_exec.app.task import settle
from kafka_exec.core.control.delay import hold_for
from kafka_exec.core.message.taskmessage import BAD_TASK, NOT_A_TASK, as_task, check
from kafka_exec.core.record.fields import whole
from kafka_exec.core.worker.versions import TASK_VERSION, capabilities, needed
from kafka_exec.errors import KafkaExecError, Undecodable
from kafka_exec.kafka.client.oddities import count
from kafka_exec.kafka.control.delays import Delays
from kafka_exec.kafka.nodes.node import Node
from kafka_exec.transport.connection import Connection
from kafka_exec.transport.revoked import Revoked
from kafka_exec.worker.sharing import Sharing
from kafka_exec.worker.starting import Starter
from kafka_exec.worker.timer import LogTimer
from kafka_exec.worker.waiting import tell_newcomers

logger = logging.getLogger("kafka_exec")

#: A message that could not be written to Kafka is delivered again after this time, seconds.
_PAUSE = 1.0

#: The largest number to which a message may set Celery's logical clock: numbers of more digits cannot be written.
_LATEST = 2**53

#: The longest pause between two tries to connect, seconds; Celery's own grows to half a minute.
_RECONNECT_PAUSE = 3

#: A worker that stops waits so long for its pool's children to take their tasks, seconds.
_HAND_OVER = 10.0

#: The worker checks this often whether its pool has grown, and whether others have free slots, seconds.
_PUMP = 1.0


class Consumer(consumer.Consumer):
    """Celery's consumer, which tries to connect at least every few seconds, and makes unreadable messages dead letters.

    Tasks wait for a pool slot here and not in the pool, so that a task that has not begun can still go to another worker.

    Attributes:
        node: the worker's node, which knows the log's time.
        revoked: the tasks that were revoked before this worker was started, or so long ago that Celery has forgotten it.
        sharing: the worker's side of giving tasks to other workers.
        delays: the worker's share of the messages that wait for their time.
    """

    timer: Any
    node: Node | None = None
    revoked: Revoked | None = None
    sharing: Sharing | None = None
    delays: Delays | None = None

    def __init__(self, on_task_request: Any, *args: Any, pool: Any = None, **kwargs: Any) -> None:
        self._hand_to_pool = on_task_request
        self.starter = Starter(pool, self._begin, self.on_fault)
        super().__init__(self._start_when_due, *args, pool=pool, **kwargs)
        for task in self.app.tasks.values():
            settle(task)
        for step in self.steps:
            if isinstance(step, Control):
                step.box.node.handle_message = self._unless_faulty(step.box.node.handle_message)
        self.app.clock.adjust = _bounded(self.app.clock.adjust)
        self._able: frozenset[str] = frozenset()
        self._pumping = False

    def update_strategies(self) -> None:
        """Prepares the tasks' requests. Celery calls it before the consumer takes messages."""
        for task in self.app.tasks.values():
            if task.Request == Task.Request:
                task.Request = "kafka_exec.worker.request:Request"
        timer, self.timer = self.timer, self._log_timer
        try:
            super().update_strategies()
        finally:
            self.timer = timer
        self._able = frozenset(capabilities(self.app.tasks.values()))

    @property
    def _log_timer(self) -> LogTimer:
        return LogTimer(self.timer, self._log_time)

    def _start_when_due(self, request: Any) -> None:
        """Starts a task when its time has come by the log.

        Celery's clock of tasks begins with the machine's start. If the machine's other clock is ahead by more than that is
        ago, Celery takes each task for due.
        """
        eta = request.eta
        if eta is not None:
            due = (eta if eta.tzinfo else eta.replace(tzinfo=self.app.timezone)).timestamp()
            if hold_for(due, self._log_time()) > 0:
                self._log_timer.call_when_due(due, self.starter, (request,))
                return
        self.starter(request)

    def _log_time(self) -> float | None:
        """The time by the log's clock; None if it is not known yet. With a broker that is not ours, it is the machine's."""
        return time.time() if self.node is None else self.node.log_time()

    def create_task_handler(self, *args: Any, **kwargs: Any) -> Callable[[Any], Any]:
        """The handler of messages. Celery calls it for each new connection, before it consumes."""
        deliveries = getattr(self.task_consumer.channel, "deliveries", None)
        if deliveries is not None:
            self.starter.attach(deliveries)
        if not self._pumping:
            self._pumping = True
            self.timer.call_repeatedly(_PUMP, self._look_after)
        if not hasattr(consumer.Consumer, "call_soon_ack"):
            self.__dict__["call_soon"] = self.call_soon_ack  # Celery before 5.7 acknowledges by call_soon
        handle: Callable[[Any], Any] = super().create_task_handler(*args, **kwargs)
        self.__dict__.pop("call_soon", None)

        def on_task_received(message: Any) -> Any:
            if not self._can_be_run(message):
                return None
            if self.revoked is not None and (task_id := message.headers.get("id")) in self.revoked:
                worker_state.revoked.add(task_id)
            if TASK_VERSION in message.headers and (need := needed(message.headers)) not in self._able:
                return self.on_unknown_task(None, message, KeyError(need))
            return handle(message)

        return on_task_received

    def _can_be_run(self, message: Any) -> bool:
        """True if a message is a task that may be handed on; all other messages become dead letters here.

        A task in Celery's old protocol gets the headers of the new one. A task that this worker does not know is not
        decoded: another worker may know it.
        """
        headers, payload = message.headers, None
        try:
            if isinstance(headers.get("task"), str) and needed(headers) not in self._able:
                check(headers)
            else:
                payload = message.payload
                message.headers = as_task(headers, payload)
                if isinstance(payload, dict):
                    payload.setdefault("args", ())  # Celery recognises the old protocol by it
        except Undecodable as error:
            message.channel.deliveries.because(message.delivery_tag, str(error), error.reason)
            if error.reason == NOT_A_TASK:
                self.on_unknown_message(payload, message)
            else:
                self._fail_task(message, InvalidTaskError(str(error)))
                self.on_invalid_task(payload, message, error)
            return False
        except Exception as error:
            self.on_decode_error(message, error)
            return False
        return True

    def _fail_task(self, message: Any, error: BaseException) -> None:
        """Stores the failure of a task that no worker can run: a program may wait for it, and nothing else will end it."""
        headers = message.headers
        name, task_id = headers.get("task"), headers.get("id")
        if not isinstance(name, str) or not isinstance(task_id, str) or not task_id or headers.get("ignore_result"):
            return
        request = Context(id=task_id, task=name, delivery_info=message.delivery_info, hostname=self.hostname)
        try:
            self.app.backend.mark_as_failure(task_id, error, request=request, call_errbacks=False)
        except Exception:
            logger.exception("that task %s[%s] has failed could not be stored", name, task_id)

    def on_fault(self, message: Any, error: Exception) -> bool:
        """Handles an error that a message has caused: the message becomes a dead letter; a broadcast message is dropped.

        Returns:
            False if no message has caused the error, but this process's memory or its connection.
        """
        if isinstance(error, (MemoryError, *self.connection_errors)):
            return False
        deliveries, tag = message.channel.deliveries, message.delivery_tag
        task_id = message.headers.get("id")
        request = worker_state.requests.get(task_id) if isinstance(task_id, str) else None
        if request is not None and request.message is message:
            task_ready(request)
        failure = error if isinstance(error, OperationalError) else None
        if failure is None and "task" not in message.headers:
            count(f"exchange {message.delivery_info['exchange']}", "a broadcast", error)
        elif failure is None:
            logger.error("message %s cannot be taken: %r", message.delivery_info, error, exc_info=error)
            self._fail_task(message, error)
            try:
                deliveries.bury(tag, BAD_TASK, repr(error))
            except KafkaExecError as not_buried:
                failure = not_buried
        if failure is not None:
            logger.warning("message %s is delivered again, Kafka does not answer: %s", message.delivery_info, failure)
            self.timer.call_after(_PAUSE, deliveries.reject, (tag, True))
        return True

    def _unless_faulty(self, handle: Callable[..., Any]) -> Callable[..., Any]:
        """Celery's handler of remote control, which drops a message that is no command.

        Celery alone would close the queue of its commands and listen anew, and miss the commands that come meanwhile.
        """

        def handle_message(body: Any, message: Any = None) -> Any:
            try:
                return handle(body, message)
            except (KeyError, OperationalError, *self.connection_errors, *self.channel_errors):
                raise  # an unknown command, which Celery logs; or a reply that could not be sent
            except Exception as error:
                count("remote control", "a message", error)

        return handle_message

    def _begin(self, request: Any) -> None:
        """Hands a request to the pool. If the pool refuses it, as one that cannot be pickled, its job and slot are freed."""
        try:
            self._hand_to_pool(request)
        except Exception:
            getattr(self.controller, "_quick_release", lambda: None)()
            for job in self._jobs():
                if job.correlation_id == request.id and not hasattr(job, "_payload"):
                    job.discard()
            raise

    def _jobs(self) -> list[Any]:
        """The jobs of a pool of processes: tasks that a child runs, or that are on their way to one."""
        return list(getattr(getattr(self.pool, "_pool", None), "_cache", {}).values())

    def stop(self) -> None:
        """Stops, when the pool's children have the tasks that were handed to the pool."""
        self.starter.stop()
        if self.hub is not None and self._is_handing_over():
            logger.info("the pool takes the last tasks before the worker stops")
            self._hand_over()
        super().stop()

    def _is_handing_over(self) -> bool:
        return not all(job.accepted() for job in self._jobs())

    def _hand_over(self) -> None:
        """Runs the event loop until each child has said that it has its task.

        Celery forgets the other tasks when it stops. A child that finds one in its pipe all the same runs it, and waits half
        a minute for somebody to read its end; and another worker gets the message, to run it again.
        """
        deadline = time.monotonic() + _HAND_OVER
        loop = self.hub.create_loop()
        while self._is_handing_over() and time.monotonic() < deadline:
            try:
                next(loop)
            except StopIteration:
                loop = self.hub.create_loop()
            except (WorkerShutdown, *self.connection_errors):
                return

    def _look_after(self) -> None:
        self.starter.pump()  # the pool may have grown
        if self.sharing is not None:
            self.sharing.turn()
        if isinstance(connection := getattr(self.connection, "connection", None), Connection):
            tell_newcomers(self.app, connection)

    def on_unknown_task(self, body: Any, message: Any, exc: BaseException) -> None:
        """Keeps a task, or a version of one, that another worker may know; Celery would fail it."""
        if self.sharing is None or not self.sharing.add_misfit(message):
            super().on_unknown_task(body, message, exc)

    def call_soon_ack(self, p: Any, *args: Any, **kwargs: Any) -> Any:
        """Acknowledges at once, in any thread: the next task waits for the slot, and the event loop may sleep a second."""
        done = p(*args, **kwargs)
        connection = getattr(self.connection, "connection", None)
        if threading.current_thread() is not threading.main_thread() and isinstance(connection, Connection):
            # A turn of the loop begins ten tasks that have become due, and then sleeps unless it is woken.
            connection.waker.wake()
        return done

    def ensure_connected(self, conn: Any) -> Any:
        conn.ensure_connection = _impatient(conn.ensure_connection)
        connected = super().ensure_connected(conn)
        if isinstance(connection := connected.connection, Connection):
            self._make_topics(connection)
        return connected

    def _make_topics(self, connection: Connection) -> None:
        queues = [
            queue.name
            for queue in self.app.amqp.queues.consume_from.values()
            if queue.durable and not (queue.exclusive or queue.auto_delete or queue.queue_arguments)
        ]
        exchanges = ("", self.app.control.mailbox.exchange.name, self.app.conf.event_exchange)
        connection.space.make_worker_topics(queues, exchanges)

    def on_decode_error(self, message: Any, exc: BaseException) -> None:
        """Rejects the message, which Celery would acknowledge: it becomes a dead letter, and Celery logs it."""
        self._fail_task(message, exc)
        message.channel.deliveries.because(message.delivery_tag, str(exc), "undecodable")
        message.ack = message.reject
        super().on_decode_error(message, exc)


def _bounded(adjust: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """Celery's function that sets its logical clock, which ignores values that are no numbers or too large to count on."""

    def bounded(other: Any) -> Any:
        try:
            return adjust(whole(other, most=_LATEST))
        except ValueError:
            return None

    return bounded


def _impatient(ensure_connection: Any) -> Any:
    def ensure(*args: Any, **kwargs: Any) -> Any:
        return ensure_connection(*args, interval_max=_RECONNECT_PAUSE, **kwargs)

    return ensure
