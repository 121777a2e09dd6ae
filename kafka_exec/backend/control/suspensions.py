"""Suspended tasks between Celery and the control plane: their records and callbacks, and the messages that continue them."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from celery import states
from celery.exceptions import TaskRevokedError

from kafka_exec.backend import serial
from kafka_exec.backend.control.ends import Ends
from kafka_exec.backend.starts import Starts
from kafka_exec.core.cluster.topology import control_topic, dead_topic, queue_topic_named, state_topic, steps_topic
from kafka_exec.core.control.reducers import Command, Effect
from kafka_exec.core.control.wait_effects import BuryCallback, Continue, Refuse, Reply, TellProgress, Unwatch, Watch
from kafka_exec.core.durable.continuation import Continued, KeptMessage
from kafka_exec.core.durable.history import Page
from kafka_exec.core.message.envelope import WAITED_FOR, dead_letter_headers
from kafka_exec.core.results.lifecycle import State, record_key
from kafka_exec.core.results.state_record import ABSENT, StateRecord
from kafka_exec.errors import LostRecord, MessageTooLarge
from kafka_exec.kafka.publish.scopes import Outgoing, captured
from kafka_exec.kafka.results.states import states as state_reader
from kafka_exec.kafka.results.step_log import StepLog, step_log

logger = logging.getLogger("kafka_exec")

#: The attribute of a request that holds the run of a durable task.
RUN = "kafka_run"

#: Celery's name of the state of a suspended task.
SUSPENDED = "SUSPENDED"


class Suspensions:
    """The part of a result back end that is for suspended tasks, and for tasks for which others wait."""

    app: Any
    space: Any
    EXCEPTION_STATES: frozenset[str]
    surely: Callable[..., None]
    payloads: Callable[[str, Any], Iterator[str]]
    serialized: Callable[..., Any]
    deserialized: Callable[..., Any]
    exception_to_python: Callable[..., Any]
    store_result: Callable[..., Any]
    _record: Callable[..., StateRecord]
    _write: Callable[..., None]
    _publish: Callable[..., None]
    _starts: Starts
    _started: dict[str, float]
    on_chord_part_return: Callable[..., Any]

    @property
    def steps(self) -> StepLog:
        """The records of durable tasks."""
        space = self.space
        return step_log(space.cluster, steps_topic(space.settings, space.topics))

    def text_of(self, value: Any) -> str:
        """The text of a value, as records of durable tasks hold it.

        Raises:
            EncodeError: the serializer of results cannot serialize it.
        """
        return serial.as_text(self.serialized(value))

    def value_of(self, text: str) -> Any:
        """The inverse of :meth:`text_of`."""
        return self.deserialized(serial.of_text(text))

    # -- from Celery to the control plane ------------------------------------------------------------------------------

    def suspend(
        self,
        correlation_id: str,
        task_id: str,
        *,
        created: float,
        number: int,
        page: int,
        expected: int | Collection[str],
        deadline: float | None,
        watched: Sequence[str] = (),
        tells: bool = False,
    ) -> None:
        """Tells the control plane that a task is suspended. For the arguments see :mod:`~kafka_exec.core.control.waiting`.

        Args:
            page: the offset of the record with which it continues.

        Raises:
            KafkaExecError: the control plane will not learn it.
        """
        self._tell(
            "wait.suspend",
            correlation_id,
            task=task_id,
            created=created,
            number=number,
            page=[self.steps.partition(task_id), page],
            expected=expected if isinstance(expected, int) else sorted(expected),
            deadline=deadline,
            watched=list(watched),
            tells=tells,
        )

    def suspended(self, task_id: str, told: Any, *, request: Any, due: float | None) -> StateRecord:
        """The state record of a task that is being suspended, which :meth:`tell_suspended` writes.

        Args:
            told: what is told of the suspension, a JSON value.
            due: the deadline, epoch seconds.
        """
        self._starts.drop(task_id)
        started = self._started.pop(task_id, None)
        return self._record(task_id, SUSPENDED, told, now=time.time(), started=started, due=due, request=request)

    def tell_suspended(self, state: StateRecord) -> None:
        """Writes the state of a task that is being suspended.

        Raises:
            MessageTooLarge: what is told of the suspension is too large.
        """
        self._write(state, in_worker=True)

    def call_back(self, correlation_id: str, callback: str, data: str, reply: str | None = None) -> None:
        """Tells the control plane of a callback; it is durable when this returns.

        Raises:
            KafkaExecError: the callback is not durable.
        """
        self._tell("wait.callback", correlation_id, callback=callback, data=data, reply=reply)

    def ask_again(self, correlation_id: str, reply: str) -> None:
        """Asks the control plane once more what came of a callback. It waits for nothing.

        Raises:
            KafkaExecError: this process cannot ask now.
        """
        command = Command("wait.ask", {"id": correlation_id, "reply": reply})
        topic = control_topic(self.space.settings, self.space.topics)
        self.space.cluster.publisher.post(topic.name, command.encode(), key=correlation_id)

    def _tell(self, kind: str, correlation_id: str, **body: Any) -> None:
        space = self.space
        topic = control_topic(space.settings, space.topics)
        space.cluster.topics.ensure(topic)
        command = Command(kind, {"id": correlation_id, **body})
        space.cluster.publisher.send(topic.name, command.encode(), key=correlation_id, at_once=True)

    # -- ends of tasks -------------------------------------------------------------------------------------------------

    def tell_end(self, waiter: str, record: StateRecord) -> None:
        """Tells a task that waits for another one of its end, which is stored already, durably.

        Raises:
            KafkaExecError: it may not learn it.
        """
        result = None if record.result is ABSENT else record.result
        try:
            self.call_back(waiter, record.id, _told(record.state is State.DONE, serial.as_text(result)))
        except MessageTooLarge:
            payload = next(self.payloads(states.FAILURE, _too_large(record.id)))
            self.call_back(waiter, record.id, _told(False, payload))

    def mark_as_done(
        self, task_id: str, result: Any, request: Any = None, store_result: bool = True, state: str = states.SUCCESS
    ) -> None:
        """Stores a task's end after it has told the chord of it: a task whose end is stored is not run again."""
        if request and request.chord:
            self.on_chord_part_return(request, state, result)
        self._tell_waiter(request, state, result)
        if store_result:
            self.store_result(task_id, result, state, request=request)
        if (run := getattr(request, RUN, None)) is not None:
            run.erase()

    def mark_as_failure(
        self, task_id: str, exc: Any, traceback: Any = None, request: Any = None, *args: Any, **kwargs: Any
    ) -> Any:
        """Tells who waits for the task of its failure, then does what Celery does."""
        self._tell_waiter(request, states.FAILURE, exc)
        return super().mark_as_failure(  # type: ignore[misc]
            task_id, exc, traceback, request, *args, **kwargs
        )

    def mark_as_revoked(self, task_id: str, reason: str = "", request: Any = None, *args: Any, **kwargs: Any) -> Any:
        """Tells who waits for the task that it was revoked, then does what Celery does."""
        self._tell_waiter(request, states.REVOKED, TaskRevokedError(reason))
        return super().mark_as_revoked(task_id, reason, request, *args, **kwargs)  # type: ignore[misc]

    def _tell_waiter(self, request: Any, state: str, result: Any) -> None:
        """Tells a task that waits for this one of its end, durably; the end is not stored before."""
        waiter = getattr(request, WAITED_FOR, None)
        if not isinstance(waiter, str):
            return
        for payload in self.payloads(state, result):
            if self._has_told(waiter, request.id, state, payload):
                return
        self._tell_waiter(request, states.FAILURE, _too_large(request.id))

    def _has_told(self, waiter: str, task_id: str, state: str, payload: str) -> bool:
        data = _told(state not in self.EXCEPTION_STATES, payload)
        try:
            self.surely(lambda: self.call_back(waiter, task_id, data), task_id, in_worker=True)
        except MessageTooLarge:
            return False
        return True

    def outcome_of(self, data: str) -> Any:
        """The result of a task that was waited for: the inverse of what its end has told.

        Returns:
            its result, or the exception that it has raised.
        """
        is_ok, payload = json.loads(data)
        value = self.deserialized(serial.of_text(payload))
        return value if is_ok else self.exception_to_python(value)

    # -- decisions of the control plane --------------------------------------------------------------------------------

    def performers_of_suspensions(self) -> Mapping[type[Effect], Any]:
        """The functions that make the records of the control plane's decisions about suspensions, by type of decision."""
        ends = Ends(
            state_reader(self.space.cluster, state_topic(self.space.settings, self.space.topics)), self.tell_end
        )
        return {
            Watch: ends.watch,
            Unwatch: ends.forget,
            Continue: lambda effect: self._continue(effect, effect.outcome, effect.answers),
            Refuse: lambda effect: self._continue(effect, effect.outcome, {}, effect.reason),
            Reply: self._reply,
            TellProgress: self._tell_progress,
            BuryCallback: self._bury_callback,
        }

    def _continue(
        self, effect: Continue | Refuse, outcome: str, answers: Mapping[str, str], reason: str = ""
    ) -> Sequence[Outgoing]:
        partition, offset = effect.page
        try:
            record = self.steps.fetch(partition, offset)
        except LostRecord as error:
            logger.info("task %s is not continued: %s", effect.task, error)
            return []
        page = Page.decode(record.value(), offset)
        is_again = isinstance(effect, Continue) and effect.again
        inline = None if is_again or page.inline is None else (record.key().decode(), page.inline)
        continued = Continued(offset, effect.number, outcome, answers, reason, inline)
        kept = KeptMessage.of_json(page.message or {}).continuing(continued)
        if is_again:  # who waits outlasts its queue
            self.space.cluster.topics.ensure(queue_topic_named(self.space.settings, kept.topic))
            kept = kept._replace(partition=None)
        return [Outgoing(kept.topic, kept.value, kept.key, kept.headers, kept.partition)]

    def _reply(self, effect: Reply) -> Sequence[Outgoing]:
        with captured() as records:
            self.store_result(effect.reply, [effect.outcome.value, effect.got, effect.expected], states.SUCCESS)
        return records

    def _tell_progress(self, effect: TellProgress) -> Sequence[Outgoing]:
        try:
            record = self.steps.fetch(*effect.page)
        except LostRecord:  # the task has ended
            return []
        if (told := Page.decode(record.value(), effect.page[1]).state) is None:
            return []
        state = StateRecord.decode(told.encode())
        state = replace(state, result={**state.result, "got": list(effect.got)})
        with captured() as records:
            self._publish([(record_key(state.id, state.state), state.encode())], state)
        return records

    def _bury_callback(self, effect: BuryCallback) -> Sequence[Outgoing]:
        space = self.space
        letters = dead_topic(space.settings, space.topics, "control")
        space.cluster.topics.ensure(letters)
        topic = control_topic(space.settings, space.topics).name
        logger.error("a callback goes to the dead letters: %s", effect.error)
        headers = dead_letter_headers(
            (), reason="resume-unknown", error=effect.error, topic=topic, partition=0, offset=0
        )
        body = {"id": effect.id, "callback": effect.callback, "data": effect.data, "reply": None}
        return [Outgoing(letters.name, Command("wait.callback", body).encode(), effect.id, headers)]


def _told(is_ok: bool, payload: str) -> str:
    return json.dumps([is_ok, payload])


def _too_large(task_id: str) -> MessageTooLarge:
    return MessageTooLarge(f"the result of task {task_id} is too large for the task that waits for it: return less")
