"""Chords towards the control plane: what Celery tells becomes commands, and what the control plane decides is done here."""

from __future__ import annotations

import base64
import logging
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from celery._state import pop_current_task, push_current_task
from celery.backends.base import _create_chord_error_with_cause
from celery.canvas import maybe_signature
from celery.exceptions import ChordError, ImproperlyConfigured
from celery.result import GroupResult, result_from_tuple
from celery.utils.functional import _regen
from kombu.utils.uuid import uuid

from kafka_exec.appconf import has_our_broker
from kafka_exec.core.chord import FailChord, Fire, Part
from kafka_exec.core.control import Command, Effect
from kafka_exec.core.fields import id_text
from kafka_exec.core.topology import control_topic
from kafka_exec.kafka.scopes import Outgoing, captured

if TYPE_CHECKING:
    from kafka_exec.backend import KafkaBackend

logger = logging.getLogger("kafka_exec")

#: Chords that have begun wait for the size, which Celery tells next, in the same process.
_MOST_BEGUN = 1000

#: The option of a body which names the run it belongs to: Celery hands the body on with each part, and nothing else.
_RUN = "kafka_exec_run"


class Chords:
    """The chords of one back end."""

    def __init__(self, backend: KafkaBackend) -> None:
        self._backend = backend
        # By group: the run, and the header's structure if it is more than a list of tasks.
        self._begun: OrderedDict[str, tuple[str, str | None]] = OrderedDict()

    # -- from Celery to the control plane ------------------------------------------------------------------------------

    def check(self) -> None:
        """Refuses chords where the body cannot be published in the control plane's transaction.

        Raises:
            ImproperlyConfigured: broker and back end are not of one cluster and prefix.
        """
        app = self._backend.app
        if has_our_broker(app.conf):
            with app.connection_for_write() as connection:
                home = getattr(connection.connect(), "space", None)
            if home is self._backend.space:
                return
        raise ImproperlyConfigured(
            "chords need broker and result back end in the same Kafka cluster, with the same prefix: "
            f"the broker is {app.connection_for_write().as_uri()}, the back end {self._backend.as_uri()}"
        )

    def apply(self, header_result_args: Any, body: Any) -> None:
        """Begins a run: a chord that was frozen may be applied again, with the ids of its group and of its tasks."""
        self.check()
        group_id, results = header_result_args[0], header_result_args[1]
        header = None
        if not isinstance(results, _regen) and any(isinstance(result, GroupResult) for result in results):
            header = self._dump([result.as_tuple() for result in results])
        body.options[_RUN] = run = uuid()
        self._begun[group_id] = (run, header)
        while len(self._begun) > _MOST_BEGUN:
            self._begun.popitem(last=False)

    def set_size(self, group_id: str, size: int) -> None:
        """Tells how many parts there are."""
        run, header = self._begun.pop(group_id, None) or (uuid(), None)
        self._command("chord.size", group_id, size=size, header=header, body=None, run=run)

    def add(self, group_id: str, result: Any) -> None:
        """Tells that a task was added to the header."""
        self._command("chord.more", group_id, task=id_text(result.id))

    def part(self, request: Any, state: str, result: Any) -> None:
        """Tells that a header's task has ended; its message is acknowledged after it."""
        if not request.group or not request.id or not request.chord:
            return
        backend = self._backend
        stored = backend.encode_result(result, state)
        self._command(
            "chord.part",
            request.group,
            task=request.id,
            index=getattr(request, "group_index", None),
            ok=state not in backend.EXCEPTION_STATES,
            payload=self._dump(stored),
            body=self._dump(_rooted(request)),
            run=request.chord["options"].get(_RUN),
        )

    def _command(self, kind: str, group_id: str, **body: Any) -> None:
        space, group_id = self._backend.space, id_text(group_id)
        topic = control_topic(space.settings, space.topics)
        space.cluster.topics.ensure(topic)
        space.cluster.publisher.send(topic.name, Command(kind, {"group": group_id, **body}).encode(), key=group_id)

    def _dump(self, value: Any) -> str:
        data = self._backend.encode(value)
        return data if isinstance(data, str) else "base64:" + base64.b64encode(data).decode("ascii")

    def _load(self, text: str) -> Any:
        data = base64.b64decode(text[7:]) if text.startswith("base64:") else text
        return self._backend.decode(data)

    # -- what the control plane decides --------------------------------------------------------------------------------

    def performers(self) -> Mapping[type[Effect], Any]:
        """What makes the records of the chords' effects."""
        return {Fire: self.fire, FailChord: self.fail}

    def fire(self, effect: Fire) -> Sequence[Outgoing]:
        """The messages of a chord's body; of its errbacks, if a part has failed."""
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
        """The records by which a chord fails that cannot be fired."""
        logger.error("chord %s fails: %s", effect.group, effect.reason)
        callback = self._callback(effect.body)
        with captured() as records, self._as_its_last_task(effect, callback):
            try:
                raise ChordError(f"Callback error: {effect.reason}")  # Celery needs one that was raised
            except ChordError as error:
                self._backend.chord_error_from_stack(callback, error)
        return records

    @contextmanager
    def _as_its_last_task(self, effect: Fire | FailChord, callback: Any) -> Iterator[None]:
        """What is sent here has a task of the header as its parent, as Celery has it."""
        task = self._backend.app.tasks["celery.accumulate"]  # any would do: only its request is looked at
        parent = effect.parts[-1].task if effect.parts else None
        root = callback.options.get("root_id")
        task.push_request(id=parent, root_id=root, children=[], delivery_info={}, called_directly=False)
        push_current_task(task)
        try:
            yield
        finally:
            pop_current_task()
            task.pop_request()

    def _callback(self, body: str) -> Any:
        callback = maybe_signature(self._load(body), app=self._backend.app)
        callback.options.pop(_RUN, None)
        return callback

    def _results(self, effect: Fire) -> list[Any]:
        values = {part.task: part for part in effect.parts}
        if effect.header is None:
            return [self._value(part) for part in effect.parts]
        header = [result_from_tuple(each, self._backend.app) for each in self._load(effect.header)]
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
        value = self._load(part.payload)
        if part.ok:
            return value
        error = self._backend.exception_to_python(value)
        raise _create_chord_error_with_cause(message=f"Dependency {part.task} raised {error!r}", original_exc=error)


def _rooted(request: Any) -> Any:
    """The body of a part's request, with its root if it had none of its own when it was frozen."""
    options = request.chord["options"]
    return {**request.chord, "options": {**options, "root_id": options.get("root_id") or request.root_id}}
