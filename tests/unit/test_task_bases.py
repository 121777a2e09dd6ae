"""A task has our base class beneath whatever base class its application gives it."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from typing import Any

import celery
import pytest
from celery import Celery, _state, shared_task
from celery.contrib.django.task import DjangoTask
from hypothesis import given
from hypothesis import strategies as st

import kafka_exec
from kafka_exec import Phase, RetryPolicy
from kafka_exec.app.task import with_ours
from kafka_exec.core.worker.versions import capabilities

TWICE = RetryPolicy((Phase(2, 10.0),), jitter=False)
OPTIONS: dict[str, Any] = {"retrying": TWICE, "version": 2, "runs_versions": (1,)}


class Mixin:
    def greeting(self) -> str:
        return "the application's"


class Plain(Mixin, celery.Task):
    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return "called", super().__call__(*args, **kwargs)


class Late(celery.Task, Mixin):
    """Its mixin comes after Celery's class."""


class Derived(Plain):
    retrying = TWICE
    version = 2
    runs_versions = (1,)


class Whole(Derived):
    """A task that is a class, as Celery had them once."""

    name = "fail"

    def run(self) -> None:
        fail()


def fail() -> None:
    raise ValueError("no")


def seven() -> int:
    return 7


def make_app(**options: Any) -> Celery:
    return Celery("bases", broker="memory://", set_as_current=False, **options)


def with_task_attribute() -> Celery:
    app = make_app()
    app.Task = Plain  # as applications had it before task_cls
    return app


class AppOfItsOwn(Celery):
    task_cls = Plain


def shared() -> Any:
    """A task of all apps, while it is made."""
    before = set(_state._on_app_finalizers)
    try:
        shared_task(name="fail", base=Plain, **OPTIONS)(fail)
        return make_app().tasks["fail"]
    finally:
        _state._on_app_finalizers.intersection_update(before)


def decorated(app: Celery, **options: Any) -> Any:
    return app.task(shared=False, name="fail", **options)(fail)


WAYS: dict[str, tuple[Callable[[], Any], type]] = {
    "none": (lambda: decorated(make_app(), **OPTIONS), celery.Task),
    "base": (lambda: decorated(make_app(), base=Plain, **OPTIONS), Plain),
    "base_before_its_mixin": (lambda: decorated(make_app(), base=Late, **OPTIONS), Late),
    "base_with_the_options": (lambda: decorated(make_app(), base=Derived), Derived),
    "ours": (lambda: decorated(make_app(), base=kafka_exec.Task, **OPTIONS), kafka_exec.Task),
    "django": (lambda: decorated(make_app(task_cls=DjangoTask), **OPTIONS), DjangoTask),
    "task_cls": (lambda: decorated(make_app(task_cls=Plain), **OPTIONS), Plain),
    "task_cls_by_name": (lambda: decorated(make_app(task_cls=f"{__name__}:Plain"), **OPTIONS), Plain),
    "app_task": (lambda: decorated(with_task_attribute(), **OPTIONS), Plain),
    "app_class": (lambda: decorated(AppOfItsOwn("a", broker="memory://", set_as_current=False), **OPTIONS), Plain),
    "app_copied": (lambda: decorated(pickle.loads(pickle.dumps(make_app(task_cls=Plain))), **OPTIONS), Plain),
    "shared_task": (shared, Plain),
    "class": (lambda: make_app().register_task(Whole), Whole),
    "instance": (lambda: make_app().register_task(Whole()), Whole),
}


@pytest.mark.parametrize(("make", "base"), WAYS.values(), ids=WAYS)
def test_a_task_has_our_features_and_those_of_its_base_class(make: Callable[[], Any], base: type) -> None:
    task = make()
    assert isinstance(task, kafka_exec.Task)
    assert isinstance(task, base)
    assert set(capabilities([task])) == {"fail", "fail@1", "fail@2"}
    assert task.retrying is TWICE
    assert hasattr(task, "_run_once")
    assert getattr(task, "delay_on_commit", None) == (task.delay_on_commit if base is DjangoTask else None)
    if isinstance(task, Mixin):
        assert task.greeting() == "the application's"
    result = task.apply()
    assert repr(result.result) == "ValueError('no')"


def test_what_the_applications_base_class_defines_is_done() -> None:
    task = make_app().task(shared=False, name="add", base=Plain)(seven)
    assert task() == ("called", 7)
    assert task.retrying is None


def test_one_line_gives_all_tasks_retries_whatever_their_base_class() -> None:
    app = make_app(task_cls=DjangoTask)
    app.Task.retrying = TWICE
    assert decorated(app).retrying is TWICE


#: How a class is derived: of which of those before it (by number, modulo), in which order.
HIERARCHIES = st.lists(st.lists(st.integers(0, 9), min_size=1, max_size=3), min_size=1, max_size=8)


@given(HIERARCHIES, st.booleans())
def test_any_base_class_keeps_the_order_of_its_bases(plan: list[list[int]], ours: bool) -> None:
    classes: list[type] = [celery.Task, Mixin, *([kafka_exec.Task] if ours else [])]
    for number, parents in enumerate(plan):
        bases = dict.fromkeys(classes[parent % len(classes)] for parent in parents)
        try:
            classes.append(type(f"C{number}", tuple(bases), {}))
        except TypeError:
            continue  # Python has no order for these
    assert with_ours(celery.Task) is kafka_exec.Task
    for base in classes[1:]:
        mixed = with_ours(base)
        assert issubclass(mixed, kafka_exec.Task)
        assert [each for each in mixed.__mro__ if each in base.__mro__] == list(base.__mro__)
        assert (mixed.__name__, mixed.__module__) == (base.__name__, base.__module__)
        assert with_ours(mixed) is mixed
