"""Many records that are sent once: in batches that are a transaction each, after those of earlier processes are known."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Protocol, TypeVar

from kafka_exec.errors import Forbidden, NotConfirmed, NotReplayable
from kafka_exec.kafka.client.clients import Clients
from kafka_exec.kafka.publish.scopes import Outgoing
from kafka_exec.kafka.publish.transactions import Lost, Refused, Transactor

#: The most that one transaction sends: messages, and bytes of their values.
MOST = 500
_MOST_BYTES = 4 * 1024 * 1024


class Valued(Protocol):
    """A message that is to be sent."""

    @property
    def value(self) -> bytes | None:
        """The value of its record."""


V = TypeVar("V", bound=Valued)


def publish_once(
    clients: Clients,
    transactional_id: str,
    find: Callable[[], Iterable[V]],
    make: Callable[[Sequence[V]], Sequence[Outgoing]],
    *,
    rate: float | None = None,
    on_progress: Callable[[int], None] | None = None,
) -> int:
    """Sends messages in transactions; their number. Several processes may do the same at once, and be killed.

    Args:
        find: finds what is still to be sent. It is called when this process has taken the transactional id: an earlier one
            can write no more then, and its open transaction is aborted, so that the topics tell all that was sent.
        make: makes the records of a batch, among them what tells that its messages were sent.
        rate: messages a second at most.
        on_progress: called with the number of messages sent so far, after each batch.

    Raises:
        NotReplayable: the cluster refuses a batch; those before it were sent.
        Forbidden: this user may not do that.
        NotConfirmed: the cluster does not answer, or another process has taken the transactional id. Do it again.
    """
    most = MOST if rate is None else max(1, min(MOST, int(rate)))
    began, sent = time.monotonic(), 0
    transactor = Transactor(clients, transactional_id)
    try:
        transactor.open()
        for batch in _batches(find(), most):
            if rate is not None:
                time.sleep(max(0.0, began + sent / rate - time.monotonic()))
            transactor.begin(make(batch))
            transactor.commit()
            sent += len(batch)
            if on_progress is not None:
                on_progress(sent)
    except Refused as refused:
        raise NotReplayable(f"after {sent} messages: {refused}") from None
    except Lost as lost:
        if isinstance(lost.__cause__, Forbidden):
            raise lost.__cause__ from None
        raise NotConfirmed(
            f"after {sent} messages: {lost}; what was replayed is known: the same command does the rest"
        ) from None
    finally:
        transactor.close()
    return sent


def _batches(found: Iterable[V], most: int) -> Iterator[list[V]]:
    batch: list[V] = []
    size = 0
    for each in found:
        batch.append(each)
        size += len(each.value or b"")
        if len(batch) >= most or size >= _MOST_BYTES:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch
