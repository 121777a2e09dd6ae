"""A partition of one process in a unit test: what it has told and handed out, and what it keeps."""

from __future__ import annotations

from kafka_exec.core.message.envelope import Message, encode, ticket_of
from kafka_exec.core.nodes.liveness import membership
from kafka_exec.core.queue.ledger import Ledger
from kafka_exec.core.queue.partition.machine import Partition
from kafka_exec.core.queue.partition.records import Now
from kafka_exec.core.queue.progress import Progress
from kafka_exec.core.queue.transitions import Transition
from kafka_exec.core.queue.transitions import encode as encode_transitions

SESSION = 60.0
PERIOD = 1.0


class Play:
    """A partition of one process, with all that it has told and handed out."""

    def __init__(self, ledger: Ledger | None = None, incarnation: str = "me", *, owned: bool = True) -> None:
        self.time = 100.0
        self.hears = True
        self.membership = membership(SESSION)
        self.membership.open(self.time)
        self.core: Partition[bytes] = Partition(
            ledger or Ledger("q", Progress(0)),
            incarnation,
            membership=self.membership,
            remember=60.0,
            period=PERIOD,
            hears=lambda: self.hears,
            now=self.now,
        )
        self.told: list[Transition] = []
        self.out: list[int] = []
        self.headers: dict[int, dict[str, object]] = {}
        if not owned:
            self.core.lose(self.now)
        self.effects()

    @property
    def now(self) -> Now:
        return Now(self.time, 1000.0 + self.time)

    def effects(self) -> list[int]:
        if (ready := self.core.ready()) is None:
            return []
        self.told += [each for group in ready.told for each in group]
        out = [int(record) for record in ready.hand_out]
        self.out += out
        return out

    def ticket(self, offset: int, **headers: object) -> object:
        message = Message(
            b"", "application/json", "utf-8", {"task": "t", "id": f"t{offset}", "retries": 0, **headers}, {}
        )
        return ticket_of(encode(message), b"", "q.a", 3, restarted=self.core.attempts(offset) > 0)

    def read(self, offset: int, **headers: object) -> bool:
        self.headers[offset] = headers
        self.core.read(offset, self.ticket(offset, **headers), b"%d" % offset, self.now)
        return offset in self.effects()

    def found(self) -> list[int]:
        """Reads the wanted records again. Returns what is handed out."""
        for offset in sorted(self.core.wanted):
            self.core.found(offset, self.ticket(offset, **self.headers.get(offset, {})), b"%d" % offset, self.now)
        return self.effects()

    def begin(self, offset: int) -> bool:
        begun = self.core.begin(offset, self.core.term, self.now)
        self.effects()
        return begun

    def run(self, offset: int) -> bool:
        assert self.begin(offset)
        return self.core.confirm(offset, self.core.term, self.now)

    def end(self, offset: int) -> list[int]:
        self.core.end(offset, self.now)
        return self.effects()

    def hear(self, *transitions: Transition, by: str = "other") -> list[int]:
        assert self.core.hear(encode_transitions(by, "q", transitions), self.now)
        return self.effects()

    def kinds(self) -> list[tuple[str, int]]:
        """The transitions that were told since the last call: kind and offset."""
        told, self.told = self.told, []
        return [(each.kind, each.offset) for each in told]

    def states(self, *offsets: int) -> list[str]:
        return [self.core.state(offset).name for offset in offsets]

    def is_empty(self) -> bool:
        """True if no container has anything of any task."""
        core = self.core
        kept = [core._states, core.running, core.awaited, core.grants, core.contested, core.kept._records, core.wanted]
        lanes = [core.lanes._tickets, core.lanes._queues, core.lanes._retries]
        begins = [core.begins._reserved, core.begins._to_await, core.trust._told]
        ledger = [core.ledger.leases, core.ledger.attempts, core.ledger.parked]
        return not any([*kept, *lanes, *begins, *ledger]) and core.outstanding == 0


def guest(at: float | None = None, **headers: object) -> Play:
    """A process to which another owner has granted task 0."""
    play = Play(owned=False)
    accept(play, play.now.log if at is None else at, **headers)
    return play


def accept(play: Play, at: float, *, offset: int = 0, **headers: object) -> None:
    ticket = play.ticket(offset, **headers)
    play.core.accept(offset, ticket, b"%d" % offset, attempts=0, at=at, now=play.now)
    play.effects()
