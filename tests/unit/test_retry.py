"""Retries of failed tasks: their times, and tasks with a policy without any broker."""

from __future__ import annotations

import math
import pickle
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import celery
import pytest
from celery import Celery, signals
from celery.exceptions import Ignore, ImproperlyConfigured, Reject, Retry
from hypothesis import given
from hypothesis import strategies as st

import kafka_exec
from kafka_exec import Phase, Recoverable, RetryPolicy, Unrecoverable
from kafka_exec.app.durable.calls import Durable
from kafka_exec.core.worker.retry import LONGEST, SHORTEST
from kafka_exec.worker.request import is_acknowledged_on_failure

#: The delays of the default policy without jitter, seconds.
FIRST_PHASE = (15, 30, 60, 120, 240, 480, 960, 1920, 3840, 7680)
SECOND_PHASE = (15660, 15960, 16560, 17760, 20160, 24960, 34560, 53760, 92160, 168960)
TWO_PHASES = (*FIRST_PHASE, *SECOND_PHASE)

#: Celery has an option of its own for hard time limits.
IS_57 = hasattr(celery.Task, "acks_on_timeout")

ODD = 1.0 - 2**-53  # the largest number that random() returns


def delays(policy: RetryPolicy, random: float = 0.0) -> list[float]:
    return [policy.delay(n, random) for n in range(1, policy.tries() + 1)]


# -- delays ------------------------------------------------------------------------------------------------------------


def test_the_default_has_two_phases() -> None:
    policy = RetryPolicy(jitter=False)
    assert policy.tries() == 20
    assert delays(policy) == list(TWO_PHASES)
    assert delays(policy, ODD) == list(TWO_PHASES)


def test_the_fast_one_has_three_tries() -> None:
    assert delays(RetryPolicy.fast(jitter=False)) == [5.0, 10.0, 20.0]
    assert delays(RetryPolicy.fast(2, jitter=False)) == [5.0, 10.0], "three runs in all"
    assert RetryPolicy.fast(on=(OSError,)).on == (OSError,)


@pytest.mark.parametrize(
    ("policy", "expected"),
    [
        (RetryPolicy((Phase(3, 1.0, factor=1.0),), jitter=False), [1.0, 1.0, 1.0]),
        (RetryPolicy((Phase(2, 1.0, factor=3.0, base=10.0),), jitter=False), [11.0, 13.0]),
        (RetryPolicy((Phase(1, 7.0), Phase(2, 0.5)), jitter=False), [7.0, 0.5, 1.0]),
        (RetryPolicy((Phase(4, 1.0),), jitter=False, cap=3.0), [1.0, 2.0, 3.0, 3.0]),
        (RetryPolicy((Phase(5000, 1.0),), jitter=False, cap=3.0), [1.0, 2.0, *[3.0] * 4998]),
    ],
)
def test_delays(policy: RetryPolicy, expected: list[float]) -> None:
    assert delays(policy) == expected


def test_jitter_is_spread_between_the_delay_and_twice_as_much_within_the_cap() -> None:
    assert RetryPolicy.fast().delay(1, 0.5) == 7.5
    assert RetryPolicy.fast(cap=15.0).delay(2, 0.5) == 12.5
    assert RetryPolicy.fast(cap=15.0).delay(3, 0.5) == 15.0


phases = st.builds(
    Phase,
    tries=st.integers(1, 8),
    first=st.floats(SHORTEST, 3600.0),
    factor=st.floats(1.0, 3.0),
    base=st.floats(0.0, 3600.0),
)


@given(
    st.lists(phases, min_size=1, max_size=3),
    st.none() | st.floats(SHORTEST, 1e7),
    st.just(ODD) | st.floats(0.0, 1.0, exclude_max=True),
)
def test_a_delay_is_bounded_by_its_phase_and_the_cap(plan: list[Phase], cap: float | None, random: float) -> None:
    policy = RetryPolicy(tuple(plan), cap=cap)
    plain = replace(policy, jitter=False)
    assert policy.tries() == sum(phase.tries for phase in plan)
    for n in range(1, policy.tries() + 1):
        least, delay = plain.delay(n), policy.delay(n, random)
        assert SHORTEST <= least <= delay < 2 * least
        assert delay <= (cap or math.inf)


@pytest.mark.parametrize(("retry", "random"), [(0, 0.0), (4, 0.0), (1, 1.0), (1, -0.1), (1, math.nan)])
def test_there_is_no_delay_of_what_does_not_exist(retry: int, random: float) -> None:
    with pytest.raises(ValueError, match=r"retries 1 to 3|random number"):
        RetryPolicy.fast().delay(retry, random)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Phase(0, 1.0), "at least one try"),
        (lambda: Phase(1.5, 1.0), "at least one try"),  # type: ignore[arg-type]
        (lambda: Phase(True, 1.0), "at least one try"),
        (lambda: Phase(1, 0.0), "hot loop"),
        (lambda: Phase(1, SHORTEST / 2), "hot loop"),
        (lambda: Phase(1, -5.0, base=10.0), "first must be at least 0"),
        (lambda: Phase(1, math.nan), "first must be a number"),
        (lambda: Phase(1, "5"), "first must be a number"),  # type: ignore[arg-type]
        (lambda: Phase(1, 5.0, factor=0.5), "factor must be at least 1"),
        (lambda: Phase(1, 5.0, factor=math.inf), "factor must be a number"),
        (lambda: Phase(1, 5.0, base=-1.0), "base must be at least 0"),
        (lambda: RetryPolicy(()), "one or several Phase"),
        (lambda: RetryPolicy((5, 10)), "one or several Phase"),  # type: ignore[arg-type]
        (lambda: RetryPolicy(Phase(1, 5.0)), "phases must be a tuple"),  # type: ignore[arg-type]
        (lambda: RetryPolicy(on=OSError), "on must be a tuple"),  # type: ignore[arg-type]
        (lambda: RetryPolicy(on=("OSError",)), "'OSError' is none"),  # type: ignore[arg-type]
        (lambda: RetryPolicy(never=(KeyboardInterrupt,)), "is none"),  # type: ignore[arg-type]
        (lambda: RetryPolicy(by_error=((OSError, ()),)), "by_error must be a mapping"),  # type: ignore[arg-type]
        (lambda: RetryPolicy(by_error={"OSError": ()}), "'OSError' is none"),  # type: ignore[dict-item]
        (lambda: RetryPolicy(by_error={OSError: Phase(1, 1.0)}), "phases must be a tuple"),  # type: ignore[dict-item]
        (lambda: RetryPolicy(by_error={OSError: (Phase(1, LONGEST),)}), "more than a year"),
        (lambda: RetryPolicy(cap=0), "cap must be at least 0.1"),
        (lambda: RetryPolicy(cap=math.inf), "cap must be a number"),
        (lambda: RetryPolicy((Phase(1, LONGEST + 1),), jitter=False), "more than a year"),
        (lambda: RetryPolicy((Phase(1, LONGEST),)), "more than a year"),
        (lambda: RetryPolicy((Phase(5000, 1.0),)), "more than a year"),
    ],
)
def test_a_wrong_policy_is_refused(make: Callable[[], Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()


# -- errors ------------------------------------------------------------------------------------------------------------


class Busy(Recoverable):
    pass


class Wrong(Unrecoverable):
    pass


class Torn(Recoverable, Unrecoverable):
    pass


@pytest.mark.parametrize(
    ("policy", "error", "expected"),
    [
        (RetryPolicy(), ValueError(), True),
        (RetryPolicy(), Recoverable(), True),
        (RetryPolicy(), Unrecoverable(), False),
        (RetryPolicy(), Wrong(), False),
        (RetryPolicy(), KeyboardInterrupt(), False),
        (RetryPolicy(on=(OSError,)), ConnectionError(), True),
        (RetryPolicy(on=(OSError,)), ValueError(), False),
        (RetryPolicy(on=(OSError,)), Busy(), True),
        (RetryPolicy(on=()), Busy(), True),
        (RetryPolicy(on=()), ValueError(), False),
        (RetryPolicy(never=(OSError,)), ConnectionError(), False),
        (RetryPolicy(on=(ConnectionError,), never=(OSError,)), ConnectionError(), False),
        (RetryPolicy(never=(Busy,)), Busy(), False),
        (RetryPolicy(on=(Unrecoverable,)), Unrecoverable(), False),
        (RetryPolicy(), Torn(), False),
        (RetryPolicy(on=(), by_error={OSError: (Phase(1, 1.0),)}), ConnectionError(), True),
        (RetryPolicy(never=(OSError,), by_error={OSError: (Phase(1, 1.0),)}), OSError(), False),
    ],
)
def test_which_errors_are_retried(policy: RetryPolicy, error: BaseException, expected: bool) -> None:
    assert policy.retries_after(error) is expected


@pytest.mark.parametrize("kind", [Recoverable, Unrecoverable, Busy])
def test_errors_can_be_pickled_and_have_a_cause(kind: type[Exception]) -> None:
    with pytest.raises(kind) as raised:
        raise kind("no", 7) from OSError("away")
    assert isinstance(raised.value.__cause__, OSError)
    copied = pickle.loads(pickle.dumps(raised.value))
    assert (type(copied), copied.args) == (kind, ("no", 7))


# -- tasks, run in place -----------------------------------------------------------------------------------------------


def make_app(**conf: Any) -> Celery:
    app = Celery("retrying", broker="memory://", set_as_current=False)
    app.conf.update(conf)
    return app


@contextmanager
def retries() -> Iterator[list[tuple[str, float]]]:
    """The error and the delay of each retry from here on."""
    found: list[tuple[str, float]] = []

    def note(reason: Retry, **kwargs: Any) -> None:
        found.append((repr(reason.exc), reason.when))

    signals.task_retry.connect(note)
    try:
        yield found
    finally:
        signals.task_retry.disconnect(note)


EXACT = RetryPolicy.fast(jitter=False)


def test_a_task_is_retried_until_it_succeeds() -> None:
    app = make_app()

    @app.task(shared=False, bind=True, retrying=EXACT)
    def flaky(self: Any, failures: int) -> int:
        if self.request.retries < failures:
            raise ValueError(self.request.retries)
        return int(self.request.retries)

    with retries() as noted:
        assert flaky.apply((2,)).get() == 2
    assert noted == [("ValueError(0)", 5.0), ("ValueError(1)", 10.0)]


def test_a_task_without_tries_left_fails_with_its_own_error() -> None:
    app = make_app()
    runs = []

    @app.task(shared=False, retrying=EXACT)
    def hopeless(text: str) -> None:
        runs.append(text)
        raise ValueError(text, len(runs))

    with retries() as noted:
        result = hopeless.apply(("no",))
    assert (result.state, repr(result.result)) == ("FAILURE", "ValueError('no', 4)")
    assert [delay for _, delay in noted] == [5.0, 10.0, 20.0]
    assert "in hopeless" in result.traceback


def test_jitter_is_drawn_for_each_retry() -> None:
    app = make_app()

    @app.task(shared=False, retrying=RetryPolicy((Phase(30, 10.0, factor=1.0),)))
    def hopeless() -> None:
        raise ValueError

    with retries() as noted:
        hopeless.apply()
    drawn = [delay for _, delay in noted]
    assert len(set(drawn)) == 30
    assert all(10.0 <= delay < 20.0 for delay in drawn)


@pytest.mark.parametrize(
    ("error", "policy", "attempts"),
    [
        (Wrong("no"), EXACT, 1),
        (OSError("no"), replace(EXACT, on=(ValueError,)), 1),
        (Busy("no"), replace(EXACT, on=(ValueError,)), 4),
        (OSError("no"), replace(EXACT, never=(OSError,)), 1),
        (Ignore("no"), EXACT, 1),
        (Reject("no"), EXACT, 1),
    ],
)
def test_a_task_is_retried_after_the_errors_of_its_policy(error: Exception, policy: RetryPolicy, attempts: int) -> None:
    app = make_app()
    runs = []

    @app.task(shared=False, retrying=policy)
    def failing() -> None:
        runs.append(1)
        raise error

    failing.apply()
    assert len(runs) == attempts


def test_each_error_has_its_own_delays_and_tries_and_others_the_default() -> None:
    app = make_app()
    policy = replace(
        EXACT,
        by_error={
            OSError: (Phase(9, 0.5, factor=1.0),),
            ConnectionError: (Phase(2, 60.0),),
            KeyError: (Phase(1, 1.0),),
        },
    )
    errors: list[Exception] = [FileNotFoundError(), BrokenPipeError(), ValueError(), OSError(), KeyError()]
    raised = iter(errors)

    @app.task(shared=False, retrying=policy)
    def failing() -> None:
        raise next(raised)

    with retries() as noted:
        result = failing.apply()
    assert noted == [
        ("FileNotFoundError()", 0.5),
        ("BrokenPipeError()", 120.0),
        ("ValueError()", 20.0),
        ("OSError()", 0.5),
    ]
    assert isinstance(result.result, KeyError)


def test_a_task_that_is_called_as_a_function_raises_what_it_raises() -> None:
    app = make_app()

    @app.task(shared=False, retrying=EXACT)
    def failing() -> None:
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        failing()


def test_self_retry_works_beside_a_policy_and_counts_as_a_try() -> None:
    app = make_app()

    @app.task(shared=False, bind=True, retrying=EXACT)
    def both(self: Any, value: int) -> None:
        if self.request.retries == 0:
            raise self.retry(args=(value + 1,), countdown=77)
        raise ValueError(value)

    with retries() as noted:
        result = both.apply((1,))
    assert noted == [("None", 77), ("ValueError(2)", 10.0), ("ValueError(2)", 20.0)]
    assert repr(result.result) == "ValueError(2)"


def test_autoretry_works_where_there_is_no_policy() -> None:
    app = make_app()

    @app.task(shared=False, autoretry_for=(ValueError,), max_retries=2, default_retry_delay=9)
    def failing() -> None:
        raise ValueError("no")

    with retries() as noted:
        result = failing.apply()
    assert [delay for _, delay in noted] == [9, 9]
    assert repr(result.result) == "ValueError('no')"


# -- base classes and options ------------------------------------------------------------------------------------------


class Base(kafka_exec.Task):
    retrying = EXACT


class Plain(celery.Task):
    pass


class Whole(Base):
    """A task that is a class, as Celery had them once."""

    name = "whole"

    def run(self) -> None:
        raise ValueError(self.request.retries)


def fail() -> None:
    raise ValueError("no")


def count(task: Any) -> int:
    """The number of retries of a task that fails."""
    with retries() as noted:
        task.apply()
    return len(noted)


def test_a_policy_comes_from_a_base_class_too() -> None:
    assert count(make_app().task(shared=False, base=Base)(fail)) == 3
    assert count(Celery("c", broker="memory://", set_as_current=False, task_cls=Base).task(shared=False)(fail)) == 3
    app = make_app()
    assert count(app.register_task(Whole())) == 3
    assert count(app.task(shared=False, base=Base, retrying=None)(fail)) == 0


def test_one_line_gives_all_tasks_of_an_app_retries_and_dead_letters() -> None:
    app = make_app()
    app.Task.retrying = EXACT
    picky = replace(EXACT, on=(OSError,))
    tasks = [app.task(shared=False, name=name)(fail) for name in "ab"]
    others = [app.task(shared=False, name=repr(own), retrying=own)(fail) for own in (None, picky)]
    assert [(count(task), is_acknowledged_on_failure(task)) for task in tasks] == [(3, False)] * 2
    assert [(count(task), is_acknowledged_on_failure(task)) for task in others] == [(0, True), (0, False)]
    assert make_app().Task.retrying is None


def test_a_policy_may_be_annotated_as_other_options() -> None:
    task = make_app(task_annotations={"fail": {"retrying": EXACT}}).task(shared=False, name="fail")(fail)
    assert (count(task), is_acknowledged_on_failure(task)) == (3, False)


def test_a_task_that_is_bound_again_is_wrapped_once() -> None:
    app = make_app()
    task = app.task(shared=False, retrying=EXACT)(fail)
    task.bind(app)
    with retries() as noted:
        task.apply()
    assert [error for error, _ in noted] == ["ValueError('no')"] * 3


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"retrying": 3}, "must be a RetryPolicy, not 3"),
        ({"retrying": EXACT, "autoretry_for": (OSError,)}, "name those exceptions in the policy's `on`"),
    ],
)
def test_a_policy_is_never_ignored(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ImproperlyConfigured, match=message):
        make_app().task(shared=False, **options)(fail).bind  # noqa: B018 - makes the task


def test_a_class_with_a_policy_is_not_registered_for_autoretry() -> None:
    with pytest.raises(ImproperlyConfigured, match="retrying=None"):
        make_app().register_task(Whole(), autoretry_for=(OSError,))


@pytest.mark.parametrize(
    ("conf", "options", "expected"),
    [
        ({}, {"retrying": EXACT}, (False, True)),
        ({}, {}, (True, True)),
        ({}, {"retrying": EXACT, "acks_on_failure": True}, (True, True)),
        ({}, {"retrying": EXACT, "acks_on_failure_or_timeout": True}, (True, True)),
        ({"task_acks_on_failure": True}, {"retrying": EXACT}, (True, True)),
        ({"task_acks_on_failure_or_timeout": True}, {"retrying": EXACT}, (True, True)),
    ],
)
def test_a_failed_task_with_a_policy_becomes_a_dead_letter_unless_said_otherwise(
    conf: dict[str, Any], options: dict[str, Any], expected: tuple[bool, bool]
) -> None:
    task = make_app(**conf).task(shared=False, **options)(fail)
    # Celery delivers a task again at once that is not acknowledged on its hard time limit.
    on_timeout = task.acks_on_timeout if IS_57 else task.acks_on_failure_or_timeout
    assert (is_acknowledged_on_failure(task), on_timeout) == expected


def test_a_task_without_a_policy_is_celerys() -> None:
    ours, theirs = make_app(), Celery("plain", broker="memory://", set_as_current=False, fixups=set())
    made = [app.task(shared=False, name="fail")(fail) for app in (ours, theirs)]
    assert isinstance(made[0], kafka_exec.Task)
    assert not isinstance(made[1], kafka_exec.Task)
    left_out = {"app", "_app", "request_stack", "run", "__header__", "_backend"}
    names = {name for name in dir(made[1]) if not name.startswith("__") and name not in left_out}
    assert set(dir(made[0])) - set(dir(made[1])) - set(dir(Durable)) == {"retrying", "version", "runs_versions"}
    plain = (int, float, str, tuple, type(None))
    values = [{n: v for n in names if isinstance(v := getattr(task, n), plain)} for task in made]
    assert values[0] == values[1]
    assert made[0].run is fail


def test_another_base_class_of_an_app_stays() -> None:
    app = Celery("c", broker="memory://", set_as_current=False, task_cls=Plain)
    assert not issubclass(app.Task, kafka_exec.Task)
    copied = pickle.loads(pickle.dumps(make_app()))
    assert issubclass(copied.Task, kafka_exec.Task)
