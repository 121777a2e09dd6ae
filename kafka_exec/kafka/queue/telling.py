"""The transitions and commits of one partition: transitions go to the journal, and no commit may be ahead of them."""

from __future__ import annotations

from kafka_exec.core.queue.ledger import OF_LANES, Ledger, Transition
from kafka_exec.kafka.queue.journal import Journal

#: After so many transitions the owner writes a checkpoint: bounds the number of records that a new owner reads.
_CHECKPOINT_AFTER = 2000


class Telling:
    """Writes one partition's transitions into the journal, and makes its commits. Not thread-safe.

    Args:
        journal: None: there is none, and ends are only committed.
    """

    def __init__(self, partition: int, journal: Journal | None) -> None:
        self._partition = partition
        self._journal = journal
        self._since_checkpoint = 0
        # The number of the last transitions of lanes, which no commit holds.
        self._last_of_lanes = 0
        self._next_mark: tuple[int, tuple[int, str]] | None = None
        self._kept: list[Transition] | None = None

    def tell(self, *transitions: Transition) -> int:
        """Writes transitions of one task into the journal, all or none. Returns the number that the journal gives them."""
        if self._journal is None:
            return 0
        self._since_checkpoint += len(transitions)
        number = self._journal.tell(self._partition, *transitions)
        if transitions[-1].kind in OF_LANES:  # the transition of a lane comes behind the end that has caused it
            self._last_of_lanes = number
        if self._kept is not None:
            self._kept += transitions
        return number

    def keep(self) -> None:
        """Keeps the transitions that are told from now on."""
        self._kept = []

    def kept(self) -> list[Transition]:
        """The transitions that were told since :meth:`keep`; no more are kept."""
        found, self._kept = self._kept or [], None
        return found

    def mark(self, ledger: Ledger) -> tuple[int, str] | None:
        """The offset to commit, and its metadata; None while earlier transitions of lanes are not durable."""
        if self._next_mark is None:
            self._next_mark = self._last_of_lanes, (ledger.progress.low, ledger.progress.metadata())
        needed, mark = self._next_mark
        if self._journal is not None and not self._journal.is_durable(self._partition, needed):
            return None
        self._next_mark = None
        return mark

    @property
    def has_mark(self) -> bool:
        """True if the next commit is made, and waits for the journal."""
        return self._next_mark is not None

    def forget_mark(self) -> None:
        """Drops the next commit: the new owner makes its own."""
        self._next_mark = None

    def check_in(self, ledger: Ledger) -> None:
        """Writes a checkpoint, if it is due. The next commit names its offset, at which a new owner then begins to read."""
        if self._journal is None or self._since_checkpoint < _CHECKPOINT_AFTER:
            return
        self._since_checkpoint = 0
        progress = ledger.progress

        def checked_in(offset: int) -> None:
            """Called in the producer's thread."""
            progress.checkpoint = max(progress.checkpoint, offset)

        self._journal.checkpoint(self._partition, ledger.checkpoint(), checked_in)
