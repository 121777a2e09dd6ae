"""Retry policies: how often a failed task is retried, after which delays, and after which errors."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from kafka_exec.errors import Recoverable, Unrecoverable

#: The shortest delay, seconds: a shorter one would be a hot loop.
SHORTEST = 0.1
#: The longest delay, seconds: a longer one is a mistake.
LONGEST = 366 * 86400.0


def _check_number(name: str, value: Any, least: float) -> None:
    if not isinstance(value, (int, float)) or isinstance(value, bool) or not math.isfinite(value):
        raise ValueError(f"{name} must be a number, not {value!r}")
    if value < least:
        raise ValueError(f"{name} must be at least {least:g}, not {value!r}")


@dataclass(frozen=True)
class Phase:
    """A series of retries with growing delays: the n-th retry, from 0, comes after ``base + first * factor ** n`` seconds.

    Attributes:
        tries: how many retries, at least 1.
        first: the first delay without ``base``, seconds.
        factor: at least 1; with 1 the delays do not grow.
        base: seconds that are added to each delay.

    Raises:
        ValueError: one of these is wrong.
    """

    tries: int
    first: float
    factor: float = 2.0
    base: float = 0.0

    def __post_init__(self) -> None:
        if not isinstance(self.tries, int) or isinstance(self.tries, bool) or self.tries < 1:
            raise ValueError(f"a phase has at least one try, not tries={self.tries!r}")
        _check_number("first", self.first, 0.0)
        _check_number("factor", self.factor, 1.0)
        _check_number("base", self.base, 0.0)
        if self.base + self.first < SHORTEST:
            raise ValueError(
                f"a phase that begins with {self.base + self.first} s would be a hot loop: base + first must be at "
                f"least {SHORTEST} s"
            )

    def delay(self, n: int) -> float:
        """The delay before the n-th retry of the phase, from 0, in seconds; infinite if a float cannot hold it."""
        try:
            return self.base + self.first * self.factor**n
        except OverflowError:
            return math.inf


#: For services that are away for minutes, or for days: ten retries from 15 s on, each delay twice the one before; then ten
#: more, each after 15360 s (the next delay of the first phase) and a part that doubles from 300 s on. The last is 47 hours.
TWO_PHASES = (Phase(10, 15.0), Phase(10, 300.0, base=15.0 * 2**10))


@dataclass(frozen=True)
class RetryPolicy:
    """The retries of a task: ``@app.task(retrying=RetryPolicy(on=(ConnectionError,)))``. By default in two phases.

    A retry is a run after a failed one: a task with ``tries`` retries runs at most ``tries + 1`` times. A task is not
    retried after an exception of :class:`~kafka_exec.Unrecoverable` or of ``never``. It is retried after one of
    :class:`~kafka_exec.Recoverable`, of ``on`` or of ``by_error``.

    Attributes:
        phases: one after the other; their tries add up.
        on: the exceptions after which a task is retried, with their subclasses.
        never: the exceptions after which it is not retried; they win over all other attributes.
        by_error: other phases after these exceptions and their subclasses; the nearest base class counts. All retries of
            a task count, whichever errors they followed.
        jitter: each delay is random: at least the delay of its phase, and less than twice as much. So tasks that failed
            together do not run again together.
        cap: the longest delay with its jitter, seconds; None: no cap.

    Raises:
        ValueError: an attribute is wrong, or a delay is shorter than 0.1 s, or longer than a year.
    """

    phases: tuple[Phase, ...] = TWO_PHASES
    on: tuple[type[Exception], ...] = (Exception,)
    never: tuple[type[Exception], ...] = ()
    by_error: Mapping[type[Exception], tuple[Phase, ...]] = field(default_factory=dict, hash=False)
    jitter: bool = True
    cap: float | None = None

    def __post_init__(self) -> None:
        for name in ("on", "never"):
            if not isinstance(getattr(self, name), tuple):
                raise ValueError(f"{name} must be a tuple, of one exception type too, not {getattr(self, name)!r}")
        if not isinstance(self.by_error, Mapping):
            raise ValueError(f"by_error must be a mapping of exceptions to their phases, not {self.by_error!r}")
        for each in (*self.on, *self.never, *self.by_error):
            if not (isinstance(each, type) and issubclass(each, Exception)):
                raise ValueError(f"only exceptions can be retried, {each!r} is none")
        if self.cap is not None:
            _check_number("cap", self.cap, SHORTEST)
        for phases in (self.phases, *self.by_error.values()):
            self._check_phases(phases)

    def _check_phases(self, phases: Any) -> None:
        if not isinstance(phases, tuple):
            raise ValueError(f"phases must be a tuple, of one Phase too, not {phases!r}")
        if not phases or not all(isinstance(phase, Phase) for phase in phases):
            raise ValueError(f"phases must be one or several Phase, not {phases!r}")
        longest = max(self._bounds(phases, retry)[1] for retry in _firsts_and_lasts(phases))
        if longest > LONGEST:
            raise ValueError(f"a delay of {longest:.0f} s is more than a year: fewer tries, or a cap")

    @classmethod
    def fast(cls, tries: int = 3, **others: Any) -> RetryPolicy:
        """A policy with retries after 5, 10, 20 … seconds. ``others``: the other attributes."""
        return cls(phases=(Phase(tries, 5.0),), **others)

    def tries(self, error: BaseException | None = None) -> int:
        """The number of retries in all, if ``error`` is the last one; None: an error without phases of its own."""
        return sum(phase.tries for phase in self._phases(error))

    def retries_after(self, error: BaseException) -> bool:
        """True if a task that raised this error is retried, as long as it has tries left."""
        if isinstance(error, (Unrecoverable, *self.never)):
            return False
        return isinstance(error, (Recoverable, *self.on, *self.by_error))

    def delay(self, retry: int, random: float = 0.0, error: BaseException | None = None) -> float:
        """The delay before a retry, in seconds.

        Args:
            retry: the number of the retry, from 1.
            random: a random number for the jitter, at least 0 and less than 1.
            error: the error before it; None: an error without phases of its own.

        Raises:
            ValueError: the policy has no such retry, or ``random`` is out of its range.
        """
        if not 1 <= retry <= self.tries(error):
            raise ValueError(f"there are retries 1 to {self.tries(error)}, and no {retry}")
        if not 0.0 <= random < 1.0:
            raise ValueError(f"a random number is at least 0 and less than 1, not {random}")
        low, high = self._bounds(self._phases(error), retry)
        if not self.jitter:
            return low
        # Rounding may lift the sum to the upper bound, which it must not reach.
        return min(low + random * (high - low), math.nextafter(high, low))

    def _phases(self, error: BaseException | None) -> tuple[Phase, ...]:
        kinds = type(error).__mro__
        return next((self.by_error[kind] for kind in kinds if kind in self.by_error), self.phases)

    def _bounds(self, phases: tuple[Phase, ...], retry: int) -> tuple[float, float]:
        """The shortest delay of a retry, and the bound that it stays below; both are the same without jitter."""
        n = retry - 1
        for phase in phases:
            if n < phase.tries:
                break
            n -= phase.tries
        cap = math.inf if self.cap is None else self.cap
        low = phase.delay(n)
        return min(low, cap), min(low * 2 if self.jitter else low, cap)


def _firsts_and_lasts(phases: tuple[Phase, ...]) -> Iterator[int]:
    before = 0
    for phase in phases:
        yield from (before + 1, before + phase.tries)
        before += phase.tries
