"""The health of the nodes of this machine, by the files that they write: ``python -m kafka_exec.health`` is a probe.

A node writes its file with each heartbeat: when its reader of Kafka last made a turn, and when it last read one of its own
heartbeats back. A node whose reader makes no turns is dead: restart it. One that does not read its heartbeats is not ready:
Kafka is away, or does not answer it, and a restart would not help.

A probe runs every few seconds, so this module imports little of Python's library, and nothing else.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from enum import Enum
from typing import NamedTuple

#: The environment variable of the setting that names the files.
VARIABLE = "KAFKA_EXEC_HEALTH_FILE"

#: A node is dead, or not ready, after so many seconds without a sign.
MAX_AGE = 10.0


class NodeHealth(Enum):
    """The health of a node, or of several ones."""

    READY = "ready"
    #: It lives and does not hear from Kafka.
    NOT_READY = "not ready"
    DEAD = "dead"
    #: There is no file: it has not begun, or has stopped in order.
    ABSENT = "absent"


class Signs(NamedTuple):
    """The signs of life of a node. Times are seconds of the machine's monotonic clock.

    Attributes:
        turned: when its reader of Kafka made a turn.
        heard: when it read one of its own heartbeats back; None: it has read none yet.
    """

    name: str
    pid: int
    turned: float
    heard: float | None


def judge(
    signs: Sequence[Signs], exists: Callable[[int], bool], *, now: float, max_age: float = MAX_AGE
) -> tuple[NodeHealth, str]:
    """The health of the worst of some nodes, and the reason as a sentence.

    A file whose process has ended does not count beside others: a node that was killed may have had another name.

    Args:
        exists: returns True for the id of a process that has not ended.
        now: seconds of the monotonic clock.
    """
    if not signs:
        return NodeHealth.ABSENT, "no node has begun"
    if not (present := [each for each in signs if exists(each.pid)]):
        return NodeHealth.DEAD, f"the process of {signs[-1].name} has ended"
    found = [_judge(each, now, max_age) for each in present]
    worst = (NodeHealth.DEAD, NodeHealth.NOT_READY, NodeHealth.READY)
    return min(found, key=lambda each: worst.index(each[0]))


def _judge(signs: Signs, now: float, max_age: float) -> tuple[NodeHealth, str]:
    if now - signs.turned >= max_age:
        return NodeHealth.DEAD, f"{signs.name} has stood still for {now - signs.turned:.1f} s"
    if signs.heard is None or now - signs.heard >= max_age:
        since = "yet" if signs.heard is None else f"for {now - signs.heard:.1f} s"
        return NodeHealth.NOT_READY, f"{signs.name} has not heard from Kafka {since}"
    return NodeHealth.READY, f"{signs.name} is ready"


# -- files -------------------------------------------------------------------------------------------------------------


def file_of(path: str, kind: str, name: str) -> str:
    """The file of a node: each of a machine has one of its own, though all have the same settings."""
    return f"{path}.{kind}.{name.replace('/', '_')}"


def write(file: str, signs: Signs) -> None:
    """Writes a node's file, as a whole.

    Raises:
        OSError: it could not be written.
    """
    with open(f"{file}~", "w", encoding="utf-8") as made:
        json.dump(signs._asdict(), made)
    os.replace(f"{file}~", file)


def remove(file: str) -> None:
    """Removes the file of a node that stops in order."""
    with suppress(OSError):
        os.remove(file)


def read(path: str, kind: str = "", name: str = "") -> list[Signs]:
    """The signs of the nodes of a machine, of those of one kind, or of one node; the latest last.

    Raises:
        OSError: there is no such folder.
    """
    folder, base = os.path.split(path)
    begin, only = f"{base}.{kind}." if kind else f"{base}.", file_of(base, kind, name)
    found = []
    for each in os.listdir(folder or "."):
        if each.startswith(begin) and not each.endswith("~") and (not name or each == only):
            with suppress(OSError, ValueError, TypeError), open(os.path.join(folder, each), encoding="utf-8") as file:
                found.append(Signs(**json.load(file)))
    return sorted(found, key=lambda each: each.turned)


def exists(pid: int) -> bool:
    """True if a process has not ended."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True


# -- the probe ---------------------------------------------------------------------------------------------------------


def main(arguments: Sequence[str] | None = None) -> int:
    """The probe. Returns its exit status: 0 well, 1 not, 2 wrong usage."""
    parser = argparse.ArgumentParser(
        prog="python -m kafka_exec.health", description="Tell by its file if a worker, or another node, is alive."
    )
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--worker", metavar="NAME", nargs="?", const="", help="only the worker of this name, or workers")
    which.add_argument("--beat", metavar="NAME", nargs="?", const="", help="only the beat of this name, or beats")
    parser.add_argument("--ready", action="store_true", help="also tell if it hears from Kafka")
    parser.add_argument(
        "--max-age", metavar="SECONDS", type=float, default=MAX_AGE, help="without a sign (%(default)g)"
    )
    parser.add_argument("--file", default=os.environ.get(VARIABLE), help=f"by default that of {VARIABLE}")
    given = parser.parse_args(arguments)
    if not given.file:
        parser.error(f"name the file with --file or {VARIABLE}, as for the node")
    chosen = {kind: name for kind, name in (("worker", given.worker), ("beat", given.beat)) if name is not None}
    kind, name = next(iter(chosen.items()), ("", ""))
    try:
        signs = read(given.file, kind, name)
    except OSError as error:
        parser.error(str(error))
    health, reason = judge(signs, exists, now=time.monotonic(), max_age=given.max_age)
    print(f"{health.value}: {reason}")
    return int(health is not NodeHealth.READY) if given.ready else int(health is NodeHealth.DEAD)


if __name__ == "__main__":
    sys.exit(main())
