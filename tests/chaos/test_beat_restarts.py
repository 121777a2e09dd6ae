"""Ten beats, of which two are restarted in turns, again and again: for the others nothing happens."""

from __future__ import annotations

import time
from itertools import pairwise
from pathlib import Path

import pytest

from kafka_exec.broker import EmbeddedKafka
from tests.integration.beat_storm import schedule_of, stop
from tests.integration.beat_tools import Diary, assert_each_once
from tests.integration.workers import Beat, crew

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

PERIODS = {f"e{number}": 1.0 for number in range(10)}
RESTARTS = 20

#: No entry may be silent for longer, seconds.
LONGEST_SILENCE = 10.0


def test_two_of_ten_beats_are_restarted_again_and_again(kafka: EmbeddedKafka, tmp_path: Path) -> None:
    with crew(kafka, tmp_path, beat_schedule=schedule_of(PERIODS), result_expires=None) as made:
        diary = Diary(made)
        beats = [made.start_beat(f"b{number}") for number in range(10)]
        all_of_them = [*beats]
        diary.until_held(len(PERIODS))
        for turn in range(RESTARTS):
            stop(beats[turn % 2])
            beats[turn % 2] = again = made.start_beat(f"b{turn % 2}-{turn}")
            all_of_them.append(again)
            diary.until_fired("e0", 1, after=time.time())
        for beat in beats:
            stop(beat)
        slots = assert_each_once(made, PERIODS)
        log, fired = diary.read()
        silence = max(after.at - before.at for each in fired.values() for before, after in pairwise(each))
        print(f"{sum(map(len, slots.values()))} slots, each once; no entry was silent for more than {silence:.1f} s")
        assert silence < LONGEST_SILENCE
        assert log.conflicts == 0
        assert [line for beat in all_of_them for line in troubles(beat)] == []


def troubles(beat: Beat) -> list[str]:
    """The warnings and errors of a beat's log."""
    return [line for line in beat.output.splitlines() if "WARNING" in line or "ERROR" in line]
