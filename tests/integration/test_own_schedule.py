"""An entry whose schedule is of a class of the user's that only answers whether it is time."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

from kafka_exec.broker import EmbeddedKafka
from tests.integration.beat_tools import Diary, name_of, published
from tests.integration.workers import crew


def test_each_of_its_slots_is_fired_once_also_when_its_beat_is_killed(kafka: EmbeddedKafka, tmp_path: Path) -> None:
    schedule = {"often": {"task": "work", "schedule": 0.5}}
    with crew(kafka, tmp_path, beat_schedule=schedule, kafka_exec_heartbeat=0.2) as made:
        beats = [made.start_beat(name, env={"OWN_SCHEDULE": "1"}) for name in ("b1", "b2")]
        diary = Diary(made)
        fired = diary.until_fired("own", 2)
        holder = diary.holders()["own"]
        [killed] = [beat for beat in beats if holder.startswith(name_of(beat))]
        killed.kill()
        fired = diary.until_fired("own", 2, after=fired[-1].at)
        assert not fired[-1].by.startswith(name_of(killed))
        diary.until_fired("often", 2, after=fired[-1].at)
        _, log = diary.read()
        slots = published(made)["beat own"]  # some more than the log had, if any
        assert [each.slot for each in log["own"]] == slots[: len(log["own"])], "each message is that of a firing"
        assert all(after - before > 0.9 for before, after in pairwise(slots)), slots
        assert not any("was defined otherwise" in beat.output for beat in beats)
