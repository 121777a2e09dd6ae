"""Transactions of the driver of a log: the outputs of its records, and its position in the log, all or nothing."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import Generic, Protocol, TypeVar

from kafka_exec.kafka.cluster.cluster import Cluster
from kafka_exec.kafka.publish.scopes import Outgoing
from kafka_exec.kafka.publish.transactions import Lost, Refused, Transactor


class Step(Protocol):
    """The outputs of one record of the log."""

    @property
    def outgoing(self) -> Sequence[Outgoing]:
        """The records that are to be written for it, beside the driver's own."""


S = TypeVar("S", bound=Step)

#: Of so few steps the driver's own records are written first. More may take longer to make than a transaction may be open.
_FEW = 8


class TransactionalBatch(Generic[S]):
    """The steps that are being written. For one thread at a time.

    A step with a record that can never be written is replaced by another one, which has the same place in the log. So one
    bad record holds up neither the log nor the steps around it.

    Args:
        own: the driver's topics. If they do not take a record, the driver cannot go on.
        tell: makes the driver's own records of steps: their changes, and the driver's position in the log.
        replace: makes the step that stands in for one that was refused. After a few times it must have nothing outgoing.
        make: makes the outgoing records of a step, if that takes long: Kafka registers the transaction meanwhile.
    """

    def __init__(
        self,
        cluster: Cluster,
        transactor: Transactor,
        own: Collection[str],
        tell: Callable[[Sequence[S]], Sequence[Outgoing]],
        replace: Callable[[S, Refused], S],
        make: Callable[[S], None] = lambda step: None,
    ) -> None:
        self._cluster = cluster
        self._transactor = transactor
        self._own = own
        self._tell = tell
        self._replace = replace
        self._make = make
        self._steps: Sequence[S] = ()
        # The topics that were found since the last batch was written.
        self._found: set[str] = set()

    def has_found(self, topic: str) -> bool:
        """Looks for a topic, once for each batch. A transaction would wait for a missing one until its timeout."""
        if topic not in self._found and self._cluster.topics.partitions(topic, fresh=True) is None:
            return False
        self._found.add(topic)
        return True

    def begin(self, steps: Sequence[S]) -> None:
        """Begins to write steps; :meth:`settle` must follow."""
        self._steps = steps
        is_first = len(steps) <= _FEW
        if is_first:
            self._transactor.begin(self._tell(steps))
        for step in steps:
            self._make(step)
        if not is_first:
            self._transactor.begin(self._tell(steps))
        self._transactor.add(_outgoing(steps))

    def settle(self) -> S | None:
        """Waits until the steps that were begun are written. Returns the last of them; None if none was begun.

        Raises:
            Lost: it is not known if they are written; the driver must begin anew from the log.
        """
        steps, self._steps = self._steps, ()
        if steps:
            self._commit(steps)
        self._found.clear()
        return steps[-1] if steps else None

    def _write(self, steps: Sequence[S]) -> None:
        self._transactor.begin([*self._tell(steps), *_outgoing(steps)])
        self._commit(steps)

    def _commit(self, steps: Sequence[S]) -> None:
        try:
            self._transactor.commit()
        except Refused as refused:
            if refused.concerns(*self._own) and not refused.is_too_large:
                raise Lost(str(refused)) from None
            doomed = [len(steps) == 1 or refused.closes(*(record.topic for record in step.outgoing)) for step in steps]
            if any(doomed):
                self._write([self._replace(s, refused) if bad else s for s, bad in zip(steps, doomed, strict=True)])
            else:
                # The broker refuses all records of a request for one of them. Smaller requests show which one it is.
                middle = len(steps) // 2
                self._write(steps[:middle])
                self._write(steps[middle:])


def _outgoing(steps: Sequence[Step]) -> list[Outgoing]:
    return [record for step in steps for record in step.outgoing]
