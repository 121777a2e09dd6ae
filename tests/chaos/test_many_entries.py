"""A thousand periodic entries on one beat, their times spread or all the same: how late they are, and what it costs."""

from __future__ import annotations

import os
import statistics
import time
from pathlib import Path

import psutil
import pytest

from kafka_exec.broker import EmbeddedKafka
from tests.integration.beat_tools import Diary, assert_each_once
from tests.integration.workers import crew

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

ENTRIES = int(os.environ.get("CHAOS_ENTRIES", "1000"))

#: Seconds.
PERIOD = 10.0

#: How often each entry is fired while it is measured.
ROUNDS = 4


@pytest.mark.parametrize("spread", [PERIOD, 0.0], ids=["times spread", "all in the same second"])
def test_a_thousand_entries_are_fired_on_time(kafka: EmbeddedKafka, tmp_path: Path, spread: float) -> None:
    start = time.time()
    schedule = {
        f"e{number}": {
            **{"task": "work", "schedule": PERIOD, "catch_up": "all"},
            "start": start + spread * number / ENTRIES,
        }
        for number in range(ENTRIES)
    }
    with crew(kafka, tmp_path, beat_schedule=schedule, result_expires=None) as made:
        diary = Diary(made)
        beat = made.start_beat("b")
        diary.until_held(ENTRIES)
        held = time.time()
        process = psutil.Process(beat.process.pid)
        used = process.cpu_times()

        time.sleep(1.0 + ROUNDS * PERIOD)  # undisturbed: whoever reads the log takes time from the beat
        cpu = sum(process.cpu_times()[:2]) - sum(used[:2])
        seconds = time.time() - held
        memory = process.memory_full_info().uss / 1e6
        for name in ("e0", f"e{ENTRIES - 1}"):
            diary.until_fired(name, ROUNDS, after=held)
        beat.stop()
        _, fired = diary.read()
        late = sorted(each.at - each.slot for name in schedule for each in fired[name] if each.slot > held + 1.0)
        print(
            f"{ENTRIES} entries of {PERIOD:.0f} s: {len(late)} firings, late p50 {statistics.median(late) * 1000:.0f} ms, "
            f"p99 {late[int(len(late) * 0.99)] * 1000:.0f} ms, at most {late[-1] * 1000:.0f} ms; "
            f"{100 * cpu / seconds:.0f} % of a core, {memory:.0f} MB"
        )
        assert late[0] >= 0.0
        assert_each_once(made, dict.fromkeys(schedule, PERIOD))
