"""Processes that fork while Kafka's clients live: the child must neither touch what it inherited nor miss anything.

Each test runs a script, since what goes wrong with librdkafka after a fork is an abort or a hang of the process.
"""

from __future__ import annotations

import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.integration.workers import ROOT, environment

Run = Callable[[str], str]

#: A script that has not ended after so many seconds hangs; a busy machine may need minutes for some of them.
HANGS = 240.0

HEAD = """
import multiprocessing, os, signal, sys, time
from kombu import Connection
from kafka_exec.kafka.cluster.cluster import flush_all
from tests.integration.app import app

work = app.tasks["work"]
url = os.environ["BROKER_URL"]


def child_status(child, seconds=60):
    # The exit status of a forked child, which is killed when it hangs.
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        pid, status = os.waitpid(child, os.WNOHANG)
        if pid:
            return status
        time.sleep(0.002)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return "hangs"


def fork(function):
    child = os.fork()
    if child:
        return child
    try:
        function()
        sys.exit(0)  # the normal way out, with exit handlers and the interpreter's end
    except SystemExit:
        raise
    except BaseException:
        import traceback
        traceback.print_exc()
        os._exit(3)
"""


@pytest.fixture
def run(broker_url: str, tmp_path: Path) -> Run:
    def run(script: str) -> str:
        done = subprocess.run(
            [sys.executable, "-c", HEAD + textwrap.dedent(script)],
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=HANGS,
            env=environment(broker_url, tmp_path),
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    return run


def test_a_forked_child_publishes_and_so_does_its_parent(run: Run) -> None:
    output = run("""
        work.delay()
        assert child_status(fork(lambda: [work.delay() for _ in range(3)])) == 0
        work.delay()
        with app.connection() as connection:
            print(connection.SimpleQueue("celery").qsize())
    """)
    assert output.split() == ["5"]


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_children_of_multiprocessing_publish(run: Run, tmp_path: Path, method: str) -> None:
    output = run(f"""
        from tests.integration.app import publish
        work.delay()
        context = multiprocessing.get_context("{method}")
        children = [context.Process(target=publish, args=(2,)) for _ in range(3)]
        for child in children:
            child.start()
        for child in children:
            child.join(30)
        print([child.exitcode for child in children])
        with multiprocessing.get_context("fork").Pool(2) as pool:
            pool.map(publish, [1, 1, 1])
        work.delay()
        with app.connection() as connection:
            print(connection.SimpleQueue("celery").qsize())
    """)
    assert output.splitlines() == ["[0, 0, 0]", "11"]


def test_a_child_of_a_consuming_parent_just_ends(run: Run) -> None:
    output = run("""
        connection = Connection(url)
        queue = connection.SimpleQueue("mine")
        other = Connection(url).SimpleQueue("other")
        queue.put("one")
        message = queue.get(timeout=20)

        def inherited():
            # What a child's garbage collection and exit handlers do, and what careless code does.
            message.ack_log_error(__import__("logging").getLogger(), Exception)
            queue.consumer.cancel()
            queue.close()
            connection.release()

        print([child_status(fork(function)) for function in (lambda: None, inherited, lambda: os._exit(0))])
        queue.put("two")
        second = queue.get(timeout=20)
        second.ack()
        message.ack()
        print(second.payload, queue.qsize())
        queue.close()
        connection.release()
    """)
    assert output.splitlines() == ["[0, 0, 0]", "two 0"]


def test_an_inherited_connection_is_made_anew_or_says_so(run: Run) -> None:
    output = run("""
        from kafka_exec.errors import ConnectionFailed
        connection = Connection(url)
        connection.connect()
        channel = connection.default_channel
        producer = connection.Producer()
        producer.publish({"n": 0}, routing_key="ours", declare=[__import__("kombu").Queue("ours")])

        def with_the_channel():
            try:
                channel.basic_publish(channel.prepare_message("x"), routing_key="ours")
            except ConnectionFailed as error:
                assert isinstance(error, connection.recoverable_connection_errors)
                sys.exit(10)

        def with_drain_events():
            try:
                connection.drain_events(timeout=1)
            except (ConnectionFailed, __import__("socket").timeout):
                sys.exit(0)
            sys.exit(11)

        def with_retry():
            producer.publish({"n": 1}, routing_key="ours", retry=True, retry_policy={"max_retries": 3})

        def as_kombu_does_it():
            with connection.Producer() as mine:
                mine.publish({"n": 2}, routing_key="ours")

        print([child_status(fork(f)) for f in (with_the_channel, with_drain_events, with_retry, as_kombu_does_it)])
        queue = connection.SimpleQueue("ours")
        print(sorted(queue.get(timeout=20).payload["n"] for _ in range(3)))
        connection.release()
    """)
    # 10 << 8 is how waitpid() tells of the exit status 10.
    assert output.splitlines() == [f"[{10 << 8}, 0, 0, 0]", "[0, 1, 2]"]


def test_forty_forks_with_live_clients(run: Run) -> None:
    output = run(
        """
        connection = Connection(url)
        queue = connection.SimpleQueue("mine")
        queue.put("one")
        queue.get(timeout=20).ack()
        work.delay()
        statuses = [child_status(fork(lambda n=n: work.delay() if n % 10 == 0 else None)) for n in range(40)]
        print(set(statuses))
        work.delay()
        queue.put("two")
        print(queue.get(timeout=20).payload, app.connection().SimpleQueue("celery").qsize())
        """
    )
    assert output.splitlines() == ["{0}", "two 6"]


def test_a_fork_in_the_middle_of_a_publish(run: Run) -> None:
    output = run("""
        import threading
        ids, stop = [], threading.Event()

        def publish():
            while not stop.is_set():
                ids.append(work.delay().id)

        threads = [threading.Thread(target=publish) for _ in range(3)]
        for thread in threads:
            thread.start()
        while len(ids) < 20:
            time.sleep(0.01)
        statuses = [child_status(fork(lambda: work.delay())) for _ in range(20)]
        stop.set()
        for thread in threads:
            thread.join(20)
        print(set(statuses), app.connection().SimpleQueue("celery").qsize() == len(ids) + 20)
    """)
    assert output.split() == ["{0}", "True"]


def test_a_child_that_was_forked_while_states_were_indexed_makes_an_index_of_its_own(run: Run) -> None:
    output = run(
        """
        import threading
        from kafka_exec.kafka.results.state_index import StateIndex

        def write():
            while not done:
                StateIndex().close()

        done = False
        writer = threading.Thread(target=write)
        writer.start()
        statuses = {child_status(fork(lambda: StateIndex().note(0, []))) for _ in range(25)}
        done = True
        writer.join()
        print(statuses)
        """
    )
    assert output == "{0}\n"
