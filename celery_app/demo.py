"""``python -m celery_app.demo``: a real Kafka, the processes of an application, and a tour of all features on real input."""

from __future__ import annotations

import argparse
import contextlib
import os
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from kombu.exceptions import OperationalError

from celery_app import corpus, report, tour
from celery_app.app import app
from celery_app.events import EventLog
from celery_app.processes import ProcessError, ending
from celery_app.tour.app import NAME
from celery_app.tour.guide import REPLY_TIMEOUT, SERVICES
from celery_app.tour.timing import forget
from celery_app.workers import Workers
from kafka_exec.broker import BrokerError, EmbeddedKafka

CONCURRENCY = 2
LOG_TAIL = 30
BROKER_STEPS = {
    "download": "fetching Kafka (46 MB, this once)",
    "archive": "making Kafka start faster from now on (10 s, this once)",
    "format": "preparing the embedded Kafka",
    "start": "starting the embedded Kafka",
}


class Progress:
    """Prints lines with the time since the start."""

    def __init__(self) -> None:
        self._start = time.monotonic()

    def seconds(self) -> float:
        """The time since the start."""
        return time.monotonic() - self._start

    def __call__(self, text: str) -> None:
        print(f"[{self.seconds():5.1f} s] {text}", flush=True)

    def tell(self, feature: str, seen: tour.Seen) -> None:
        """Prints what was seen of a feature."""
        self(" | ".join((feature, *seen)))


def run(options: argparse.Namespace, logs: Path, say: Progress) -> None:
    """The whole demonstration; raises if anything is not as it must be."""
    stops = tour.chosen(options.only)
    needs = {name for stop in stops for name in stop.needs} | (set(SERVICES) if options.keep else set())
    os.environ["EXAMPLE_DIARY"] = str(logs / "diary.sqlite")
    with contextlib.ExitStack() as stack:
        # Kafka starts meanwhile: tens of thousands of files are looked into.
        finding = stack.enter_context(ThreadPoolExecutor(1)).submit(find, options.folder)
        url = options.broker or stack.enter_context(embedded_kafka(say))
        app.conf.broker_url = app.conf.result_backend = url
        check_broker(say)
        files = finding.result()
        say(
            f"input: {len(files.names):,} of {files.text_files:,} text files in {files.root}"
            f" (left out: {files.left_out:,} binary or large)"
        )
        workers = stack.enter_context(Workers(options.workers, CONCURRENCY, url, logs, name=NAME))
        events = EventLog(app, workers.nodes)
        tourist = tour.Tour(workers, events, files, say)
        stack.callback(tourist.kill)
        say(f"starting {options.workers} workers, logs in {logs}")
        workers.wait_until_ready()
        say(f"workers answer: {', '.join(workers.nodes)}")
        if needs:
            say(f"starting {', '.join(sorted(needs))}")
            tourist.start(needs, logs, {"EXAMPLE_BROKER_URL": url})
        events.start()
        stack.callback(events.stop)
        if not events.wait_until_live(REPLY_TIMEOUT):
            raise tour.DemoError("no events from some of the workers")
        if "beat1" in needs:
            stack.callback(forget)

        say("the tour: feature | what was done | what was seen | what proves it")
        tour.take(tourist, stops, say.tell)
        if options.only is None:
            for each in tour.ELSEWHERE:
                say(f"{each.feature} | not run: {each.why} | {each.command}")
        compare(tourist, say)
        judge(tourist, say)
        if "flower" in tourist.services:
            say(f"Flower: {tourist.services['flower'].address()}/kafka/queues" + ("" if options.keep else " (--keep)"))
        if options.keep:
            keep(tourist, say)
        say("stopping all")
        workers.stop()
        tourist.stop()
        say("workers ended with status 0")


def find(folder: Path | None) -> corpus.Corpus:
    """Finds the text to count: in a folder, or in the installed packages."""
    found = corpus.find(folder or corpus.installed_packages())
    if not found.names:
        raise tour.DemoError(f"no text files in {found.root}")
    return found


def judge(tourist: tour.Tour, say: Progress) -> None:
    """Prints what needs an operator, and what the audit of the queues' logs finds: nothing may be lost."""
    # Each of them takes a second to start. The audit ends badly if it finds a breach.
    with ThreadPoolExecutor() as both:
        for command, lines in zip(("status", "audit"), both.map(tourist.kafka, ("status", "audit")), strict=True):
            print(f"$ celery -A celery_app kafka {command}", *lines, sep="\n", flush=True)
    say("the audit has found no breach: lost 0, begun after their end 0, two of a key at once 0")


def compare(tourist: tour.Tour, say: Progress) -> None:
    """Counts the files once more without Celery; the workers' totals must be the same."""
    if (counted := tourist.counted) is None:
        return
    say("counting once more in this process, without Celery")
    expected = corpus.count_files(tourist.files.root, tourist.files.names)
    print(*report.statistics(counted), sep="\n")
    print(*report.comparison(counted, expected), sep="\n", flush=True)
    if wrong := corpus.differences(counted, expected):
        raise tour.DemoError(f"the workers' totals are wrong in {len(wrong)} places, first: {wrong[0]}")


def keep(tourist: tour.Tour, say: Progress) -> None:
    """Has all go on until Ctrl-C."""
    addresses = {name: process.address() for name, process in tourist.services.items() if not name.startswith("beat")}
    say(f"Flower    {addresses['flower']}/kafka/queues")
    say(f"HTTP API  {addresses['api']}/api/kafka/status")
    say(f"exporter  {addresses['exporter']}/metrics")
    say(f"Kafka     EXAMPLE_BROKER_URL={app.conf.broker_url} celery -A celery_app kafka queues")
    say("all goes on until Ctrl-C")
    with contextlib.suppress(KeyboardInterrupt):
        while True:
            tourist.check()
            time.sleep(1)


@contextlib.contextmanager
def embedded_kafka(say: Progress) -> Iterator[str]:
    """A Kafka broker of our own, for the time of the demonstration."""

    def on_progress(step: str, done: int, total: int) -> None:
        if done == 0:
            say(BROKER_STEPS[step])
        elif step == "download" and (done % 10 == 0 or done == total):
            say(f"  {done} of {total} files")

    with EmbeddedKafka(on_progress=on_progress) as broker:
        yield broker.url


def check_broker(say: Progress) -> None:
    """Fail early and clearly when nothing answers at the broker's URL."""
    with app.connection_for_write() as connection:
        try:
            connection.ensure_connection(max_retries=1, timeout=REPLY_TIMEOUT)
        except OperationalError as error:
            raise tour.DemoError(f"no broker at {connection.as_uri()}: {error}")
        say(f"broker: {connection.as_uri()}")


def log_tails(logs: Path) -> str:
    """The last lines of each log file."""
    tails = []
    for log in sorted(logs.glob("*.log")):
        lines = log.read_text(errors="replace").splitlines()[-LOG_TAIL:]
        tails.append("\n".join([f"--- the last lines of {log}", *lines]))
    return "\n".join(tails)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the demonstration from the command line."""
    parser = argparse.ArgumentParser(prog="python -m celery_app.demo", description=__doc__)
    parser.add_argument("--folder", type=Path, help="the text to count; by default the installed Python packages")
    parser.add_argument("--broker", metavar="URL", help="use this broker instead of an embedded Kafka")
    parser.add_argument("--workers", type=int, default=2, help="worker processes, %(default)s by default")
    parser.add_argument("--only", metavar="NAMES", help="show these features only, such as: delays,dead letters")
    parser.add_argument("--keep", action="store_true", help="then keep all running until Ctrl-C, for a look around")
    parser.add_argument("--verbose", action="store_true", help="on failure, print the details and the workers' logs")
    options = parser.parse_args(arguments)
    if options.workers < 1:
        parser.error("at least one worker is needed")
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, ending)
    logs = Path(tempfile.mkdtemp(prefix="kafka-exec-demo-"))
    say = Progress()
    try:
        run(options, logs, say)
    except KeyboardInterrupt:
        print("demo: interrupted", file=sys.stderr)
        return 130
    except Exception as error:
        if options.verbose:
            traceback.print_exc()
            print(log_tails(logs), file=sys.stderr)
        known = isinstance(error, tour.DemoError | ProcessError | BrokerError)
        reason = "".join(str(error).splitlines()[:1]) if known else f"{type(error).__name__}: {error}"
        hint = "" if options.verbose else "; --verbose shows more"
        print(f"demo: FAILED: {reason} (logs: {logs}{hint})", file=sys.stderr)
        return 1
    shutil.rmtree(logs)
    print(f"demo: OK in {say.seconds():.1f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main())
