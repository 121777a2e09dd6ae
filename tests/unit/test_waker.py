"""A wake-up never waits, however many bytes of earlier ones nobody has read, and none is pending for ever."""

from __future__ import annotations

import os
import select
import subprocess
import sys

import pytest

from kafka_exec.kafka.client.native import Waker
from tests.snippets import ROOT

PROGRAM = """
{patch}
from kafka_exec.kafka.client.native import Waker
waker = Waker()
for _ in range(10_000):  # more than a socket holds
    waker._pending = False
    waker.wake()
assert waker.wait(0.0)
for _ in range(2):
    waker.clear()  # also when there is nothing to take, it does not wait
waker.wait(0.0)
waker.clear()
print("awake")
"""


@pytest.mark.parametrize(
    "patch",
    ["", "import gevent.monkey; gevent.monkey.patch_all()", "import eventlet; eventlet.monkey_patch()"],
    ids=["threads", "gevent", "eventlet"],
)
def test_a_wake_up_never_waits(patch: str) -> None:
    program = [sys.executable, "-W", "ignore", "-c", PROGRAM.format(patch=patch)]
    done = subprocess.run(program, cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.stdout == "awake\n", done.stderr


def test_a_wake_up_that_is_taken_back_while_it_is_made_leaves_an_idle_loop_in_peace() -> None:
    waker = Waker()

    def write(descriptor: int, data: bytes) -> int:
        waker.clear()  # the loop's thread is faster than this one
        return os.write(descriptor, data)

    def is_readable() -> bool:
        return bool(select.select([waker.fileno()], [], [], 0)[0])

    waker._write = write
    waker.wake()
    waker.clear()
    assert not is_readable()
    waker._write = os.write
    waker.wake()
    assert is_readable()
    waker.close()
