"""``celery kafka doctor``: the cluster, its topics, this user's rights and the app's settings, each judged in a line."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import click

from kafka_exec.cli.common import FOUND_WRONG, echo_table, json_option
from kafka_exec.settings.appconf import broker_home, is_our_url

if TYPE_CHECKING:
    from kafka_exec.core.doctor.app import AppFacts
    from kafka_exec.core.overview.problems import Problem


@click.command()
@json_option
@click.pass_context
def doctor(context: click.Context, as_json: bool) -> None:
    """Look for what is wrong, or may become so, in the cluster, its topics, the rights and settings.

    Each operation is tried on a topic of its own. The status is 3 if something is wrong.

    \b
    Example: celery -A shop kafka doctor
    """
    from kafka_exec.core.overview.problems import Severity

    found = list(_findings(context.obj.app))
    if as_json:
        for each in found:
            click.echo(json.dumps({"schema": 1, **each._asdict(), "severity": each.severity.value}))
    else:
        echo_table([("", "FINDING", "COMMAND"), *((each.severity.value, each.text, each.command) for each in found)])
        counts = [sum(each.severity is severity for each in found) for severity in (Severity.WRONG, Severity.WARNING)]
        click.echo("{} wrong, {} to be looked at".format(*counts))
    if any(each.severity is Severity.WRONG for each in found):
        sys.exit(FOUND_WRONG)


def _findings(app: Any) -> Iterator[Problem]:
    from kafka_exec.core.doctor.access import of_access, of_brokers, of_clock
    from kafka_exec.core.doctor.app import of_app
    from kafka_exec.core.doctor.topics import of_topics
    from kafka_exec.core.overview.problems import problems
    from kafka_exec.kafka.doctor.facts import cluster_facts
    from kafka_exec.kafka.doctor.trials import try_all
    from kafka_exec.kafka.overview.queues import Overview

    space, now = broker_home(app), time.time()
    settings = space.cluster.settings
    facts, tried = cluster_facts(space.cluster, space.topics), try_all(space.cluster, space.topics)
    survey = Overview(space.cluster, space.topics, facts.layout).survey(now)
    partitions = {
        name: facts.topics[space.topics.queue(name)].partitions for name in (each.name for each in survey.queues)
    }
    yield from of_brokers(facts.brokers)
    yield from of_topics(facts.topics, settings, space.topics, len(facts.brokers), space.cluster.largest)
    yield from of_access(tried.results, space.topics.prefix)
    if tried.clock is not None:
        yield from of_clock(*tried.clock)
    has_entries = space.topics.schedule in facts.topics
    yield from of_app(_app_facts(app, settings, has_entries=has_entries), survey.nodes, partitions)
    yield from problems(survey.queues, survey.nodes, now)


def _app_facts(app: Any, settings: Any, *, has_entries: bool) -> AppFacts:
    from kombu.utils.url import maybe_sanitize_url

    from kafka_exec.beat.periodic import PeriodicTasks
    from kafka_exec.core.doctor.app import AppFacts
    from kafka_exec.settings.inventory import origins
    from kafka_exec.settings.options import advice

    results = str(app.conf.result_backend or "")
    entries = has_entries and sum(not each.row.get("paused") for each in PeriodicTasks(app).all())
    return AppFacts(
        origins(settings),
        advice(app.conf),
        maybe_sanitize_url(results) if results else "",
        is_our_url(results),
        entries,
    )
