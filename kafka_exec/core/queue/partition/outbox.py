"""The transitions and commits of one partition: transitions go to the journal, and no commit may be ahead of them."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from kafka_exec.core.queue.checkpoints import encode_checkpoint
from kafka_exec.core.queue.ledger import Ledger
from kafka_exec.core.queue.transitions import OF_LANES, Transition

#: After so many transitions the owner writes a checkpoint: bounds the number of records that a new owner reads.
_CHECKPOINT_AFTER = 2000


class Outbox:
    """The transitions that a process tells of one partition, in groups that are numbered from 1 on.

    Args:
        incarnation: the incarnation of this process; empty: it keeps no journal, and tells nothing.

    Attributes:
        told: the groups to write into the journal, each in one record.
        needed: the lowest offset of the queue that a new owner needs, by the last commit that was made and is not ahead.
    """

    def __init__(self, incarnation: str) -> None:
        self.told: list[tuple[Transition, ...]] = []
        self.needed = 0
        self._incarnation = incarnation
        # The number of the last group of transitions, and of the last one of lanes, which no commit holds.
        self._number = self._last_of_lanes = 0
        self._since_checkpoint = 0
        self._commit: tuple[int, tuple[int, str], int] | None = None
        self._kept: list[Transition] | None = None

    def tell(self, *transitions: Transition) -> int:
        """Tells transitions of one task, all or none. Returns their number."""
        if not self._incarnation:
            return 0
        self._number += 1
        self._since_checkpoint += len(transitions)
        self.told.append(transitions)
        if transitions[-1].kind in OF_LANES:  # the transition of a lane comes behind the end that has caused it
            self._last_of_lanes = self._number
        if self._kept is not None:
            self._kept += transitions
        return self._number

    @property
    def number(self) -> int:
        """The number of the transitions that were told last."""
        return self._number

    def keep(self, under_way: Iterable[Transition] = ()) -> None:
        """Keeps the transitions that are told from now on, and those before that are still under way."""
        self._kept = [*under_way]

    def kept(self) -> list[Transition]:
        """The transitions that were told since :meth:`keep`; no more are kept."""
        found, self._kept = self._kept or [], None
        return found

    def commit(self, ledger: Ledger, is_durable: Callable[[int], bool]) -> tuple[int, str] | None:
        """The offset to commit, and its metadata; None while the journal lacks what the commit needs.

        A commit that had to wait is made as it was, although more has ended since: else it might have to wait for ever.

        Args:
            is_durable: returns True if all groups up to a number are durable.
        """
        self._commit = self._commit or (self._last_of_lanes, ledger.commit(), ledger.needed)
        number, commit, needed = self._commit
        if not is_durable(number):
            return None
        self._commit, self.needed = None, needed
        return commit

    @property
    def has_commit(self) -> bool:
        """True if the next commit is made, and waits for the journal."""
        return self._commit is not None

    def forget_commit(self) -> None:
        """Drops the next commit: the new owner makes its own."""
        self._commit = None

    @property
    def is_checkpoint_due(self) -> bool:
        """True if the owner is to write a checkpoint."""
        return self._since_checkpoint >= _CHECKPOINT_AFTER

    def checkpoint(self, ledger: Ledger, folded: int) -> list[bytes]:
        """The values of the records that together are a checkpoint, to be written now. ``folded``: see :class:`Ledger`."""
        self._since_checkpoint = 0
        return encode_checkpoint(ledger, self._incarnation, folded)
