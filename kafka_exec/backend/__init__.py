"""The result back end ``kafka-exec://``: states on a compacted topic, pushed to the processes that wait for them."""

from __future__ import annotations

import logging
import os
import sys
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

from celery import states
from celery._state import get_current_worker_task
from celery.backends.asynchronous import AsyncBackendMixin
from celery.result import result_from_tuple
from kombu.utils.encoding import bytes_to_str

from kafka_exec.backend import raised
from kafka_exec.backend.cache.copies import Cache
from kafka_exec.backend.codec import Codec
from kafka_exec.backend.consumer import ResultConsumer
from kafka_exec.backend.control.chords import Chords
from kafka_exec.backend.control.suspensions import Suspensions
from kafka_exec.backend.housekeeping import clean_up
from kafka_exec.backend.ids import TextIds
from kafka_exec.backend.pauses import Pauses
from kafka_exec.backend.records import GROUP_PREFIX, as_another_told, children_of, due_of, meta_of, note_of, record_of
from kafka_exec.backend.starts import Starts
from kafka_exec.core.cluster.topology import TopicSpec, notes_topic, state_topic
from kafka_exec.core.control.reducers import Effect
from kafka_exec.core.results.lifecycle import TERMINAL, State, may_follow, of_celery, record_key, record_keys, to_celery
from kafka_exec.core.results.smaller import Shorten, smaller
from kafka_exec.core.results.state_record import ABSENT, Note, Remark, StateRecord
from kafka_exec.errors import (
    ConnectionFailed,
    KafkaExecError,
    MessageTooLarge,
    NotConfirmed,
    ResultTooLarge,
    Undecodable,
)
from kafka_exec.kafka.client.failures import within
from kafka_exec.kafka.control.partition import Performer
from kafka_exec.kafka.publish.partitioner import partition_of
from kafka_exec.kafka.publish.scopes import capture, confirmed
from kafka_exec.kafka.results.notes import append, read
from kafka_exec.kafka.results.states import StateReader
from kafka_exec.kafka.results.states import states as state_reader
from kafka_exec.settings.appconf import has_our_broker, result_home
from kafka_exec.settings.options import cache_url
from kafka_exec.signals import transition

logger = logging.getLogger("kafka_exec")

#: A worker tries a broker that did not answer again after this time, seconds.
_PAUSE = 0.5


class KafkaBackend(Suspensions, TextIds, AsyncBackendMixin, Codec):  # type: ignore[misc]
    """The back end by which Celery keeps results in Kafka. Thread-safe, one for a process. It connects when first used."""

    ResultConsumer = ResultConsumer

    supports_native_join = True
    supports_result_compression = True
    compression: str | None = None  # Celery before 5.7 compresses no results

    def __init__(self, app: Any, url: str | None = None, **kwargs: Any) -> None:
        super().__init__(app, url=url, **kwargs)
        self.thread_safe = True
        self._home: tuple[int, Any] | None = None
        self._reader: tuple[Any, StateReader] | None = None
        self._copies: tuple[Any, Cache | None] | None = None
        self._started: dict[str, float] = {}
        self._starts = Starts(self._publish_state)
        self.pauses = Pauses()
        self._chords = Chords(self)
        self.result_consumer = self.ResultConsumer(
            self, app, self.accept, self._pending_results, self._pending_messages
        )

    @property
    def space(self) -> Any:
        """The cluster, topic names and settings that this process uses.

        Raises:
            ConnectionFailed: no broker answers.
        """
        if self._home is None or self._home[0] != os.getpid():
            self._home = (os.getpid(), result_home(self.app, self.url))
        return self._home[1]

    @property
    def _topic(self) -> Any:
        return state_topic(self.space.settings, self.space.topics)

    @property
    def reader(self) -> StateReader:
        """This back end's reader of the state records."""
        space = self.space
        if self._reader is None or self._reader[0] is not space:
            self._reader = (space, state_reader(space.cluster, self._topic))
        return self._reader[1]

    @property
    def cache(self) -> Cache | None:
        """The cache of results; None if the app has no cache.

        Raises:
            ConfigurationError: the cache's URL is wrong, or its client library is not installed.
        """
        space = self.space
        if self._copies is None or self._copies[0] is not space:
            url = cache_url(self.app.conf, also_brokers=has_our_broker(self.app.conf))
            self._copies = (space, None if url is None else Cache(url, space.cluster, self._topic.name))
        return self._copies[1]

    # -- writing -------------------------------------------------------------------------------------------------------

    def _store_result(
        self, task_id: str, result: Any, state: str, traceback: Any = None, request: Any = None, **kwargs: Any
    ) -> Any:
        now = time.time()
        self._starts.drop(task_id)
        if state == states.STARTED:
            self._started[task_id] = now
        runs_on = of_celery(state) is State.RUNNING
        exception = raised.facts(result) if state in self.EXCEPTION_STATES else None
        record = self._record(
            task_id,
            state,
            self.serialized(result, exception),
            now=now,
            started=self._started.get(task_id) if runs_on else self._started.pop(task_id, None),
            due=due_of(sys.exc_info()[1], now) if state == states.RETRY else None,
            traceback=traceback,
            exception=exception,
            request=request,
        )
        in_worker = request is not None
        if state == states.STARTED and in_worker:
            self.surely(lambda: self.pauses.watch(self.space.settings.heartbeat), task_id, in_worker=True)
            self._starts.add(record)
            return result
        if runs_on and not in_worker and (found := self._find(task_id)) is not None:
            record = as_another_told(found, record)
        if (note := note_of(record, now)) is not None:
            self._note(note, in_worker=in_worker)
        try:
            shorten = None if exception is None else partial(self.shortened, result)
            self._write(record, in_worker=in_worker, shorten=shorten)
        except MessageTooLarge as error:
            raise ResultTooLarge(
                f"the result of task {task_id} is too large to be stored: return less, compress it "
                f"(result_compression), or raise max.message.bytes of client and topic: {error}"
            ) from None
        return result

    def _record(self, task_id: str, state: str, result: Any, *, request: Any, **facts: Any) -> StateRecord:
        children = children_of(self.current_task_children, request)
        extended = bool(self.app.conf.find_value_for_key("extended", "result"))
        return record_of(task_id, state, result, request=request, children=children, extended=extended, **facts)

    def _note(self, note: Note, *, in_worker: bool) -> None:
        try:
            self.surely(lambda: append(self.space.cluster, self.notes, note), note.id, in_worker=in_worker)
        except MessageTooLarge as error:  # the state record has the error too, cut if it must be
            logger.warning("an error of task %s is not noted: %s", note.id, error)

    def _comes_too_late(self, record: StateRecord) -> bool:
        """True if another worker has ended the task while this process was stopped: then its end here changes nothing."""
        if record.state not in TERMINAL or record.started is None or not self.pauses.since(record.started):
            return False
        try:
            found = self.reader.find(record.id)
        except Undecodable:
            return False
        if found is None or may_follow(record.state, found.state):
            return False
        logger.warning(
            "task %s has ended elsewhere as %s (%s) while this process was stopped: its end as %s here changes nothing",
            record.id,
            found.state.value,
            found.worker,
            record.state.value,
        )
        return True

    def _write(self, record: StateRecord, *, in_worker: bool, shorten: Shorten | None = None) -> None:
        """Writes a state record; durably if it is the task's end.

        Raises:
            MessageTooLarge: the result is too large.
        """

        def write() -> None:
            if not (in_worker and self._comes_too_late(record)):
                self._publish_state(record, shorten)

        self.surely(write, record.id, in_worker=in_worker)

    def surely(self, write: Callable[[], None], task_id: str, *, in_worker: bool) -> None:
        """Calls ``write``; in a worker again and again until it succeeds: a task is not over before its state is stored.

        Raises:
            MessageTooLarge: the record to write is too large.
            KafkaExecError: the record is not written, and this is not a worker.
        """
        while True:
            try:
                write()
                return
            except MessageTooLarge:
                raise
            except KafkaExecError as error:
                if not in_worker:
                    raise
                logger.warning("the state of task %s is not stored yet, trying until it is: %s", task_id, error)
                time.sleep(_PAUSE)

    def tell_waiting(
        self, request: Any, state: State, *, position: int | None = None, due: float | None = None
    ) -> None:
        """Writes the state of a task that waits; it does not wait for the broker if another state will follow soon.

        Args:
            position: the number of tasks of its ordering key that are before it.
            due: the time at which the task is to begin, epoch seconds.

        Raises:
            ConnectionFailed, Forbidden: the topic of the states cannot be found.
        """
        record = record_of(request.id, to_celery(state), ABSENT, now=time.time(), request=request, due=due)
        if state is State.SCHEDULED:
            record = replace(record, previous=None, attempts=None)  # the task's first state, before any run
        self._publish_state(replace(record, state=state, position=position))

    def _publish_state(self, record: StateRecord, shorten: Shorten | None = None) -> None:
        """Publishes a state record as it is, or without the parts for which it is too large for its topic.

        Raises:
            MessageTooLarge: the record is too large even if only its result is left.
        """
        before = None if record.previous is None else record.previous.value
        now = {"task_id": record.id, "previous": before, "state": record.state.value, "status": record.status}
        transition.send(sender=record.name, **now)
        key, largest = record_key(record.id, record.state), self.space.cluster.largest
        for each in smaller(record, shorten):
            value = each.encode()
            refused = MessageTooLarge(f"a state of {len(value)} bytes")
            if capture() is not None and len(value) > largest:
                continue  # in a transaction the broker's refusal would not be raised here
            try:
                return self._publish([(key, value)], record)
            except MessageTooLarge as error:
                refused = error
        raise refused

    def _publish(self, records: Iterable[tuple[str, bytes | None]], of: StateRecord) -> None:
        cluster, topic = self.space.cluster, self._topic
        cluster.topics.ensure(topic)
        partition = partition_of(of.id, cluster.topics.partitions(topic.name) or topic.partitions)
        # The publisher need not wait for a state that another one will follow.
        is_followed = of.state in (State.RUNNING, State.WRONG_NODE, State.GROUP)
        publish = cluster.publisher.post if is_followed else cluster.publisher.send
        for key, value in records:
            publish(topic.name, value, key=key, partition=partition)

    def _forget(self, task_id: str) -> None:
        """Writes tombstones for a task's records, and removes its copy from the cache."""
        if self.cache is not None:
            self.cache.forget(task_id)
        with confirmed():
            self._publish([(key, None) for key in record_keys(task_id)], StateRecord(task_id, State.DONE, ""))
        self.result_consumer.cancel_for(task_id)

    def cleanup(self) -> None:
        """Forgets tasks that ended over ``result_expires`` ago, and fails lost ones. Beat has it called once a day."""
        clean_up(self)

    # -- notes ---------------------------------------------------------------------------------------------------------

    @property
    def notes(self) -> TopicSpec:
        """The topic of tasks' errors and remarks."""
        return notes_topic(self.space.settings, self.space.topics)

    def remark(self, task_id: str, text: str, by: str) -> Remark:
        """Adds a remark by an author (``by``) to a task, durably; the task's state stays as it is.

        Raises:
            NotConfirmed, MessageTooLarge, ConnectionFailed: the remark is not written.
        """
        remark = Remark(time.time(), by, uuid.uuid4().hex, text)
        append(self.space.cluster, self.notes, Note(task_id, remark=remark))
        return remark

    def history(self, task_id: str) -> StateRecord | None:
        """A task's state, with the errors of all its attempts and all remarks; None if the task has no state.

        Raises:
            ConnectionFailed: the cluster does not answer.
            Undecodable: the task's record was not written by kafka_exec.
        """
        found = self.reader.find(task_id)
        return found and found.with_notes(read(self.space.cluster, self.notes, task_id))

    # -- reading -------------------------------------------------------------------------------------------------------

    def has_expired(self, record: StateRecord) -> bool:
        """True if a task ended longer than ``result_expires`` ago."""
        return bool(
            self.expires
            and record.state in TERMINAL
            and record.finished is not None
            and record.finished + self.expires < time.time()
        )

    def _find(self, task_id: str) -> StateRecord | None:
        known, record = self.result_consumer.known(task_id)
        if not known:
            record = (self.cache and self.cache.find(task_id)) or self.reader.find(task_id)
        return None if record is None or self.has_expired(record) else record

    def meta_of(self, record: StateRecord) -> dict[str, Any]:
        """Celery's meta-data of a state record."""
        decoded: dict[str, Any] = self.meta_from_decoded(meta_of(record, self.deserialized(record.result)))
        return decoded

    def _get_task_meta_for(self, task_id: str) -> dict[str, Any]:
        record = self._find(bytes_to_str(task_id))
        if record is None:
            return {"task_id": task_id, "status": states.PENDING, "result": None}
        return self.meta_of(record)

    def get_many(
        self, task_ids: Iterable[str], on_message: Callable[[Any], None] | None = None, **kwargs: Any
    ) -> Iterator[tuple[str, dict[str, Any]]]:
        """The meta-data of those tasks among these that have ended, by id."""
        for task_id in task_ids:
            meta = self.get_task_meta(task_id)
            if meta["status"] in self.READY_STATES:
                if on_message is not None:
                    on_message(meta)
                yield task_id, meta

    def on_task_call(self, producer: Any, task_id: str) -> dict[str, Any]:
        """Watches for a task's result from before it is sent; except in a running task, which must not wait for results."""
        if get_current_worker_task() is None and capture() is None:
            with within(self.space.settings.publish_timeout):
                self.result_consumer.note_sent(task_id)
        return {}

    def exception_safe_to_retry(self, exc: Exception) -> bool:
        return isinstance(exc, (NotConfirmed, ConnectionFailed))

    # -- groups --------------------------------------------------------------------------------------------------------

    def _save_group(self, group_id: str, result: Any) -> Any:
        stored = self.serialized(result.as_tuple())
        record = StateRecord(GROUP_PREFIX + group_id, State.DONE, states.SUCCESS, finished=time.time(), result=stored)
        self._write(record, in_worker=False)
        return result

    def _restore_group(self, group_id: str) -> dict[str, Any] | None:
        record = self._find(GROUP_PREFIX + group_id)
        if record is None:
            return None
        return {"result": result_from_tuple(self.deserialized(record.result), self.app)}

    def _delete_group(self, group_id: str) -> None:
        self._forget(GROUP_PREFIX + group_id)

    # -- chords --------------------------------------------------------------------------------------------------------

    def performers(self) -> Mapping[type[Effect], Performer]:
        """The functions by which the control plane carries out its decisions, by type of decision."""
        return {**self._chords.performers(), **self.performers_of_suspensions()}

    def ensure_chords_allowed(self) -> None:
        self._chords.check()

    def apply_chord(self, header_result_args: Any, body: Any, **kwargs: Any) -> None:
        """Begins a chord; the control plane counts its parts."""
        self._chords.apply(header_result_args, body)

    def set_chord_size(self, group_id: str, chord_size: int) -> None:
        self._chords.set_size(group_id, chord_size)

    def add_to_chord(self, chord_id: str, result: Any) -> None:
        self._chords.add(chord_id, result)

    def on_chord_part_return(self, request: Any, state: str, result: Any, **kwargs: Any) -> None:
        self._chords.part(request, state, result)

    def __reduce__(self, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None) -> Any:
        return super().__reduce__(args, {**(kwargs or {}), "url": self.url, "expires": self.expires})
