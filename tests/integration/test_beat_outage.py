"""A broker that goes and comes back: beats wait, and go on where they were."""

from __future__ import annotations

import time
from pathlib import Path

from kafka_exec.broker import EmbeddedKafka
from tests.integration.beat_tools import Diary, assert_each_once
from tests.integration.workers import crew, until


def test_beats_outlast_a_broker_that_is_away(tmp_path: Path) -> None:
    periods = {"a": 0.5, "b": 0.7}
    schedule = {name: {"task": "work", "schedule": period, "catch_up": "all"} for name, period in periods.items()}
    with EmbeddedKafka() as kafka, crew(kafka, tmp_path, beat_schedule=schedule, result_expires=None) as made:
        diary = Diary(made)
        beats = [made.start_beat(name) for name in ("b1", "b2")]
        diary.until_fired("a", 3)
        kafka.kill()
        until(lambda: any("does not answer" in beat.output for beat in beats), what="a beat tells of the outage")
        time.sleep(5)  # long enough that slots are missed
        kafka.start()
        back = time.time()
        diary.until_fired("a", 12, after=back)
        assert [beat.process.poll() for beat in beats] == [None, None]
        for beat in beats:
            beat.stop()
        assert_each_once(made, periods)
