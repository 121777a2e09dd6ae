"""Threads and waiting that work the same under gevent, eventlet and neither.

librdkafka blocks in C, which would freeze a cooperative scheduler. So it is called in *native* threads (never patched
ones). A caller that waits for one waits on a socket, which patched code does cooperatively.
"""

from __future__ import annotations

import contextvars
import socket
import sys
import time
from collections.abc import Callable
from typing import Any, TypeVar

T = TypeVar("T")


def _original(module: str, name: str) -> Any:
    if gevent := sys.modules.get("gevent.monkey"):
        return gevent.get_original(module, name)
    if patcher := sys.modules.get("eventlet.patcher"):
        return getattr(patcher.original(module), name)
    return getattr(__import__(module), name)


def is_green() -> bool:
    """True if this process runs under a cooperative scheduler, that is, with patched sockets."""
    if (gevent := sys.modules.get("gevent.monkey")) and gevent.is_module_patched("socket"):
        return True
    eventlet = sys.modules.get("eventlet.patcher")
    return bool(eventlet and eventlet.is_monkey_patched("socket"))


#: The native threads that run now.
_running: set[int] = set()


def may_use_sockets() -> bool:
    """True if the calling thread may use Python's sockets: under a cooperative scheduler no native thread may."""
    return not is_green() or _original("_thread", "get_ident")() not in _running


def lock() -> Any:
    """A lock between native threads. Hold it for moments only: a greenlet that waits for it blocks all others."""
    return _original("_thread", "allocate_lock")()


def sleep(seconds: float) -> None:
    """Sleeps in a native thread; elsewhere use ``time.sleep``, which lets other greenlets run."""
    _original("time", "sleep")(seconds)


class Waker:
    """Wakes one waiting thread, greenlet or event loop from any native thread.

    :meth:`fileno` is readable while a wake-up is pending. A thread with data for the waiter first makes the data visible,
    then calls :meth:`wake`. The waiter first calls :meth:`clear`, then looks for data. So it misses none.
    """

    def __init__(self) -> None:
        self._receiver, self._sender = socket.socketpair()
        # The same socket for who does not wait: :meth:`wait` of another thread changes the timeout of the first.
        self._taker = self._receiver.dup()
        self._taker.setblocking(False)
        self._sender.setblocking(False)
        self._sender_fd = self._sender.fileno()
        self._write = _original("os", "write")
        self._pending = False

    def fileno(self) -> int:
        return self._receiver.fileno()

    def wake(self) -> None:
        """Ends the wait that is under way, or the next one."""
        if not self._pending:
            self._pending = True
            try:
                # The descriptor, not the socket: under gevent the socket's own methods belong to the loop's thread. And the
                # original function: eventlet's would have the greenlet wait until there is space.
                self._write(self._sender_fd, b".")
            except OSError:
                pass  # full: a wake-up is pending anyway; or closed: no thread waits any more

    def clear(self) -> None:
        """Takes back a pending wake-up.

        It reads also if none is pending: a thread that was in the middle of :meth:`wake` during an earlier call has written
        since then.
        """
        try:
            self._taker.recv(64, socket.MSG_DONTWAIT)
        except OSError:
            pass
        self._pending = False

    def wait(self, timeout: float | None) -> bool:
        """Waits for a wake-up and takes it. Returns False if none came within ``timeout`` seconds."""
        self._receiver.settimeout(timeout)
        try:
            self._receiver.recv(64)
        except (TimeoutError, BlockingIOError):
            return False
        self._pending = False
        return True

    def close(self) -> None:
        self._sender_fd = -1
        self._receiver.close()
        self._taker.close()
        self._sender.close()


class NativeEvent:
    """An event that happens once, and that native threads wait for. Any thread may :meth:`set` it."""

    def __init__(self) -> None:
        self._until = lock()
        self._until.acquire()
        self._first = lock()

    def set(self) -> None:
        """Notes that the event has happened; a second call changes nothing."""
        if self._first.acquire(False):
            self._until.release()

    def is_set(self) -> bool:
        """True if the event has happened."""
        return bool(self._first.locked())

    def wait(self, timeout: float) -> bool:
        """Waits for the event. Returns False if it has not happened within ``timeout`` seconds."""
        if not self._until.acquire(timeout=timeout):
            return False
        self._until.release()
        return True


class Thread:
    """A native thread that runs ``target`` once. It does not keep the process alive."""

    def __init__(self, target: Callable[[], None], name: str) -> None:
        self.name = name
        self._target = target
        self._running = lock()
        self._running.acquire()
        _original("_thread", "start_new_thread")(self._run, ())

    def _run(self) -> None:
        ident = _original("_thread", "get_ident")()
        _running.add(ident)
        try:
            self._target()
        finally:
            _running.discard(ident)
            self._running.release()

    def join(self, timeout: float) -> bool:
        """Waits until the thread has ended. Returns False if it has not within ``timeout`` seconds."""
        if is_green():
            deadline = time.monotonic() + timeout
            while self._running.locked() and time.monotonic() < deadline:
                time.sleep(0.01)  # the patched one: lets the other greenlets run
            return not self._running.locked()
        if self._running.acquire(timeout=timeout):
            self._running.release()
            return True
        return False


def call(function: Callable[..., T], *args: Any, **kwargs: Any) -> T:
    """Calls a function that blocks in C; under a cooperative scheduler in a native thread, while others run on."""
    if not is_green():
        return function(*args, **kwargs)
    waker, result, raised = Waker(), [], []
    context = contextvars.copy_context()  # the function runs in the scopes of its caller

    def run() -> None:
        try:
            result.append(context.run(function, *args, **kwargs))
        except BaseException as error:
            raised.append(error)
        finally:
            waker.wake()

    Thread(run, "kafka-exec-call")
    waker.wait(None)
    waker.close()
    if raised:
        raise raised[0]
    return result[0]
