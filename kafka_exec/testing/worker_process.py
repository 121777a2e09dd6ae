"""The process of a test's worker: ``python -m kafka_exec.testing.worker_process ORDER [OPTIONS OF celery worker]``.

The order is a JSON object: the app, its settings, the file for waits, and a descriptor to write to when the worker is ready.
"""

from __future__ import annotations

import json
import os
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import celery.bin.celery  # noqa: F401 - gives Celery's command to worker_main
from celery.app.utils import find_app
from celery.signals import worker_ready

import kafka_exec  # noqa: F401 - registers the scheme
from kafka_exec.testing.apps import pointed
from kafka_exec.testing.timing import at_once


def main(order: dict[str, Any], options: list[str]) -> None:
    """Runs the worker until it is told to stop."""
    app = find_app(order["app"])

    @worker_ready.connect(weak=False)
    def tell(**_: Any) -> None:
        os.write(order["tells"], b"r")
        os.close(order["tells"])

    with ExitStack() as stack:
        stack.enter_context(pointed(app, order["config"]))
        if order["waits"]:
            stack.enter_context(at_once(Path(order["waits"])))
        app.worker_main(["worker", "--without-mingle", "-l", "INFO", *options])


if __name__ == "__main__":
    main(json.loads(sys.argv[1]), sys.argv[2:])
