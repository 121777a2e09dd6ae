"""The plan of a queue, from figures that an operator gives, or as the logs of its last hour have them."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any, NamedTuple

from celery import Celery

from kafka_exec.core.overview.planning.plan import STATE, Demand, PlanTerms, Present, QueuePlan, plan
from kafka_exec.core.overview.queues import QueueReport
from kafka_exec.errors import NotFound
from kafka_exec.kafka.overview.rates import measures
from kafka_exec.kafka.overview.reading import layout_of
from kafka_exec.operations.queues import reports
from kafka_exec.settings.appconf import broker_home, settings_of

#: What is planned with where it is neither given nor known.
_SLOTS, _REPLICAS = 4, 3


class Given(NamedTuple):
    """The figures that an operator gives; None: those that were measured, or those of the settings.

    Attributes:
        retention: seconds.
    """

    rate: float | None = None
    run: float | None = None
    size: float | None = None
    keys: int | None = None
    slots: int | None = None
    retention: float | None = None
    replicas: int | None = None


def plan_for(app: Celery, rate: float, run: float, given: Given) -> QueuePlan:
    """The plan for a queue to which so many tasks come in a second, each of which runs so many seconds. It does not connect.

    Raises:
        NotInKafka: the broker is not kafka-exec.
        ConfigurationError: a setting is wrong.
    """
    settings = settings_of(app)
    demand = Demand(rate, rate, run, state=STATE if _keeps_states(app) else 0.0)
    return plan(_as_given(demand, given), _terms(app, given, settings, None), settings)


def plan_of(app: Celery, queue: str, given: Given, since: float, now: float) -> QueuePlan:
    """The plan for a queue as its log has it since a time; what is given replaces what was measured. Times: epoch seconds.

    Raises:
        NotFound: there is no such queue, or nothing came to it, or no run has ended.
        ConnectionFailed: the cluster does not answer.
    """
    space = broker_home(app)
    (report,) = reports(space, (queue,), now)
    layout = layout_of(space.cluster)
    topics = layout.queues(space.topics, (queue,))
    found = measures(space.cluster, space.topics, layout, topics, since, now)
    run = found.run if given.run is None else given.run
    demand = found.demand(run or 0.0, report.counts.ready)
    if demand is None:
        raise NotFound(f"no task was sent to {queue} in that time: name a longer one, or give --rate and --run alone")
    if run is None:
        raise NotFound(f"no task of {queue} has ended in that time: give --run, or a longer time")
    partitions = sum(layout.counts[topic] for topic in topics.values())
    present = Present(report.counts.running, report.slots, report.workers, partitions)
    return plan(_as_given(demand, given), _terms(app, given, space.settings, report), space.settings, present)


def _as_given(demand: Demand, given: Given) -> Demand:
    if given.rate is not None:
        factor = given.rate / demand.rate
        demand = replace(demand, rate=given.rate, peak=given.rate, busiest=demand.busiest * factor)
    if given.keys is not None:
        demand = replace(demand, keys=given.keys, busiest=demand.peak / given.keys)
    return demand if given.size is None else replace(demand, message=given.size)


def _terms(app: Celery, given: Given, settings: Any, report: QueueReport | None) -> PlanTerms:
    measured = report.slots // report.workers if report is not None and report.workers else 0
    return PlanTerms(
        given.slots or measured or _SLOTS,
        settings.audit_retention if given.retention is None else given.retention,
        _expires(app),
        given.replicas or settings.replication or _REPLICAS,
    )


def _keeps_states(app: Celery) -> bool:
    return bool(app.conf.result_backend) and not app.conf.task_ignore_result


def _expires(app: Celery) -> float | None:
    """The seconds for which states are kept after a task's end; None: they are never deleted."""
    found = app.conf.result_expires
    return float(found.total_seconds() if isinstance(found, timedelta) else found or 0) or None
