"""The guard, a small process between a program and its Java process: the Java process never outlives the program.

The program runs it as a script, with only the standard library: ``guard.py PARENT_PID LOG_FILE FOLDER_TO_REMOVE
COMMAND...``. The guard writes a line with the Java process's id. Then it reads numbers of signals, one byte each: it sends
each signal to the Java process and answers with that byte. It ends with the Java process. When its own parent is gone it
kills the Java process and removes the folder (none if the name is empty). If the guard is killed, the kernel kills the
Java process (on Linux).
"""

from __future__ import annotations

import ctypes
import os
import select
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Callable

PARENT_CHECK = 1.0  # seconds
PR_SET_PDEATHSIG = 1


def main(parent: int, log: str, remove: str, command: list[str]) -> int:
    """Runs the command until it ends and returns its exit status, or until the parent is gone."""
    wake, woken = socket.socketpair()
    for end in (wake, woken):
        end.setblocking(False)
    signal.set_wakeup_fd(woken.fileno())
    signal.signal(signal.SIGCHLD, lambda *_: None)
    with open(log, "ab") as output:
        java = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, preexec_fn=_die_with_parent()
        )
    sys.stdout.write(f"{java.pid}\n")
    sys.stdout.flush()
    while java.poll() is None:
        # A child that the parent has forked may still hold the pipe when the parent is gone: so its id is checked too.
        readable, _, _ = select.select([0, wake.fileno()], [], [], PARENT_CHECK)
        if wake.fileno() in readable:
            wake.recv(4096)
        numbers = os.read(0, 1) if 0 in readable else None
        if numbers == b"" or os.getppid() != parent:
            java.kill()
            java.wait()
            if remove:
                shutil.rmtree(remove, ignore_errors=True)
        elif numbers:
            java.send_signal(numbers[0])
            if numbers[0] == signal.SIGSTOP and hasattr(os, "waitid"):
                # Java's threads stop one after the other. WNOWAIT leaves the status: poll() must get the one of the end.
                os.waitid(os.P_PID, java.pid, os.WSTOPPED | os.WEXITED | os.WNOWAIT)
            os.write(1, numbers)
    return java.returncode


def _die_with_parent() -> Callable[[], object] | None:
    """Has the kernel kill the child when the guard dies: that is, when the *thread* that forked ends. The guard has one."""
    if sys.platform != "linux":
        return None
    libc, guard = ctypes.CDLL(None), os.getpid()

    def in_child() -> None:
        libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != guard:
            os._exit(1)

    return in_child


if __name__ == "__main__":
    status = main(int(sys.argv[1]), sys.argv[2], sys.argv[3], sys.argv[4:])
    sys.exit(status if status >= 0 else 128 - status)
