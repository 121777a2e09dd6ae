"""Leaders that change under who publishes, asks and works: nobody is told that he must correct something."""

from __future__ import annotations

import time
import uuid
from functools import partial
from pathlib import Path
from typing import Any

from kafka_exec.broker import EmbeddedKafka
from tests.integration.app import make_app
from tests.integration.workers import crew


def test_leaders_change_under_everything(tmp_path: Path) -> None:
    """Each of three nodes dies and comes back in turn, with half of all leaders on the way."""
    with EmbeddedKafka(nodes=3) as kafka, crew(kafka, tmp_path, backend="same") as made:
        made.ready(made.start("steady", "-c", "2"))
        failed: list[Any] = []
        sent: list[str] = []
        for victim in range(3):
            kafka.kill(victim)
            killed = time.monotonic()
            while time.monotonic() - killed < 10:
                # A queue of its own each time: its topics are made while there is no leader for some others.
                url = f"{kafka.url}/t{uuid.uuid4().hex[:8]}"
                fresh = make_app(url, url)
                for call in (
                    lambda: sent.extend(made.send("work")),
                    lambda: sent.append(made.app.tasks["work"].apply_async(ordering_key="k").id),
                    lambda: made.app.AsyncResult("unknown").state,
                    made.backlog,
                    fresh.tasks["work"].delay,
                    partial(fresh.tasks["work"].apply_async, countdown=3600),
                ):
                    try:
                        call()
                    except Exception as error:
                        failed.append(error)
                fresh.close()
            kafka.start(victim)
        assert failed == []
        made.effects.wait_for(sent)
        output = made.workers[0].output
        for trouble in ("Traceback", "Unrecoverable", "ChannelFailed", "Connection to broker lost"):
            assert trouble not in output, output
        print(f"{len(sent)} tasks sent and run")
