"""The judge of what tasks have really done: by the file to which their bodies append, outside of the system."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from tests.integration.workers import Effect

#: A task that ended this long before its worker was killed had told its end, seconds: generous, for a busy machine.
TOLD = 1.0


@dataclass
class Verdict:
    """The judge's findings about tasks.

    Attributes:
        lost: tasks that never ended.
        again: tasks that began after they had ended, and had told so.
        overlaps: tasks that began while they were running, on a worker that lived on.
        restarts: the number of begins of tasks that had begun before.
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


@dataclass
class LaneVerdict:
    """The judge's findings about lanes: tasks that are to run one after the other.

    Attributes:
        lost: tasks that never ended.
        inversions: tasks that began before one before them had ended.
        overlaps: tasks that began while one of their lane was running, on a worker that lived on.
        again: tasks that began after they had ended, and had told so.
    """

    lost: list[str] = field(default_factory=list)
    inversions: list[str] = field(default_factory=list)
    overlaps: list[str] = field(default_factory=list)
    again: list[str] = field(default_factory=list)


def judge_lanes(
    lanes: Sequence[Sequence[str]],
    effects: Iterable[Effect],
    kills: Mapping[int, float],
    told: Container[str] | None = None,
) -> LaneVerdict:
    """Judges whether the tasks of each lane ran in their order, one at a time; one that is retried is still running.

    Args:
        lanes: the ids of each lane's tasks, in their order.
        effects: what they did (``begin``, ``retry``, ``end``), in any order.
        kills: as of :func:`judge`.
        told: those that a killed process had ended, and that was told; else time tells.
    """
    verdict = LaneVerdict()
    lane_of = {task: number for number, lane in enumerate(lanes) for task in lane}
    of_lane: dict[int, list[Effect]] = defaultdict(list)
    for effect in sorted(effects, key=lambda each: each.time):
        if effect.task in lane_of:
            of_lane[lane_of[effect.task]].append(effect)
    for number, lane in enumerate(lanes):
        _judge_lane(lane, of_lane[number], kills, told, verdict)
    return verdict


def _judge_lane(
    lane: Sequence[str],
    effects: Iterable[Effect],
    kills: Mapping[int, float],
    told: Container[str] | None,
    verdict: LaneVerdict,
) -> None:
    ended: dict[str, Effect] = {}
    running: dict[int, str] = {}
    place = {task: number for number, task in enumerate(lane)}
    for effect in effects:
        if effect.what == "begin":
            if any(kills.get(pid, float("inf")) > effect.time for pid in running):
                verdict.overlaps.append(effect.task)
            if (end := ended.get(effect.task)) is not None:
                by_time = told is None or end.pid not in kills
                if kills.get(end.pid, effect.time) - end.time > TOLD if by_time else end.task in told:
                    verdict.again.append(effect.task)
            elif place[effect.task] != len(ended):
                verdict.inversions.append(effect.task)
            running[effect.pid] = effect.task
            continue
        running.pop(effect.pid, None)
        if effect.what == "end":
            ended.setdefault(effect.task, effect)
    verdict.lost += [task for task in lane if task not in ended]
