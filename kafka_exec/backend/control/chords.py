"""Chords between Celery and the control plane: Celery's calls become commands, the control plane's decisions messages."""

from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, Protocol

from celery._state import pop_current_task, push_current_task
from celery.canvas import maybe_signature
from celery.exceptions import ChordError, ImproperlyConfigured
from celery.result import GroupResult, result_from_tuple
from celery.utils.functional import _regen
from kombu.exceptions import EncodeError
from kombu.serialization import prepare_accept_content, registry
from kombu.utils.uuid import uuid

from kafka_exec.backend import serial
from kafka_exec.core.cluster.topology import control_topic
from kafka_exec.core.control.chord import FailChord, Fire, Part
from kafka_exec.core.control.reducers import Command, Effect
from kafka_exec.core.message.envelope import RECORD_HEADER, trace_context
from kafka_exec.core.record.fields import id_text
from kafka_exec.core.record.plain import plain, shown
from kafka_exec.errors import MessageTooLarge, ResultTooLarge
from kafka_exec.kafka.publish.scopes import Outgoing, captured
from kafka_exec.settings.appconf import has_our_broker

logger = logging.getLogger("kafka_exec")

#: So many chords that have begun may wait for their size, which Celery tells next, in the same process.
_MOST_BEGUN = 1000

#: The body's option that names the chord's run: Celery hands on the body with each part, and nothing else of the chord.
_RUN = "kafka_exec_run"


def within_none(headers: Mapping[str, Any]) -> AbstractContextManager[None]:
    """The context of a message without a tracer."""
    return nullcontext()


#: Makes the context in which a chord's body is sent, of the headers that a part has given it. A tracer puts its own here.
within: Callable[[Mapping[str, Any]], AbstractContextManager[None]] = within_none


class ChordsBackend(Protocol):
    """The part of a result back end that its chords need."""

    app: Any
    EXCEPTION_STATES: frozenset[str]

    @property
    def space(self) -> Any:
        """The cluster, topic names and settings."""

    def surely(self, write: Callable[[], None], task_id: str, *, in_worker: bool) -> None:
        """Calls ``write``; in a worker again and again until it succeeds."""

    # -- values as they are stored -------------------------------------------------------------------------------------

    def payloads(self, state: str, result: Any) -> Iterator[str]: ...

    def deserialized(self, payload: Any) -> Any: ...

    def exception_to_python(self, value: Any) -> Any: ...

    # -- of Celery's back ends -----------------------------------------------------------------------------------------

    def as_uri(self) -> str: ...

    def chord_error_from_stack(self, callback: Any, exc: Any) -> Any: ...

    def mark_as_failure(self, task_id: str, exc: Exception) -> Any: ...


class Chords:
    """The chords of one back end."""

    def __init__(self, backend: ChordsBackend) -> None:
        self._backend = backend
        # By group id: the run, and the header's structure if it is more than a list of tasks.
        self._begun: OrderedDict[str, tuple[str, str | None]] = OrderedDict()
        self._checked: Any = None

    # -- from Celery to the control plane ------------------------------------------------------------------------------

    def check(self) -> None:
        """Refuses chords if the control plane cannot publish their bodies in its transactions.

        Raises:
            ImproperlyConfigured: broker and back end are of different clusters or prefixes, or their settings differ.
        """
        app, space = self._backend.app, self._backend.space
        if self._checked is space:
            return
        if has_our_broker(app.conf):
            with app.connection_for_write() as connection:
                home = getattr(connection.connect(), "space", None)
            if home is space:
                self._checked = space
                return
        raise ImproperlyConfigured(
            "chords and durable tasks need broker and result back end in the same Kafka cluster, with the same prefix and "
            "the same settings (what stands in the query of one URL stands in the other's too): "
            f"the broker is {app.connection_for_write().as_uri()}, the back end {self._backend.as_uri()}"
        )

    def apply(self, header_result_args: Any, body: Any) -> None:
        """Begins a chord's run. A chord that was frozen may be applied again, with the same ids of its group and tasks."""
        self.check()
        group_id, results = header_result_args[0], header_result_args[1]
        header = None
        if not isinstance(results, _regen) and any(isinstance(result, GroupResult) for result in results):
            header = serial.as_text(plain([result.as_tuple() for result in results]))
        body.options[_RUN] = run = uuid()
        self._begun[group_id] = (run, header)
        while len(self._begun) > _MOST_BEGUN:
            self._begun.popitem(last=False)

    def set_size(self, group_id: str, size: int) -> None:
        """Tells the control plane the number of a chord's parts."""
        run, header = self._begun.pop(group_id, None) or (uuid(), None)
        self._command("chord.size", group_id, size=size, header=header, body=None, run=run)

    def add(self, group_id: str, result: Any) -> None:
        """Tells the control plane that a task was added to a chord's header."""
        self._command("chord.more", group_id, task=id_text(result.id))

    def part(self, request: Any, state: str, result: Any) -> None:
        """Tells the control plane that a task of a header has ended; the task's message is acknowledged only after this."""
        if not request.group or not request.id or not request.chord:
            return
        try:
            body = self._body_of(request)
            for payload in self._backend.payloads(state, result):
                try:
                    return self._return(request, state, payload, body)
                except MessageTooLarge as error:
                    too_large = error
        except EncodeError as error:
            if state not in self._backend.EXCEPTION_STATES:
                raise
            return self._fail_body(request, error)
        if state in self._backend.EXCEPTION_STATES:
            return self._fail_body(request, too_large)
        raise ResultTooLarge(f"task {request.id} returns too much for its chord: return less ({too_large})") from None

    def _return(self, request: Any, state: str, payload: str, body: str) -> None:
        def send() -> None:
            self._command(
                "chord.part",
                request.group,
                task=request.id,
                index=getattr(request, "group_index", None),
                ok=state not in self._backend.EXCEPTION_STATES,
                payload=payload,
                body=body,
                run=_options(request.chord).get(_RUN),
            )

        self._backend.surely(send, request.id, in_worker=True)

    def _body_of(self, request: Any) -> str:
        """A chord's body, serialized like the part's message, and in the part's trace.

        Its root is added if it had none when it was frozen.
        """
        options = _options(request.chord)
        root_id = options.get("root_id") or request.root_id
        headers = {**trace_context(request.get), **(options.get("headers") or {})}
        body = {
            **request.chord,
            "options": {**options, "root_id": root_id, **({"headers": headers} if headers else {})},
        }
        place = getattr(request, RECORD_HEADER, None)
        content_type = place.get("content_type") if isinstance(place, Mapping) else None
        serializer = registry.type_to_name.get(content_type) or self._backend.app.conf.task_serializer
        return serial.as_text(serial.encoded(body, serializer), str(options.get("task_id") or ""))

    def _fail_body(self, request: Any, error: Exception) -> None:
        """Fails a chord whose body cannot be sent to the control plane; each part whose body cannot be sent does so."""
        logger.error("chord %s fails, its body cannot be kept: %s", request.group, error)
        self._fail(maybe_signature(request.chord, app=self._backend.app), f"its body cannot be kept: {error}")

    def _fail(self, callback: Any, reason: str) -> None:
        try:
            raise ChordError(reason)  # Celery needs an exception that was raised
        except ChordError as error:
            self._backend.chord_error_from_stack(callback, error)

    def _command(self, kind: str, group_id: str, **body: Any) -> None:
        space, group_id = self._backend.space, id_text(group_id)
        topic = control_topic(space.settings, space.topics)
        space.cluster.topics.ensure(topic)
        space.cluster.publisher.send(topic.name, Command(kind, {"group": group_id, **body}).encode(), key=group_id)

    # -- decisions of the control plane --------------------------------------------------------------------------------

    def performers(self) -> Mapping[type[Effect], Any]:
        """The functions that make the records of the control plane's decisions about chords, by type of decision."""
        return {Fire: self.fire, FailChord: self.fail}

    def fire(self, effect: Fire) -> Sequence[Outgoing]:
        """The messages of a chord's body; if a part has failed, the messages of its errbacks."""
        callback = self._callback(effect.body)
        with captured() as records, self._as_its_last_task(effect, callback):
            try:
                results = self._results(effect)
            except ChordError as error:
                logger.warning("chord %s fails: %s", effect.group, error)
                self._backend.chord_error_from_stack(callback, error)
            else:
                callback.delay(results)
        return records

    def fail(self, effect: FailChord) -> Sequence[Outgoing]:
        """The records by which a chord fails whose body cannot be sent."""
        logger.error("chord %s fails: %s", effect.group, effect.reason)
        try:
            callback = self._callback(effect.body)
        except Exception as error:
            return self._fail_unread(effect, error)
        with captured() as records, self._as_its_last_task(effect, callback):
            self._fail(callback, f"Callback error: {effect.reason}")
        return records

    def _fail_unread(self, effect: FailChord, error: Exception) -> Sequence[Outgoing]:
        """Fails the task of a body that cannot be read here. Its errbacks are not called: only the body names them."""
        logger.error("the body of chord %s cannot be read: %s", effect.group, error)
        task_id = serial.name_of(effect.body) if isinstance(effect.body, str) else ""
        with captured() as records:
            if task_id:
                self._backend.mark_as_failure(task_id, ChordError(f"Callback error: {effect.reason}"))
        return records

    @contextmanager
    def _as_its_last_task(self, effect: Fire | FailChord, callback: Any) -> Iterator[None]:
        """Makes a task of the header the parent of the messages that are sent in the block, as in Celery."""
        task = self._backend.app.tasks["celery.accumulate"]  # any task would do: Celery looks only at its request
        parent = effect.parts[-1].task if effect.parts else None
        root = callback.options.get("root_id")
        task.push_request(id=parent, root_id=root, children=[], delivery_info={}, called_directly=False)
        push_current_task(task)
        try:
            with within(callback.options.get("headers") or {}):
                yield
        finally:
            pop_current_task()
            task.pop_request()

    def _callback(self, body: str) -> Any:
        conf = self._backend.app.conf
        found = serial.decoded(serial.of_text(body), prepare_accept_content(conf.accept_content))
        callback = maybe_signature(found, app=self._backend.app)
        callback.options.pop(_RUN, None)
        return callback

    def _results(self, effect: Fire) -> list[Any]:
        values = {part.task: part for part in effect.parts}
        if effect.header is None:
            return [self._value(part) for part in effect.parts]
        header = [result_from_tuple(each, self._backend.app) for each in serial.of_text(effect.header)]
        return list(self._nested(header, values))

    def _nested(self, header: Sequence[Any], parts: Mapping[str, Part]) -> Iterator[Any]:
        for result in header:
            if isinstance(result, GroupResult):
                yield list(self._nested(result.results, parts))
            elif result.id in parts:
                yield self._value(parts[result.id])
            else:
                raise ChordError(f"task {result.id} of the header has returned no part")

    def _value(self, part: Part) -> Any:
        value = self._backend.deserialized(serial.of_text(part.payload))
        if part.ok:
            return value
        error = self._backend.exception_to_python(value)
        raise ChordError(f"Dependency {part.task} raised {shown(error)}") from (
            error if isinstance(error, BaseException) else None
        )


def _options(signature: Any) -> Any:
    found = signature.get("options") if isinstance(signature, Mapping) else None
    return found if isinstance(found, Mapping) else {}
