"""Pictures of our pages in Flower: ``python -m tests.screenshots`` takes them with Chromium into ``build/screenshots``.

The example application has tasks in all states. Each page is taken in Flower's light and dark theme, and on a narrow screen.
With ``--docs`` the pictures that the documentation shows are written into it.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import kafka_exec
from celery_app import orders
from celery_app.packages import crash, enter, lines_of, stay, tick, tidy
from celery_app.processes import ADDRESS, Process, ending
from celery_app.tasks import add
from celery_app.tour.app import NAME, QUEUE, URGENT, app
from celery_app.tour.guide import BESIDE, SERVICES
from celery_app.workers import Workers
from kafka_exec.beat import PeriodicTasks
from kafka_exec.broker import EmbeddedKafka
from kafka_exec.flower.pages import PAGES
from tests.snippets import ROOT

FOLDER = ROOT / "build" / "screenshots"
PICTURES = ROOT / "docs" / "pictures"

#: What the documentation shows: names of pictures, and theirs there.
SHOWN = {"queues-light": "flower-queues", "task-light": "flower-task", "keys-narrow": "flower-narrow"}

#: Ways to look: the width and height of the window, and Chromium's options. 0 is dark, 1 is light.
LOOKS = {
    "light": (1280, 800, ["--blink-settings=preferredColorScheme=1"]),
    "dark": (1280, 800, ["--blink-settings=preferredColorScheme=0"]),
    "narrow": (390, 844, ["--blink-settings=preferredColorScheme=1"]),
}

#: Chromium looks for nothing outside.
QUIET = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--hide-scrollbars",
    "--virtual-time-budget=3000",
]

PATIENCE = 300.0

#: A file that does not exist.
MISSING = "/srv/incoming/missing.txt"


def until(condition: Callable[[], Any], what: str) -> Any:
    """Waits until a condition holds; what it returned."""
    deadline = time.monotonic() + PATIENCE
    while not (found := condition()):
        if time.monotonic() > deadline:
            raise SystemExit(f"screenshots: not within {PATIENCE:.0f} s: {what}")
        time.sleep(0.2)
    return found


def browser() -> str:
    """The program that takes the pictures."""
    for name in ("chromium", "chromium-browser", "google-chrome"):
        if (found := shutil.which(name)) is not None:
            return found
    raise SystemExit("screenshots: no chromium is on PATH")


@contextlib.contextmanager
def running(logs: Path) -> Iterator[str]:
    """The example application with two workers and a beat; the address of its Flower."""
    with EmbeddedKafka() as broker:
        app.conf.broker_url = app.conf.result_backend = broker.url
        environment = {"EXAMPLE_BROKER_URL": broker.url, "EXAMPLE_DIARY": str(logs / "diary")}
        os.environ.update(environment)
        with Workers(2, 2, broker.url, logs, environment, NAME) as workers:
            workers.wait_until_ready()
            with contextlib.ExitStack() as stack:
                for name, path in (("beat1", ""), ("flower", str(BESIDE))):
                    with ending.held():
                        process = Process(name, SERVICES[name], {**environment, "PYTHONPATH": path}, logs)
                        stack.callback(process.kill)
                yield process.said(ADDRESS)


def have_all_states() -> dict[str, str]:
    """Sends tasks that come into all states; the paths of the pages about single ones."""
    for number in range(6):
        add.delay(number, number)
    stopped = enter.apply_async(("django", MISSING), ordering_stops_on_failure=True)
    for _ in range(2):
        enter.delay("django", __file__)
        add.apply_async((20, 22), countdown=3600)
    corrected = lines_of.delay(MISSING)
    for failed in (stopped, corrected, lines_of.delay("/srv/incoming/also-missing.txt"), crash.delay()):
        failed.get(timeout=PATIENCE, propagate=False)
    for number in (17, 18):
        orders.order.delay(number)
    for name, task, schedule, more in (
        ("report", add.name, "0 4 * * mon", {"args": [1, 2]}),
        ("poll", tick.name, "every 5 m", {}),
        ("tidy", tidy.name, 60, {"on_node": True}),
    ):
        PeriodicTasks(app).add(name, task, schedule, **more)
    kafka_exec.pause_queue(app, URGENT, by="ann", reason="the mail server moves", until=time.time() + 7200)
    for _ in range(3):
        stay.apply_async((0.1,), queue=URGENT)
    app.send_task("celery_app.packages.archive")
    for _ in range(2):
        stay.delay(600.0)
    [letter] = [each for each in kafka_exec.dead_letters(app, QUEUE).scan() if each.id == corrected.id]
    return {
        "task": f"executions/{quote(corrected.id)}",
        "letter": f"dead/{QUEUE}/{letter.address}",
    }


def take(program: str, url: str, look: str, picture: Path) -> None:
    """Takes a picture of a page."""
    width, height, options = LOOKS[look]
    with tempfile.TemporaryDirectory() as profile:
        subprocess.run(
            [
                program,
                *QUIET,
                *options,
                f"--user-data-dir={profile}",
                f"--window-size={width},{height}",
                f"--screenshot={picture}",
                url,
            ],
            check=True,
            capture_output=True,
            timeout=PATIENCE,
        )


def main(arguments: list[str]) -> None:
    """Takes all pictures."""
    program = browser()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, ending)
    shutil.rmtree(FOLDER, ignore_errors=True)
    FOLDER.mkdir(parents=True)
    logs = Path(tempfile.mkdtemp(prefix="screenshots-"))
    with running(logs) as address:
        pages = {**{name: name for name in PAGES}, **have_all_states()}
        # The beat claims its entries, and workers tell of what waits.
        until(lambda: all(each.is_held for each in PeriodicTasks(app).all()), "a beat that holds all entries")
        for name, path in pages.items():
            for look in LOOKS:
                take(program, f"{address}/kafka/{path}", look, FOLDER / f"{name}-{look}.png")
                print(FOLDER / f"{name}-{look}.png", flush=True)
    if "--docs" in arguments:
        PICTURES.mkdir(exist_ok=True)
        for name, shown in SHOWN.items():
            shutil.copyfile(FOLDER / f"{name}.png", PICTURES / f"{shown}.png")
    shutil.rmtree(logs)


if __name__ == "__main__":
    main(sys.argv[1:])
