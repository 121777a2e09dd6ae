"""Beats of one crew, of which now and then one is killed, stopped or paused, and what must be true afterwards."""

from __future__ import annotations

import random
import signal
import time
from collections.abc import Mapping
from typing import Any

from kafka_exec.core.beat.agenda import run_id
from tests.integration.beat_tools import Diary, assert_each_once
from tests.integration.judge import judge_lanes
from tests.integration.workers import Beat, Crew

#: How long a paused beat is paused: longer than others wait until they take it for dead, seconds.
PAUSE = 6.0


def schedule_of(periods: Mapping[str, float]) -> dict[str, Any]:
    """A beat schedule in which no slot may be left out."""
    return {name: {"task": "work", "schedule": period, "catch_up": "all"} for name, period in periods.items()}


class Storm:
    """So many beats, and faults at random."""

    def __init__(self, made: Crew, beats: int, seed: int) -> None:
        self.faults: list[str] = []
        self._made = made
        self._chance = random.Random(seed)
        self._started = 0
        self._beats = [self._start() for _ in range(beats)]
        self._paused: tuple[Beat, float] | None = None

    def blow(self, seconds: float, every: float) -> None:
        """A fault every so many seconds."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            time.sleep(every)  # between two faults
            self._resume()
            number = self._chance.randrange(len(self._beats))
            fault = self._chance.choice(["kill", "stop", "pause"])
            self.faults.append(fault)
            victim = self._beats[number]
            if fault == "pause":
                victim.signal(signal.SIGSTOP)
                self._paused = victim, time.monotonic()
                continue
            if fault == "kill":
                victim.kill()
            else:
                stop(victim)
            self._beats[number] = self._start()
        self._resume()

    def _resume(self) -> None:
        if self._paused is not None:
            beat, since = self._paused
            time.sleep(max(0.0, since + PAUSE - time.monotonic()))
            beat.signal(signal.SIGCONT)
            self._paused = None

    def end(self) -> None:
        """All beats stop, warmly: none has ended by itself."""
        assert [beat.name for beat in self._beats if beat.process.poll() is not None] == []
        for beat in self._beats:
            stop(beat)

    def _start(self) -> Beat:
        self._started += 1
        return self._made.start_beat(f"b{self._started}")


def stop(beat: Beat) -> None:
    """A warm shutdown, as soon as the beat has begun to listen for it."""
    beat.wait_for_line("beat: Starting...")
    beat.stop()


def assert_weathered(made: Crew, periods: Mapping[str, float]) -> str:
    """Each slot was fired once, none left out, and no two runs of an entry overlapped; what there was, in a line."""
    slots = assert_each_once(made, periods)
    log, fired = Diary(made).read()
    lanes = [[run_id(name, slot) for slot in slots[name]] for name in periods]
    made.effects.wait_for([run for lane in lanes for run in lane])
    effects = [effect for what in ("begin", "end") for effect in made.effects.all(what)]
    verdict = judge_lanes(lanes, effects, {})
    assert (verdict.lost, verdict.inversions, verdict.overlaps, verdict.again) == ([], [], [], [])
    late = sorted(each.at - each.slot for name in periods for each in fired[name])
    assert log.conflicts == 0
    return (
        f"{sum(map(len, slots.values()))} slots of {len(slots)} entries, each once; late p50 {late[len(late) // 2]:.3f} s, "
        f"p99 {late[int(len(late) * 0.99)]:.2f} s, at most {late[-1]:.2f} s; {log.outdated} outdated records"
    )
