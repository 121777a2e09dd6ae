"""One run of a durable task: it finds what earlier runs have done, writes what this one does, and gives its slot up."""

from __future__ import annotations

import json
import logging
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from itertools import groupby
from typing import Any, TypeVar

from celery import group
from celery.canvas import Signature, _chain, _chord
from celery.exceptions import Ignore

from kafka_exec.app.sending import log_offset
from kafka_exec.backend import KafkaBackend
from kafka_exec.core.durable.continuation import FAILED, REFUSED, TIMED_OUT, Continued, KeptMessage
from kafka_exec.core.durable.history import STEP, SUSPENSION, WAIT, Entry, History, Page, written_since
from kafka_exec.core.message.envelope import (
    CONTINUATIONS,
    CONTINUED,
    CREATED,
    RECORD_HEADER,
    REPEATED,
    WAITED_FOR,
    created_at,
)
from kafka_exec.errors import (
    ConnectionFailed,
    CorrelationInUse,
    KafkaExecError,
    LostRecord,
    MessageTooLarge,
    NotConfirmed,
    NotDurable,
    ResultTooLarge,
    SuspensionTimedOut,
    Unrecoverable,
)
from kafka_exec.kafka.publish import clock
from kafka_exec.kafka.publish.scopes import captured, confirmed
from kafka_exec.kafka.results.step_log import StepLog

logger = logging.getLogger("kafka_exec")

T = TypeVar("T")

#: The longest time of a sleep, or of a wait with a deadline, seconds.
FOR_EVER = 100 * 366 * 86400.0

#: The time between two tries while Kafka does not answer, seconds.
_PAUSE = 0.5


class Suspended(Ignore):  # type: ignore[misc]
    """The exception by which a task gives its slot up: the task's function must let it pass.

    Its arguments are a text, the correlation id, and the deadline, epoch seconds, or None.
    """


class DurableRun:
    """One run of a durable task, from its first durable call on."""

    def __init__(self, task: Any) -> None:
        if not isinstance(task.backend, KafkaBackend):
            raise NotDurable(f"task {task.name} makes durable calls: that needs a kafka-exec:// result backend")
        self.backend = task.backend
        self.task_id = str(task.request.id)
        self.suspended: Suspended | None = None
        self._task = task
        self._request = task.request
        self._nonce = uuid.uuid4().hex[:8]
        self._patiently(self.backend.ensure_chords_allowed)
        self.history = self._patiently(self._load)

    @property
    def settings(self) -> Any:
        """The settings of the result back end."""
        return self.backend.space.settings

    @property
    def _steps(self) -> StepLog:
        return self.backend.steps

    # -- what earlier runs have done -----------------------------------------------------------------------------------

    def _load(self) -> History:
        told = getattr(self._request, CONTINUED, None)
        continued = None if told is None else Continued.of_json(told)
        found = History(self.task_id, continued)
        place = getattr(self._request, RECORD_HEADER, None) or {}
        since = written_since(
            getattr(self._request, REPEATED, None), self._created, is_replay=bool(place.get("is_replay"))
        )
        if continued is not None:
            try:
                self._read_pages(found, continued, is_first=since is None)
            except LostRecord as error:
                raise Ignore(str(error)) from None
        if since is not None:
            for entry in self._steps.since(self.task_id, since):
                found.known(entry)
        return found

    @property
    def _created(self) -> float | None:
        place = getattr(self._request, RECORD_HEADER, None) or {}
        return created_at(getattr(self._request, CREATED, None), place)

    def _read_pages(self, found: History, continued: Continued, *, is_first: bool) -> None:
        """Reads the pages, the newest first. In a run that is not the message's first one they may be gone."""
        at = continued.at
        if continued.page is not None and is_first:
            key, value = continued.page
            page = Page.decode(value.encode(), at)
        else:
            record = self._record(at)
            key, page = record.key().decode(), Page.decode(record.value(), at)
        found.read_newest(page, key)
        while page.before is not None:
            at = page.before
            page = Page.decode(self._record(at).value(), at)
            found.read_full(page)

    def _record(self, offset: int) -> Any:
        return self._steps.fetch(self._steps.partition(self.task_id), offset)

    def _text_of(self, entry: Entry) -> str:
        if entry.value is not None:
            return entry.value
        value: str = json.loads(self._record(entry.offset or 0).value())["value"]
        return value

    # -- durable calls -------------------------------------------------------------------------------------------------

    def step(self, name: str, function: Callable[..., T], args: Any, kwargs: Any) -> T:
        """The value of a step."""
        self._go_on()
        name = self.history.numbered(name)
        if (known := self.history.take(STEP, name)) is not None:
            value: T = self.backend.value_of(self._text_of(known))
            return value
        value = function(*args, **kwargs)
        entry = Entry(self.history.position, STEP, name, self.backend.text_of(value))
        facts = {"at": now(), "worker": self._request.hostname}
        try:
            key, offset = self._append(entry.number, entry.encode(self.task_id, facts))
        except MessageTooLarge as error:
            raise ResultTooLarge(
                f"step {name} of task {self.task_id} returns too much: return less ({error})"
            ) from None
        self.history.add(entry._replace(key=key, offset=offset))
        return value

    def wait(
        self,
        kind: str,
        name: str,
        correlation_id: str,
        expected: Any,
        timeout: float | None,
        watched: Sequence[str] = (),
    ) -> Continued:
        """The answer to a durable call for which the task gives its slot up, unless it is there.

        Args:
            watched: those of the expected ids that are tasks whose messages do not name this wait.
        """
        self._go_on()
        if (known := self.history.take(kind, name)) is None:
            raise self._suspend((kind, name), correlation_id, expected, timeout, watched)
        found = Continued.of_json(json.loads(self._text_of(known)))
        if found.outcome == REFUSED:
            raise CorrelationInUse(found.reason)
        if found.outcome == FAILED:
            raise Unrecoverable(found.reason)
        return found

    def results_of(self, tasks: list[Any], timeout: float | None) -> list[Any]:
        """The results of tasks: signatures, which this run or an earlier one sends, and results of tasks sent elsewhere."""
        number = self.history.position
        correlation_id = f"{self.task_id}/{number}"
        sent = {
            str(uuid.uuid5(uuid.NAMESPACE_OID, f"{correlation_id}/{place}")): task
            for place, task in enumerate(tasks)
            if isinstance(task, Signature)
        }
        new = iter(sent)
        ids = [next(new) if isinstance(task, Signature) else str(task.id) for task in tasks]
        names = (str(each.task) if isinstance(each, Signature) else f"result {each.id}" for each in tasks)
        name = ",".join(f"{name}*{len(list(some))}" for name, some in groupby(names))
        self._go_on()
        if self.history.has(number):
            for task_id in sent:  # children of an earlier run are children of this task
                self._task.add_trail(self._task.app.AsyncResult(task_id))
        else:
            self._patiently(lambda: _send(sent, correlation_id))
        watched = sorted(set(ids) - sent.keys())
        continued = self.wait(WAIT, name, correlation_id, ids, timeout, watched)
        outcomes = [self.backend.outcome_of(continued.answers[each]) for each in ids if each in continued.answers]
        for outcome in outcomes:
            if isinstance(outcome, BaseException):
                raise outcome
        if continued.outcome == TIMED_OUT:
            raise SuspensionTimedOut(f"{len(outcomes)} of {len(ids)} tasks have ended within {timeout:g} s")
        return outcomes

    def _go_on(self) -> None:
        """Ends a run that is suspended and goes on: its function has caught the exception that ends it."""
        if self.suspended is not None:
            raise self.suspended

    # -- giving the slot up --------------------------------------------------------------------------------------------

    def _suspend(
        self,
        asks: tuple[str, str],
        correlation_id: str,
        expected: Any,
        timeout: float | None,
        watched: Sequence[str],
    ) -> Suspended:
        """Gives the slot up. Returns the exception that ends the run."""
        number = self.history.position
        deadline = None if timeout is None else now() + min(timeout, FOR_EVER)
        state = None
        if not (self._task.ignore_result if self._request.ignore_result is None else self._request.ignore_result):
            told = {"correlation_id": correlation_id, "callbacks": expected}
            told |= {"got": []} if asks[0] == SUSPENSION else {}
            state = self.backend.suspended(self.task_id, told, request=self._request, due=deadline)
        offset = self._write_pages(
            asks,
            message=self._patiently(self._message).as_json(),
            state=None if state is None else state.encode().decode(),
        )
        if state is not None:
            self.backend.tell_suspended(state)
        created = self._created
        self._surely(
            lambda: self.backend.suspend(
                correlation_id,
                self.task_id,
                created=created or 0.0,
                number=number,
                page=offset,
                expected=expected,
                deadline=deadline,
                watched=watched,
                tells=asks[0] == SUSPENSION and state is not None,
            )
        )
        self.suspended = Suspended(f"waits for {correlation_id}", correlation_id, deadline)
        return self.suspended

    def _message(self) -> KeptMessage:
        """The message with which the task will continue."""
        request = self._request
        headers = {**(request.headers or {}), CONTINUATIONS: (getattr(request, CONTINUATIONS, None) or 0) + 1}
        headers.pop(CONTINUED, None)  # who continues the task says where its history is
        signature = self._task.signature_from_request(
            request, retries=request.retries, headers=headers, expires=None, countdown=None, eta=None
        )
        with captured() as records:
            signature.apply_async()
        [found] = [record for record in records if dict(record.headers).get("retry-of")]
        return KeptMessage(found.topic, found.value, found.key, found.headers, found.partition)

    def header(self) -> dict[str, Any] | None:
        """The header with which a retry of the task finds its history; None if there is none yet."""
        if self.history.is_empty:
            return None
        return self.history.handed_on(self._write_pages())._asdict()

    def _write_pages(self, asks: tuple[str, str] | None = None, **suspension: Any) -> int:
        """Writes all entries that are in no full page. Returns the offset of the last page."""
        for page in self.history.full_pages():
            key, offset = self._append(None, page.encode())
            self.history.wrote(page, offset, key)
        return self._append(None, self.history.last_page(asks, **suspension).encode())[1]

    def _append(self, number: int | None, value: bytes) -> tuple[str, int]:
        key = f"{self.task_id}/{uuid.uuid4().hex if number is None else f'{number}/{self._nonce}'}"
        offset = self._surely(lambda: self._steps.append(self.task_id, key, value))
        return key, offset

    def _surely(self, write: Callable[[], T]) -> T:
        found: list[T] = []
        self.backend.surely(lambda: found.append(write()), self.task_id, in_worker=True)
        return found[0]

    def _patiently(self, ask: Callable[[], T]) -> T:
        """The answer to a question that is asked again and again while Kafka does not answer: an outage fails no task."""
        while True:
            try:
                return ask()
            except (ConnectionFailed, NotConfirmed) as error:
                logger.warning("task %s goes on as soon as Kafka answers: %s", self.task_id, error)
                time.sleep(_PAUSE)

    def erase(self) -> None:
        """Removes the records of the task, which has ended."""
        try:
            self._steps.erase(self.task_id, self.history.keys)
        except KafkaExecError:  # they cost only room
            return


def now() -> float:
    """The time, epoch seconds: that of the log if the machine's clock is wrong."""
    with clock.by_the_log(log_offset()):
        return clock.now()


def _send(tasks: Mapping[str, Any], correlation_id: str) -> None:
    """Sends tasks, by their ids, whose ends are told."""
    with confirmed():
        for task_id, task in tasks.items():
            _waited_for(task.clone(), correlation_id).apply_async(task_id=task_id)


def _waited_for(task: Any, correlation_id: str) -> Any:
    """A signature whose end is told: that of the last task of a chain, and of the body of a chord."""
    last = task
    while isinstance(last, (_chain, _chord)):
        last = last.body if isinstance(last, _chord) else last.tasks[-1]
    if isinstance(last, group):
        raise TypeError("wait_for() cannot wait for a chain that ends in a group: put a task behind the group")
    last.options["headers"] = {**(last.options.get("headers") or {}), WAITED_FOR: correlation_id}
    return task
