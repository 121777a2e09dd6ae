"""The process of a periodic entry with ``on_node``: it lives as long as the claim, and so do its task's resources."""

from __future__ import annotations

import logging
import os
import signal
import threading
import time
from collections.abc import Callable
from queue import SimpleQueue
from typing import Any

from celery import states
from celery.concurrency.prefork import process_destructor, process_initializer

from kafka_exec.beat.run_messages import BeginRun, EndProcess, GoOnUntil, StopRun
from kafka_exec.errors import RunStopped
from kafka_exec.kafka.client.loop import run_once

logger = logging.getLogger("kafka_exec")

#: The process checks its lease this often, seconds.
_LOOK = 0.1


class EntryRunner:
    """The main object of the child process. Its main thread runs tasks; another thread listens to the node.

    The listening thread kills the process when the node has died or the lease is over.

    Args:
        connection: a pipe to the node. The node sends messages of :mod:`kafka_exec.beat.run_messages`; the process sends the
            ids of runs that are over.
        lease: the first lease, seconds of the monotonic clock; see :class:`GoOnUntil`.
    """

    def __init__(self, app: Any, connection: Any, hostname: str, lease: float) -> None:
        self._app = app
        self._connection = connection
        self._hostname = hostname
        self._lease = lease
        self._runs: SimpleQueue[BeginRun | None] = SimpleQueue()
        self._running = ""
        self._stop = StopRun("", "")

    def live(self, begin: Callable[[], None], end: Callable[[], None]) -> None:
        """Calls ``begin``, does the runs that the node sends until it sends the end, and calls ``end``."""
        process_initializer(self._app, self._hostname)
        # Only the node ends this process. The signal has a handler and is not ignored, because programs that the task starts
        # would inherit that.
        signal.signal(signal.SIGTERM, lambda *_: None)
        signal.signal(signal.SIGUSR1, self._interrupt)
        run_once("entry", self._listen)
        begin()
        while (run := self._runs.get()) is not None:
            self._perform(run)
            self._connection.send(run.request["id"])
        end()
        process_destructor(os.getpid(), 0)

    # -- the thread that listens ---------------------------------------------------------------------------------------

    def _listen(self) -> None:
        try:
            while True:
                if self._connection.poll(_LOOK):
                    self._take(self._connection.recv())
                elif time.monotonic() > self._lease:
                    logger.error("%s is stopped: its node is paused, or does not reach Kafka", self._running or "idle")
                    break
        except (EOFError, OSError):
            pass  # the node is dead
        except Exception:
            logger.exception("%s is stopped: what its node says is not understood", self._running or "idle")
        finally:
            os.kill(os.getpid(), signal.SIGKILL)

    def _take(self, order: BeginRun | StopRun | GoOnUntil | EndProcess) -> None:
        if isinstance(order, GoOnUntil):
            self._lease = order.until
        elif isinstance(order, BeginRun):
            self._runs.put(order)
        elif isinstance(order, EndProcess):
            self._runs.put(None)
        else:
            self._stop = order
            signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGUSR1)

    # -- the main thread -----------------------------------------------------------------------------------------------

    def _interrupt(self, *args: Any) -> None:
        if self._running and self._running == self._stop.run:
            self._running = ""  # once
            raise RunStopped(f"the run is stopped: {self._stop.reason}")

    def _perform(self, run: BeginRun) -> None:
        self._running = run.request["id"]
        try:
            # The run may have been stopped before it began. This is checked after ``_running`` is set, so that either this
            # check or the signal's handler sees the stop.
            again = run if self._stop.run != self._running else None
            while again is not None and time.monotonic() < self._lease:
                again = self._attempt(again)
        except RunStopped as stopped:
            logger.warning("%s[%s]: %s", run.task, run.request["id"], stopped)
        except BaseException as error:
            logger.error("%s[%s] has ended with %r", run.task, run.request["id"], error)
        finally:
            self._running = ""

    def _attempt(self, run: BeginRun) -> BeginRun | None:
        """Runs a task once. If the task asks for a retry, waits for its time and returns the run to do next; else None."""
        info = self._app.tasks[run.task].__trace__(run.request["id"], run.args, run.kwargs, dict(run.request))[1]
        if info is None or info.state != states.RETRY or info.retval.sig is None:
            return None
        retry = info.retval
        now = self._app.now()
        time.sleep(max(0.0, retry.when if isinstance(retry.when, (int, float)) else (retry.when - now).total_seconds()))
        return BeginRun(
            run.task,
            tuple(retry.sig.args),
            dict(retry.sig.kwargs),
            {**run.request, "retries": run.request["retries"] + 1},
        )
