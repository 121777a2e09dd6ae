"""A wake-up never waits, however many bytes of earlier ones nobody has read."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.snippets import ROOT

PROGRAM = """
{patch}
from kafka_exec.kafka.client.native import Waker
waker = Waker()
for _ in range(10_000):  # more than a socket holds
    waker._pending = False
    waker.wake()
assert waker.wait(0.0)
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
