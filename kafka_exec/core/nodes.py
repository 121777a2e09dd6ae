"""Heartbeats of nodes, and whether another living one has the name that a starting node wants."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from enum import Enum, auto

#: A node is lost after this many periods without a heartbeat.
LOST_AFTER = 3


@dataclass(frozen=True)
class Heartbeat:
    """A sign of life.

    Attributes:
        boot: the incarnation: another one with every start of the process.
        place: where ``pid`` means something: the host and its process namespace.
        left: the node says goodbye.
    """

    boot: str
    place: str
    pid: int
    left: bool = False

    def encode(self) -> bytes:
        """The record's value."""
        return json.dumps(asdict(self)).encode()

    @classmethod
    def decode(cls, value: bytes | None) -> Heartbeat | None:
        """The heartbeat of a record; None for one of another format, which says nothing about the name."""
        try:
            found = json.loads(value or b"null")
            return cls(str(found["boot"]), str(found["place"]), int(found["pid"]), bool(found["left"]))
        except (ValueError, TypeError, KeyError):
            return None


class Name(Enum):
    """Whether a node may have its name."""

    FREE = auto()
    TAKEN = auto()
    UNSURE = auto()


def judge(mine: Heartbeat, seen: list[Heartbeat], *, new: int, others_process_lives: bool | None, waited: bool) -> Name:
    """Whether another living node has the name.

    Args:
        mine: this node's heartbeat.
        seen: the heartbeats under the name, the oldest first, of the last few periods and since.
        new: how many of them came while this node was watching.
        others_process_lives: whether the last other one's process exists; None: it runs elsewhere, so nobody knows.
        waited: whether a living node would have sent another heartbeat by now.
    """
    others = [beat for beat in seen if beat.boot != mine.boot]
    if not others or others[-1].left or others_process_lives is False:
        return Name.FREE
    last = others[-1].boot
    if any(beat.boot == last for beat in seen[len(seen) - new :]):
        return Name.TAKEN
    return Name.FREE if waited else Name.UNSURE
