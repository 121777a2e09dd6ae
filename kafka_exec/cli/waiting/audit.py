"""``celery kafka audit``: if all that is promised was kept, by the logs of the queues."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import click

from kafka_exec.cli.common import FOUND_WRONG, echo_table, json_option
from kafka_exec.cli.tasks.choosing import moment
from kafka_exec.core.overview.times import time_of
from kafka_exec.settings.appconf import broker_home

if TYPE_CHECKING:
    from kafka_exec.kafka.overview.auditing import PartitionAudit

COLUMNS = ("QUEUE", "SENT", "ENDED", "RUNNING", "LOST-RUNS", "WAITING", "REPEATED", "BREACHES")

#: The latest breaches of a partition are printed, so many of them.
_SHOWN = 20


@click.command()
@click.argument("names", metavar="[QUEUE]...", nargs=-1)
@click.option("--from", "since", type=moment, metavar="TIME", default="1h", show_default=True, help="Sent since then.")
@click.option("--to", "until", type=moment, metavar="TIME", default="0 s", help="Sent before then; now by default.")
@json_option
@click.pass_context
def audit(context: click.Context, names: tuple[str, ...], since: float, until: float, as_json: bool) -> None:
    """Find lost and repeated tasks, and keys out of order.

    It ends with status 3 if there are any. It reads Kafka alone, as far back as records are kept after their end
    (kafka_exec_audit_retention).

    \b
    Example: celery -A shop kafka audit --from 2h
    """
    breaches = 0
    totals: dict[str, list[PartitionAudit]] = {}
    for each in _audits(broker_home(context.obj.app), names, since, until):
        totals.setdefault(each.queue, []).append(each)
        breaches += len(each.audit.findings)
        if as_json:
            click.echo(json.dumps({"schema": 1, **_facts(each)}))
    if not as_json:
        click.echo(f"sent from {time_of(since)} to {time_of(until)}")
        echo_table([COLUMNS, *(_row(name, found) for name, found in sorted(totals.items()))])
        for line in _breaches(each for found in totals.values() for each in found):
            click.echo(line)
    if breaches:
        sys.exit(FOUND_WRONG)


def _audits(space: Any, names: tuple[str, ...], since: float, until: float) -> Iterator[PartitionAudit]:
    from kafka_exec.kafka.overview.auditing import audits
    from kafka_exec.kafka.overview.queues import Overview
    from kafka_exec.kafka.overview.reading import layout_of

    layout = layout_of(space.cluster)
    living = Overview(space.cluster, space.topics, layout).living(time.time())
    topics = layout.queues(space.topics, names or None)
    return audits(space.cluster, space.topics, layout, topics, living.__contains__, since, until)


def _facts(found: PartitionAudit) -> dict[str, Any]:
    counts = vars(found.audit)
    findings = [{**each._asdict(), "breach": each.breach.value} for each in found.audit.findings]
    return {"queue": found.queue, "topic": found.topic, "partition": found.partition, **counts, "findings": findings}


def _row(name: str, found: list[PartitionAudit]) -> tuple[str, ...]:
    from kafka_exec.core.overview.audit import Audit

    total = Audit()
    for each in found:
        total.add(each.audit)
    counts = (total.sent, total.ended, total.running, total.lost_runs, total.waiting, total.repeated)
    return (name, *map(str, counts), str(sum(len(each.audit.findings) for each in found)))


def _breaches(found: Iterator[PartitionAudit]) -> Iterator[str]:
    for each in found:
        findings = each.audit.findings
        for breach, offset, told, by in findings[-_SHOWN:]:
            shown = "" if told < 0 else f": journal {told}, told by {by}"
            yield f"{each.topic} {each.partition}:{offset} {breach.value}{shown}"
        if len(findings) > _SHOWN:
            yield f"{each.topic} {each.partition}: {len(findings) - _SHOWN} more, --json prints them"
