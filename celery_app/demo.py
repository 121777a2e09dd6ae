"""``python -m celery_app.demo``: a real Kafka, worker processes and the application on real input, with a report."""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from celery import chord, states
from celery.exceptions import TimeoutError as ResultTimeout
from kombu.exceptions import OperationalError

import kafka_exec
from celery_app import corpus, orders, report, tasks
from celery_app.app import app
from celery_app.events import EventLog
from celery_app.workers import WorkerError, Workers
from kafka_exec.broker import BrokerError, EmbeddedKafka

CONCURRENCY = 2
PUBLISHED = 200
REVOKED_COUNTDOWN = 4
NAPS = 40
RESULT_TIMEOUT = 120
REPLY_TIMEOUT = 10.0
LOG_TAIL = 30
BROKER_STEPS = {
    "download": "fetching Kafka (46 MB, this once)",
    "archive": "making Kafka start faster from now on (10 s, this once)",
    "format": "preparing the embedded Kafka",
    "start": "starting the embedded Kafka",
}


class DemoError(Exception):
    """Something did not come out as it must."""


class Progress:
    """Prints lines with the time since the start."""

    def __init__(self) -> None:
        self._start = time.monotonic()

    def seconds(self) -> float:
        """The time since the start."""
        return time.monotonic() - self._start

    def __call__(self, text: str) -> None:
        print(f"[{self.seconds():5.1f} s] {text}", flush=True)


class Demo:
    """One run: each step says what it does, checks what it got and adds to the report."""

    def __init__(self, workers: Workers, events: EventLog, say: Progress) -> None:
        self.workers = workers
        self.events = events
        self.say = say
        self.sent: Counter[str] = Counter()

    def result(self, waiting: Any, **options: Any) -> Any:
        """Wait for a result, but no longer than the workers live."""
        try:
            # Celery gives the callback an argument if the result has a parent.
            return waiting.get(timeout=RESULT_TIMEOUT, on_interval=lambda *_: self.workers.check(), **options)
        except ResultTimeout:
            raise DemoError(f"a result was still missing after {RESULT_TIMEOUT} s")

    def revoke_a_waiting_task(self) -> Any:
        """Send a task that waits for its time, and have every worker confirm that it shall not run."""
        waiting = tasks.add.apply_async((1, 1), countdown=REVOKED_COUNTDOWN)
        # A worker that knows of the revocation before it gets the task sends no event that it received it.
        if not self.events.wait_for({"task-received": 1}, RESULT_TIMEOUT):
            raise DemoError("no worker received the first task")
        replies = app.control.revoke(
            waiting.id, reply=True, destination=self.workers.nodes, timeout=REPLY_TIMEOUT, limit=len(self.workers.nodes)
        )
        confirmed = {node for reply in replies or () for node in reply}
        if missing := set(self.workers.nodes) - confirmed:
            raise DemoError(f"revoke was not confirmed by {', '.join(sorted(missing))}")
        return waiting

    def count(self, files: corpus.Corpus) -> corpus.Counts:
        """A chord: a task per batch of files, and one that adds their counts up."""
        batches = files.batches()
        parts = []

        def on_part(_task_id: str, part: corpus.Counts) -> None:
            parts.append(part)
            if len(parts) * 5 // len(batches) > (len(parts) - 1) * 5 // len(batches):
                self.say(f"counted {len(parts)} of {len(batches)} batches of files")

        merging = chord([tasks.count.s(str(files.root), batch) for batch in batches], tasks.merge.s())()
        self.sent[tasks.count.name] += len(batches)
        self.result(merging.parent, callback=on_part)
        merged: corpus.Counts = self.result(merging)
        self.sent[tasks.merge.name] += 1
        return merged

    def publish(self) -> list[float]:
        """Send many small tasks, each confirmed by the broker before the next, and check every result."""
        seconds, results = [], []
        for number in range(PUBLISHED):
            start = time.perf_counter()
            results.append(tasks.add.delay(number, number))
            seconds.append(time.perf_counter() - start)
        self.sent[tasks.add.name] += PUBLISHED
        for number, waiting in enumerate(results):
            if (answer := self.result(waiting)) != 2 * number:
                raise DemoError(f"{number} + {number} came back as {answer}")
        return seconds

    def check_revoked(self, waiting: Any) -> None:
        """Require that the revoked task ended as revoked when its time had come."""
        self.result(waiting, propagate=False)
        if waiting.state != states.REVOKED:
            raise DemoError(f"the revoked task ended as {waiting.state}")

    def order(self) -> Iterator[str]:
        """Two orders that wait for their approval, without a slot, while a worker crashes; yields what came of each."""
        kinds = {"function": (orders.order, (1,)), "job": (orders.job, ({"number": 2},))}
        sent = {kind: task.apply_async(args) for kind, (task, args) in kinds.items()}
        outcomes = {}
        for number, kind in enumerate(kinds, 1):
            answer = kafka_exec.resume(app, f"approve-{number}", {"approved": True, "by": "ann"}, timeout=REPLY_TIMEOUT)
            if answer.outcome not in ("continued", "kept"):
                raise DemoError(f"the approval of order {number} came to nothing: {answer.outcome}")
            outcomes[kind] = answer.outcome
        self.workers.crash(victim := self.workers.nodes[0])
        yield f"{victim} is killed while the orders are under way, and started again"
        for number, kind in enumerate(kinds, 1):
            result = self.result(sent[kind])
            told = result["result"] if kind == "job" else result
            if told != (expected := f"invoice of order {number} for 3 parcels"):
                raise DemoError(f"order {number} ended with {told!r} instead of {expected!r}")
            steps = self.steps(sent[kind].id)
            if again := [name for name, runs in steps.items() if runs != 1]:
                raise DemoError(f"order {number} did {', '.join(again)} more than once")
            yield f"the {kind} waited for its approval ({outcomes[kind]}) and for a second, and sent the {told}"
            yield f"  each of its steps is in its history once: {', '.join(steps)}"
        self.workers.wait_until_ready()

    def steps(self, task_id: str) -> Counter[str]:
        """How often a task did each of its steps, by ``celery kafka history``."""
        happened = map(json.loads, self.kafka("history", task_id, "--json"))
        return Counter(each["detail"] for each in happened if each["what"] == "step")

    def nap(self) -> str:
        """Tasks that fail by chance and are retried, while a worker crashes; each succeeds in the end."""
        waiting = [tasks.nap.delay(0.2) for _ in range(NAPS)]
        self.workers.crash(victim := self.workers.nodes[-1])
        for each in waiting:
            self.result(each)
        self.workers.wait_until_ready()
        return f"{NAPS} naps that fail three times in ten were retried until they succeeded, though {victim} was killed"

    def kafka(self, *arguments: str) -> list[str]:
        """The lines that ``celery kafka`` prints; it must end well."""
        command = [sys.executable, "-m", "celery", "-A", "celery_app", "kafka", *arguments]
        environment = {**os.environ, "EXAMPLE_BROKER_URL": app.conf.broker_url}
        done = subprocess.run(command, env=environment, capture_output=True, text=True)
        if done.returncode:
            raise DemoError(f"celery kafka {' '.join(arguments)}: {done.stdout}{done.stderr}")
        return done.stdout.splitlines()

    def check_events(self) -> None:
        """Require an event for every task sent (the revoked one is received too, but does not run)."""
        succeeded = self.sent.total()
        expected = {"task-received": succeeded + 1, "task-succeeded": succeeded, "task-revoked": 1}
        if not self.events.wait_for(expected, REPLY_TIMEOUT):
            seen = ", ".join(f"{self.events.counts[kind]} of {n} {kind}" for kind, n in expected.items())
            raise DemoError(f"events are missing: seen {seen}")

    def stats(self) -> dict[str, Any]:
        """Ask the workers what they have run, and require that it is what was sent."""
        inspect = app.control.inspect(
            destination=self.workers.nodes, timeout=REPLY_TIMEOUT, limit=len(self.workers.nodes)
        )
        stats: dict[str, Any] = inspect.stats() or {}
        if missing := set(self.workers.nodes) - stats.keys():
            raise DemoError(f"no statistics from {', '.join(sorted(missing))}")
        ran: Counter[str] = Counter()
        for answer in stats.values():
            ran.update(answer["total"])
        if ran != self.sent:
            names = sorted(name for name in ran.keys() | self.sent.keys() if ran[name] != self.sent[name])
            raise DemoError("; ".join(f"{name} ran {ran[name]} times, sent {self.sent[name]} times" for name in names))
        return stats


def run(options: argparse.Namespace, logs: Path, say: Progress) -> None:
    """The whole demonstration; raises if anything is not as it must be."""
    files = corpus.find(options.folder or corpus.installed_packages())
    if not files.names:
        raise DemoError(f"no text files in {files.root}")
    say(
        f"input: {len(files.names):,} of {files.text_files:,} text files in {files.root}"
        f" (left out: {files.left_out:,} binary or large)"
    )
    with contextlib.ExitStack() as stack:
        url = options.broker or stack.enter_context(embedded_kafka(say))
        app.conf.broker_url = app.conf.result_backend = url
        check_broker(say)
        workers = stack.enter_context(Workers(options.workers, CONCURRENCY, url, logs))
        say(f"starting {options.workers} workers, logs in {logs}")
        workers.wait_until_ready()
        say(f"workers answer: {', '.join(workers.nodes)}")
        events = EventLog(app, workers.nodes)
        events.start()
        stack.callback(events.stop)
        if not events.wait_until_live(REPLY_TIMEOUT):
            raise DemoError("no events from some of the workers")

        demo = Demo(workers, events, say)
        revoked = demo.revoke_a_waiting_task()
        say("a waiting task is revoked, counting begins")
        started = time.perf_counter()
        counted = demo.count(files)
        elapsed = time.perf_counter() - started
        say(f"counted and merged in {elapsed:.1f} s, publishing {PUBLISHED} small tasks")
        delays = demo.publish()
        demo.check_revoked(revoked)
        demo.check_events()
        stats = demo.stats()
        for told in demo.order():
            say(told)
        say(demo.nap())
        audit = demo.kafka("audit")
        say("counting once more in this process, without Celery")
        started = time.perf_counter()
        expected = corpus.count_files(files.root, files.names)
        alone = time.perf_counter() - started
        say("stopping the workers")
        workers.stop()
        say("workers ended with status 0")

    print("\nWhat ran where, from the workers' events")
    print(*report.runs(events.runtimes), sep="\n")
    print("Workers, from remote control")
    print(*report.worker_stats(stats), sep="\n")
    print("All tasks, from Kafka's log (celery kafka audit)")
    print(*audit, sep="\n")
    kinds = ("task-received", "task-started", "task-succeeded", "task-revoked")
    print("Events:", ", ".join(f"{events.counts[kind]} {kind}" for kind in kinds))
    print("Publishing, each task confirmed by the broker")
    print(report.delays(delays))
    print(*report.statistics(counted), sep="\n")
    print(f"Comparison: {elapsed:.1f} s by the workers, {alone:.1f} s by one process without Celery")
    print(*report.comparison(counted, expected), sep="\n")
    if wrong := corpus.differences(counted, expected):
        raise DemoError(f"the workers' totals are wrong in {len(wrong)} places, first: {wrong[0]}")


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
            raise DemoError(f"no broker at {connection.as_uri()}: {error}")
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
    parser.add_argument("--verbose", action="store_true", help="on failure, print the details and the workers' logs")
    options = parser.parse_args(arguments)
    if options.workers < 1:
        parser.error("at least one worker is needed")
    # A terminated demonstration ends its processes as well: as an exception, SIGTERM runs the same clean-up.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
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
        known = isinstance(error, DemoError | WorkerError | BrokerError)
        reason = "".join(str(error).splitlines()[:1]) if known else f"{type(error).__name__}: {error}"
        hint = "" if options.verbose else "; --verbose shows more"
        print(f"demo: FAILED: {reason} (logs: {logs}{hint})", file=sys.stderr)
        return 1
    shutil.rmtree(logs)
    print(f"demo: OK in {say.seconds():.1f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main())
