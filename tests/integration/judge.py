"""The judge of what tasks have really done: by the file to which their bodies append, outside of the system."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from tests.integration.workers import Effect

#: A task that ended this long before its worker was killed had told its end, seconds: generous, for a busy machine.
TOLD = 1.0


@dataclass
class Verdict:
    """What was found.

    Attributes:
        lost: tasks that never ended.
        again: tasks that began after they had ended, and had told so.
        overlaps: tasks that began while they were running, on a worker that lived on.
        restarts: how often a task began that had begun before.
    """

    lost: list[str] = field(default_factory=list)
    again: list[str] = field(default_factory=list)
    overlaps: list[str] = field(default_factory=list)
    restarts: int = 0


def judge(tasks: Iterable[str], effects: Sequence[Effect], kills: Mapping[int, float]) -> Verdict:
    """Judges what was done about some tasks.

    Args:
        tasks: their ids.
        effects: what they did, in any order.
        kills: when each killed process was killed, by its id, epoch seconds.
    """
    of_task: dict[str, list[Effect]] = defaultdict(list)
    for effect in sorted(effects, key=lambda each: each.time):
        of_task[effect.task].append(effect)
    verdict = Verdict()
    for task in tasks:
        ended: Effect | None = None
        running: dict[int, float] = {}
        for effect in of_task[task]:
            if effect.what == "end":
                running.pop(effect.pid, None)
                ended = ended or effect
                continue
            if ended is not None and kills.get(ended.pid, effect.time) - ended.time > TOLD:
                verdict.again.append(task)
            if any(kills.get(pid, float("inf")) > effect.time for pid in running):
                verdict.overlaps.append(task)
            verdict.restarts += bool(running) or ended is not None
            running[effect.pid] = effect.time
        if ended is None:
            verdict.lost.append(task)
    return verdict
