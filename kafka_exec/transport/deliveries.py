"""The deliveries of one channel to its consumers in turns, within the prefetch count, until they are acknowledged."""

from __future__ import annotations

import itertools
import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

from confluent_kafka import Message as Record
from kombu.transport import base

from kafka_exec.core.message import envelope, window
from kafka_exec.core.message.dead import REPLAYED_FROM
from kafka_exec.core.queue.lanes import Run, Ticket, after_failure, after_retry
from kafka_exec.core.queue.partition.begins import Begun
from kafka_exec.errors import KafkaExecError, Undecodable
from kafka_exec.kafka.client.loop import run_once
from kafka_exec.kafka.client.oddities import pass_over
from kafka_exec.transport.sources import Item, Source, SubscriptionSource
from kafka_exec.transport.values import from_json

logger = logging.getLogger("kafka_exec")


#: A dead letter's headers hold no more characters of an error.
_LONGEST_REASON = 2000

#: How long it may take until it is known that a delivered message may run, seconds, if its run begins with the delivery.
_CONFIRMED = 0.5

#: A dead letter that Kafka does not take is written again after this time, seconds.
_BURY_AGAIN = 1.0


class ChannelConsumer(NamedTuple):
    """A consumer: it is given the messages of a source."""

    tag: str
    source: Source
    no_ack: bool
    callback: Callable[[base.Message], Any]


@dataclass
class Delivered:
    """A message that was delivered, until it is acknowledged.

    Attributes:
        error, reason: the error for which it will be rejected, as a text and as one word.
    """

    source: Source
    item: Item
    error: str = ""
    reason: str = "rejected"


class Deliveries:
    """The deliveries of a channel. Ending and putting back are thread-safe.

    Args:
        channel: the channel that the messages name as theirs.
        wake: has :meth:`deliver` called soon.
        on_fault: called with a message whose consumer's callback has raised an error, and with the error. True: it has
            handled the error. False: the error is raised to the caller that drains.
    """

    def __init__(
        self, channel: base.StdChannel, wake: Callable[[], None], on_fault: Callable[[base.Message, Exception], bool]
    ) -> None:
        self.prefetch_count = 0
        #: True: the consumer calls :meth:`begin` when a message's run begins. False: the run begins with the delivery.
        self.deferred = False
        self.on_settled: Callable[[int], None] = lambda delivery_tag: None
        self._channel = channel
        self._wake = wake
        self._on_fault = on_fault
        self._consumers: dict[str, ChannelConsumer] = {}
        self._unacked: dict[int, Delivered] = {}
        # The dead letters that could not be written yet: they are written again later.
        self._unburied: list[tuple[Source, Item, str, str]] = []
        self._delivery_tags = itertools.count(1)
        self._rotation = 0
        self._held_back = False
        self._flowing = True
        # Several threads may drain one connection; the messages must reach the callback in order.
        self._delivering = threading.RLock()

    # -- consumers -----------------------------------------------------------------------------------------------------

    def add(self, tag: str, source: Source, no_ack: bool, callback: Callable[[base.Message], Any]) -> None:
        """Adds a consumer."""
        self._consumers[tag] = ChannelConsumer(tag, source, no_ack, callback)
        self._wake()

    def remove(self, tag: str) -> Source | None:
        """Removes a consumer; returns its source, None if there is no such consumer."""
        consumer = self._consumers.pop(tag, None)
        return None if consumer is None else consumer.source

    def tags(self) -> list[str]:
        """The tags of all consumers."""
        return list(self._consumers)

    def consumes(self, source: Source) -> bool:
        """True if a consumer reads this source."""
        return any(consumer.source is source for consumer in list(self._consumers.values()))

    def limit(self, prefetch_count: int) -> None:
        """Bounds the unacknowledged messages; 0: no bound."""
        self.prefetch_count = prefetch_count
        if self._held_back:
            self._wake()

    def flow(self, active: bool) -> None:
        """Stops or resumes deliveries."""
        self._flowing = active
        self._wake()

    # -- delivering ----------------------------------------------------------------------------------------------------

    def deliver(self, most: int | None = None, *, one_broadcast: bool = False) -> int:
        """Gives waiting messages to the consumers, in turns, as far as the prefetch count allows.

        Args:
            most: the greatest number of messages; None: no bound.
            one_broadcast: stop after a subscription's message.

        Returns:
            The number of messages that were delivered.
        """
        if not self._consumers or not self._flowing or not self._delivering.acquire(blocking=False):
            return 0
        delivered = 0
        try:
            self._held_back = False
            while most is None or delivered < most:
                if window.is_full(self.prefetch_count, len(self._unacked)):
                    self._held_back = True
                    break
                source = self._deliver_next()
                if source is None:
                    break
                delivered += 1
                if one_broadcast and isinstance(source, SubscriptionSource):
                    break
        finally:
            self._delivering.release()
        return delivered

    def _deliver_next(self) -> Source | None:
        """Delivers one message; returns the source that it came from, None if there was no message."""
        consumers = list(self._consumers.values())
        for turn in range(len(consumers)):
            consumer = consumers[(self._rotation + turn) % len(consumers)]
            message = self.take(consumer.source, consumer.tag, no_ack=consumer.no_ack)
            if message is not None:
                self._rotation += turn + 1
                try:
                    consumer.callback(message)
                except Exception as error:
                    if not self._on_fault(message, error):
                        raise
                return consumer.source
        return None

    def take(self, source: Source, tag: str = "", *, no_ack: bool) -> base.Message | None:
        """Takes the next message of a source; None if it has no message now."""
        while (item := source.take()) is not None:
            message = self._open(item, source, tag, no_ack)
            if message is not None:
                return message
        return None

    def _open(self, item: Item, source: Source, tag: str, no_ack: bool) -> base.Message | None:
        """The message of an item; None if it has expired or its record is no message: then it is not delivered."""
        record = item.record
        try:
            found = envelope.decode(record.headers(), record.value(), from_json)
        except Undecodable as error:
            self._bury(source, item, error.reason, str(error))
            return None
        except Exception as error:
            self._bury(source, item, "unreadable", repr(error))
            return None
        if (source.ttl is not None or "expiration" in found.properties) and envelope.expired(
            found, record.timestamp()[1] / 1000, source.ttl, time.time()
        ):
            source.end(item)
            return None
        if not self.deferred and not (item.begin() and item.confirm(_CONFIRMED)):
            return None
        delivery_tag = next(self._delivery_tags)
        if no_ack:
            source.end(item)
        else:
            self._unacked[delivery_tag] = Delivered(source, item)
        return base.Message(
            body=found.body,
            delivery_tag=delivery_tag,
            content_type=found.content_type,
            content_encoding=found.content_encoding,
            delivery_info={
                "exchange": found.exchange,
                "routing_key": found.routing_key,
                "redelivered": item.redelivered,
                "consumer_tag": tag,
                "priority": found.properties.get("priority"),
                "partition": record.partition(),
                "offset": record.offset(),
            },
            properties=found.properties,
            headers=_located(found, record) if found.task else found.headers,
            channel=self._channel,
        )

    def _bury(self, source: Source, item: Item, reason: str, error: str) -> None:
        record = item.record
        if isinstance(source, SubscriptionSource):
            # A broadcast message gets no dead letter: no task is lost with it.
            pass_over(record, Undecodable(reason, error))
            return
        logger.error(
            "record %s of partition %s of %s goes to the dead letters: %s",
            record.offset(),
            record.partition(),
            record.topic(),
            error,
        )
        self._unburied.append((source, item, reason, error))
        self._bury_all()

    def _bury_all(self) -> None:
        """Writes the dead letters that are due. A refused one is written later; its record is not ended, so not lost."""
        unburied, self._unburied = self._unburied, []
        for source, item, reason, error in unburied:
            try:
                source.bury(item, reason, error[:_LONGEST_REASON])
            except KafkaExecError as failure:
                logger.error("the dead letter could not be written yet: %s", failure)
                self._unburied.append((source, item, reason, error))
        if self._unburied:
            run_once("bury", self._bury_all, after=_BURY_AGAIN, cooperative=True)

    # -- beginnings, where they are deferred ---------------------------------------------------------------------------

    def attempts(self, delivery_tag: int) -> int:
        """The number of times that a message's run was begun before."""
        found = self._unacked.get(delivery_tag)
        return 0 if found is None else found.item.attempts

    def error(self, delivery_tag: int) -> str:
        """The error by which a message's last run was lost; empty if that was not a run of this process."""
        found = self._unacked.get(delivery_tag)
        return "" if found is None else found.item.error

    def begin(self, delivery_tag: int) -> bool:
        """Begins a message's run. False: the run must not begin, because another consumer has the message by now."""
        found = self._unacked.get(delivery_tag)
        if found is not None and found.item.begin():
            return True
        self._settle(delivery_tag, False)
        self._refill()
        return False

    def confirm(self, delivery_tag: int, timeout: float, *, surely: bool = False) -> Begun | None:
        """Waits until a message's run that was begun may start. Returns None if it must not start here.

        Args:
            surely: the begin must be durable whichever task it is.

        Raises:
            NotConfirmed: that is not known within ``timeout`` seconds.
        """
        found = self._unacked.get(delivery_tag)
        if found is not None and (begun := found.item.confirm(timeout, surely=surely)) is not None:
            return begun
        self._settle(delivery_tag, False)
        self._refill()
        return None

    def will_retry(self, delivery_tag: int) -> None:
        """Notes that a task was sent anew, or will be: when its message is acknowledged, its lane waits for the new one."""
        self._will_end(delivery_tag, after_retry)

    def will_fail(self, delivery_tag: int) -> None:
        """Notes that a message's task has failed: when the message is acknowledged, its lane stops."""
        self._will_end(delivery_tag, after_failure)

    def _will_end(self, delivery_tag: int, awaits: Callable[[Ticket], Run]) -> None:
        found = self._unacked.get(delivery_tag)
        if found is not None and found.item.work is not None:
            found.item.work.will_end(found.item.record.offset(), awaits)

    def because(self, delivery_tag: int, error: str, reason: str = "rejected") -> None:
        """Notes the error for which a message will be rejected: its dead letter says it, at once or after more lost runs.

        Args:
            error: the error as a text.
            reason: the dead letter's reason, one word.
        """
        if (found := self._unacked.get(delivery_tag)) is not None:
            found.error, found.reason = error[:_LONGEST_REASON], reason

    def withdraw(self, delivery_tag: int) -> tuple[Source, Item] | None:
        """Takes a message that has not begun out of the deliveries: the caller puts it back, gives it away or buries it."""
        settled = self._settle(delivery_tag, False)
        self._refill()
        return (settled[0].source, settled[0].item) if settled else None

    def put_back_if_paused(self, delivery_tag: int) -> bool:
        """Puts a message back that has not begun, if its queue or its ordering key is paused. Returns True if it is."""
        found = self._unacked.get(delivery_tag)
        if found is None or not found.source.is_paused(found.item.record):
            return False
        for each in self._settle(delivery_tag, False):
            each.source.put_back(each.item)
        self._refill()
        return True

    def bury(self, delivery_tag: int, reason: str, error: str) -> None:
        """Writes a message to the dead letters, and ends it.

        Raises:
            NotConfirmed, MessageTooLarge, ConnectionFailed: the dead letter could not be written; the message is not ended.
        """
        for found in self._settle(delivery_tag, False):
            try:
                found.source.bury(found.item, reason, error)
            except KafkaExecError:
                self._unacked[delivery_tag] = found
                raise
        self._refill()

    # -- ends ----------------------------------------------------------------------------------------------------------

    def acknowledge(self, delivery_tag: int, multiple: bool = False) -> None:
        """Ends a message; with ``multiple``, also all messages before it."""
        for found in self._settle(delivery_tag, multiple):
            found.source.end(found.item)
        self._refill()

    def reject(self, delivery_tag: int, requeue: bool) -> None:
        """Has a message delivered again, before later ones (``requeue``), or makes it a dead letter."""
        if not requeue:
            if (rejected := self._unacked.get(delivery_tag)) is not None:
                self.bury(delivery_tag, rejected.reason, rejected.error or "the consumer rejected it")
            return
        for found in self._settle(delivery_tag, False):
            found.source.put_back(found.item._replace(error=found.error))
            self._wake()
        self._refill()

    def put_back(self) -> None:
        """Puts all unacknowledged messages back: they are delivered again."""
        for found in self._settle(max(self._unacked, default=0), True):
            found.source.put_back(found.item)
        self._wake()

    def _settle(self, delivery_tag: int, multiple: bool) -> list[Delivered]:
        tags = [tag for tag in sorted(self._unacked) if tag <= delivery_tag] if multiple else [delivery_tag]
        settled = [found for tag in tags if (found := self._unacked.pop(tag, None)) is not None]
        for tag in tags:
            self.on_settled(tag)
        return settled

    def _refill(self) -> None:
        if self._held_back and window.refill_due(self.prefetch_count, len(self._unacked)):
            self._wake()


def _located(message: envelope.Message, record: Record) -> dict[str, Any]:
    """A task's headers, with its record's place, time and content type: only headers reach the task's request."""
    place = {
        "content_type": message.content_type,
        "topic": record.topic(),
        "partition": record.partition(),
        "offset": record.offset(),
        "timestamp": record.timestamp()[1] / 1000,
    }
    if REPLAYED_FROM in dict(record.headers() or ()):
        place["is_replay"] = True
    return {**message.headers, envelope.RECORD_HEADER: place}
