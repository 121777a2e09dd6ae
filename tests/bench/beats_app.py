"""The application whose periodic tasks ``./dev beats`` counts: the same for every scheduler.

BEATS_URL is its broker, BEATS_CONF its settings (a JSON object), BEATS_FIRES the file that gets a line for each run.
"""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any

from celery import Celery

URL = os.environ["BEATS_URL"]
if URL.startswith("kafka-exec"):
    import kafka_exec  # noqa: F401

app = Celery("beats", broker=URL)
app.conf.update(
    broker_connection_retry_on_startup=True, task_ignore_result=True, **json.loads(os.environ["BEATS_CONF"])
)
if URL.startswith("redis"):
    app.conf.redbeat_redis_url = URL  # RedBeat: to be set explicitly


@app.task(bind=True, name="fire")
def fire(self: Any, entry: str) -> None:
    """Notes which process has sent it, and for which time, if the scheduler says so."""
    pid = int(self.request.origin.partition("@")[0].removeprefix("gen"))
    line = json.dumps({"entry": entry, "by": pid, "slot": self.request.get("slot"), "at": time.time()})
    with Path(os.environ["BEATS_FIRES"]).open("a") as file:
        file.write(f"{line}\n")
