"""One partition of the control plane: a transaction writes a step's changes, its effects (a chord's body) and position."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from confluent_kafka import KafkaException
from confluent_kafka import Message as Record

from kafka_exec.core.cluster.topology import TopicSpec
from kafka_exec.core.control.reducers import Change, Command, Effect, Output, Reducers
from kafka_exec.core.record.fields import digits
from kafka_exec.core.record.plain import said
from kafka_exec.errors import ChannelFailed, ConnectionFailed, KafkaExecError, NotConfirmed, Undecodable
from kafka_exec.kafka.client.oddities import pass_over
from kafka_exec.kafka.cluster.cluster import Cluster
from kafka_exec.kafka.control.transactional_batch import TransactionalBatch
from kafka_exec.kafka.publish.scopes import Outgoing
from kafka_exec.kafka.publish.transactions import Lost, Refused, Transactor
from kafka_exec.kafka.queue.letters import letter_of, rest_of

logger = logging.getLogger("kafka_exec")

#: The most commands of one transaction.
MOST = 500

#: How long changes without an effect may wait, seconds: they can be made again from the commands.
_DELAY = 0.2

#: For so long a topic that was there is not looked for again, seconds. If it is deleted meanwhile, the next transaction may
#: fail for it after its timeout; the partition is taken over anew then.
_THERE = 10.0

#: Keys of the changelog that no reducer has: the next command to take, and the owner.
POSITION = "position"
_OWNER = "owner"

#: Makes the records by which an effect is performed.
Performer = Callable[[Effect], Sequence[Outgoing]]


class ControlTopics(NamedTuple):
    """The topics of commands, of their dead letters, and of the changelog, with as many partitions as the commands."""

    commands: TopicSpec
    changelog: TopicSpec
    dead: TopicSpec


@dataclass
class _Step:
    """The outputs of one command, or of the timers before it.

    Attributes:
        position: the next offset after the step.
        news: the records that are published when the outputs are written.
        letter: the dead letter that the record has become, if it cannot be taken as a command.
    """

    record: Record
    command: Command | None
    now: float
    position: int
    changes: dict[str, Change] = field(default_factory=dict)
    effects: list[Effect] = field(default_factory=list)
    outgoing: list[Outgoing] = field(default_factory=list)
    news: list[Outgoing] = field(default_factory=list)
    letter: Outgoing | None = None

    def set(self, outputs: Iterable[Output]) -> None:
        outputs = list(outputs)
        self.changes = {output.key: output for output in outputs if isinstance(output, Change)}
        self.effects = [output for output in outputs if isinstance(output, Effect)]
        self.news = []


class ControlPartition:
    """A partition that this process drives. Except for :meth:`fence` it is for one thread.

    Attributes:
        position: the next offset to take of the commands.
        now: the log time of the newest command taken, epoch seconds.
        done: the commands below this offset are needed no more: their outputs are written.
        restored: True if the state is complete, so that commands can be taken.
        taken: the number of commands that were taken.
        passed_over: the number of those that became dead letters.
    """

    def __init__(
        self,
        cluster: Cluster,
        topics: ControlTopics,
        number: int,
        transactional_id: str,
        owner: str,
        reducers: Reducers,
        performers: Mapping[type[Effect], Performer],
    ) -> None:
        self.number = number
        self.position = 0
        self.done = 0
        self.now = 0.0
        self.restored = False
        self.taken = 0
        self.passed_over = 0
        self._cluster = cluster
        self._topics = topics
        self._owner = owner
        self._reducers = reducers
        self._performers = performers
        self._transactor = Transactor(cluster, transactional_id)
        self._batch = TransactionalBatch(
            cluster, self._transactor, [topics.changelog.name], self._changes, self._replace, self._perform
        )
        # The topics that were there, and when they were looked for.
        self._found: dict[str, float] = {}
        self._end = -1
        self._steps: list[_Step] = []
        self._written: list[_Step] = []
        self._waiting_since = 0.0

    @property
    def next_timer(self) -> float | None:
        """The log time at which a timer is due without a command, epoch seconds."""
        return self._reducers.next_timer

    def fence(self) -> None:
        """Makes this process the only one that can change the partition; then its state must be restored.

        The new owner writes a record of its own behind all records that the former one has committed. It marks the end of
        the changelog: when the new owner has read it, it has read all.

        Raises:
            Lost: it has not succeeded.
        """
        self._transactor.open()
        try:
            self._transactor.begin([self._change(Change(_OWNER, self._owner.encode()))])
            self._end = self._transactor.commit()
        except Refused as refused:
            raise Lost(str(refused)) from None

    def restore(self, record: Record) -> None:
        """Takes over a record of the changelog, which is read from its beginning."""
        try:
            key, value = (record.key() or b"").decode(), record.value()
            if key == POSITION:
                self.position = self.done = digits(value)
            elif key != _OWNER:
                self._reducers.restore(key, value)
        except Exception as error:
            pass_over(record, error)
        if record.offset() >= self._end and not self.restored:
            self._check_position()
            self.restored = True

    def _check_position(self) -> None:
        """Has all commands read anew if the former owner's position is beyond their end, where no command will be soon."""
        topic = self._topics.commands.name
        end = self._cluster.log.ends(topic, [self.number])[self.number]
        if self.position > end:
            logger.warning("%s[%d] ends at %d, not at %d: it is read anew", topic, self.number, end, self.position)
            self.position = self.done = 0

    def take(self, records: Iterable[Record]) -> None:
        """Takes commands, in the order of their offsets."""
        if not self._steps:
            self._waiting_since = time.monotonic()
        for record in records:
            if record.offset() < self.position:
                continue
            self.now = max(self.now, record.timestamp()[1] / 1000)
            try:
                due = self._reducers.due(self.now)
            except Exception as error:  # the timers fail, but the commands go on
                pass_over(record, error)
                due = []
            if due:
                self._add(_Step(record, None, self.now, record.offset()), due)
            self._add_command(record)
            self.position = record.offset() + 1
            self.taken += 1

    def _add_command(self, record: Record) -> None:
        step = _Step(record, None, self.now, record.offset() + 1)
        try:
            step.command = Command.decode(record.value())
            outputs = self._reducers.take(step.command, self.now)
        except Undecodable as error:
            self._bury(step, error.reason, str(error))
        except Exception as error:
            self._bury(step, "failed", repr(error))
        else:
            return self._add(step, outputs)
        self._add(step, ())

    def _add(self, step: _Step, outputs: Iterable[Output]) -> None:
        step.set(outputs)
        if (refused := self._refusal(step.changes.values())) is not None:
            # At once: the commands behind it would be folded upon a change that is never stored.
            self._refuse(step, refused)
        self._steps.append(step)

    def _refusal(self, changes: Iterable[Change]) -> Refused | None:
        """The refusal of changes of which one is too large for the client."""
        try:
            for change in changes:
                self._cluster.check_size(change.value, change.key)
        except KafkaException as error:
            return Refused([(self._topics.changelog.name, error.args[0])])
        return None

    def _perform(self, step: _Step) -> None:
        """Makes the records of a step's effects. An effect that fails is replaced by the effects that it names for that."""
        waiting, step.effects = step.effects, []
        while waiting:
            effect = waiting.pop(0)
            try:
                records = self._performers[type(effect)](effect)
                if effect.is_news:
                    step.news += records
                    continue
                for topic in {record.topic for record in records}:
                    if not self._is_there(topic):
                        raise ChannelFailed(f"topic {topic} does not exist")
                step.outgoing += records
                step.effects.append(effect)
            except Exception as error:
                if isinstance(error, _TRANSIENT) or isinstance(error.__cause__, _TRANSIENT):
                    raise Lost(str(error)) from error
                reason = said(error)
                logger.warning(f"{type(effect).__name__} of the control plane cannot be done: {reason}")
                waiting = [*effect.failed(reason), *waiting]

    def _is_there(self, topic: str) -> bool:
        now = time.monotonic()
        if now - self._found.get(topic, float("-inf")) < _THERE:
            return True
        self._found.pop(topic, None)
        if self._batch.has_found(topic):
            self._found[topic] = now
        return topic in self._found

    def _bury(self, step: _Step, reason: str, error: str) -> None:
        self.passed_over += 1
        record = step.record
        where = f"{record.topic()}[{record.partition()}] at {record.offset()}"
        logger.error(f"a command of the control plane is passed over: {error} ({where})")
        self._cluster.topics.ensure(self._topics.dead)
        step.letter = letter_of(record, self._topics.dead.name, reason=reason, error=error)
        step.outgoing.append(step.letter)

    @property
    def number_of_steps(self) -> int:
        """The number of commands whose outputs are to be written."""
        return len(self._steps)

    def begin(self, *, at_once: bool = False) -> None:
        """Begins to write the outputs of the commands, if it is time; :meth:`settle` must follow."""
        if self._steps and (
            at_once
            or len(self._steps) >= MOST
            or time.monotonic() - self._waiting_since >= _DELAY
            or any(step.effects or step.letter for step in self._steps)
        ):
            self._written, self._steps = self._steps, []
            self._batch.begin(self._written)

    def settle(self) -> None:
        """Waits until the outputs that were begun are written.

        Raises:
            Lost: the partition must be taken over anew, by the owner that it has then.
        """
        if (last := self._batch.settle()) is not None:
            self.done = last.position
            self._tell()

    def _tell(self) -> None:
        """Publishes the news of the steps that were written, without waiting."""
        written, self._written = self._written, []
        for record in (record for step in written for record in step.news):
            try:
                self._cluster.publisher.post(
                    record.topic, record.value, key=record.key, headers=record.headers, partition=record.partition
                )
            except KafkaExecError as error:
                logger.warning("what the control plane has decided is not told: %s", error)

    def _changes(self, steps: Sequence[_Step]) -> list[Outgoing]:
        changes: dict[str, Change] = {}
        for key, change in ((key, change) for step in steps for key, change in step.changes.items()):
            changes.pop(key, None)  # items are restored in the order of their last changes
            changes[key] = change
        changes[POSITION] = Change(POSITION, str(steps[-1].position).encode())
        return [self._change(change) for change in changes.values()]

    def _replace(self, step: _Step, refused: Refused) -> _Step:
        """Replaces the outputs of a step that Kafka has refused by those that follow from the refusal."""
        self._refuse(step, refused)
        self._perform(step)
        return step

    def _refuse(self, step: _Step, refused: Refused) -> None:
        logger.warning(f"an effect of the control plane is refused: {refused}")
        rest = rest_of(step.letter) if step.letter is not None and refused.is_too_large else None
        step.letter, step.outgoing = rest, [] if rest is None else [rest]
        if refused.concerns(self._topics.changelog.name):
            command, step.command = step.command, None
            instead = () if command is None else self._reducers.refused(command, step.effects, str(refused), step.now)
            step.set(instead)
        else:
            step.effects = [instead for effect in step.effects for instead in effect.failed(str(refused))]

    def _change(self, change: Change) -> Outgoing:
        return Outgoing(self._topics.changelog.name, change.value, change.key, partition=self.number)

    def close(self) -> None:
        """Lets the partition go; the new owner makes the outputs that are not written again from the commands."""
        self._steps = []
        self._transactor.close()


_TRANSIENT = (ConnectionFailed, NotConfirmed)
