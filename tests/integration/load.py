"""A publisher under load, for the tests that take its broker away."""

from __future__ import annotations

import threading
import time

from celery import Celery
from kombu.exceptions import OperationalError

from tests.integration.workers import PATIENCE, until


class Load:
    """Publishes tasks from a thread until it is stopped: one confirmed publish after another, with a pause between.

    Args:
        keys: every other task has an ordering key, one of so many.
        expected: the errors that a publisher is told to expect.

    Attributes:
        began: when each task began to be published, epoch seconds.
        confirmed: when each task was confirmed, epoch seconds.
        uncertain: the errors of those that were not.
        unexpected: errors that are not expected; they end the load.
        slowest: how long a publish took at most, seconds.
    """

    def __init__(
        self,
        app: Celery,
        seconds: float = 0.0,
        pause: float = 0.01,
        *,
        keys: int = 0,
        expected: tuple[type[Exception], ...] = (OperationalError,),
    ) -> None:
        self.began: dict[str, float] = {}
        self.confirmed: dict[str, float] = {}
        self.uncertain: dict[str, BaseException] = {}
        self.unexpected: list[BaseException] = []
        self.slowest = 0.0
        self._app = app
        self._seconds = seconds
        self._pause = pause
        self._keys = keys
        self._expected = expected
        self._lanes: dict[str, list[str]] = {}
        self._number = 0
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Load:
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._stopping.set()
        self._thread.join(PATIENCE)
        assert not self._thread.is_alive(), "a publisher hangs"

    def _run(self) -> None:
        while not self._stopping.wait(self._pause):
            self._number += 1
            task_id = f"task-{id(self):x}-{self._number}"
            key = f"k{self._number % self._keys}" if self._keys and self._number % 2 else None
            began = time.monotonic()
            self.began[task_id] = time.time()
            try:
                self._app.tasks["work"].apply_async((self._seconds,), task_id=task_id, ordering_key=key)
                self.confirmed[task_id] = time.time()
                if key is not None:
                    self._lanes.setdefault(key, []).append(task_id)
            except self._expected as error:
                self.uncertain[task_id] = error
            except BaseException as error:
                self.unexpected.append(error)
                return
            self.slowest = max(self.slowest, time.monotonic() - began)

    def lanes(self) -> list[list[str]]:
        """The confirmed tasks of each ordering key, in the order in which they were sent."""
        return [list(lane) for lane in self._lanes.values()]

    def wait_for(self, number: int) -> None:
        """Waits until so many more tasks were confirmed."""
        wanted = len(self.confirmed) + number
        until(lambda: len(self.confirmed) >= wanted or self.unexpected, what=f"{number} more published tasks")
