"""``celery kafka …``: the admin command. Every ``celery`` process imports this package, so its commands import late."""

from __future__ import annotations

import click

from kafka_exec.cli.api import api
from kafka_exec.cli.broker import broker
from kafka_exec.cli.cluster.acls import acls
from kafka_exec.cli.cluster.doctor import doctor
from kafka_exec.cli.cluster.nodes import nodes
from kafka_exec.cli.cluster.plan import plan
from kafka_exec.cli.cluster.status import status
from kafka_exec.cli.cluster.topics import topics
from kafka_exec.cli.common import Guarded
from kafka_exec.cli.control_plane import control_plane
from kafka_exec.cli.exporter import exporter
from kafka_exec.cli.importing import import_django_beat, import_redbeat
from kafka_exec.cli.schedule import claims, schedule
from kafka_exec.cli.tasks.executions import executions, remark, show
from kafka_exec.cli.tasks.history import history
from kafka_exec.cli.tasks.resume import resume
from kafka_exec.cli.tasks.revoke import revoke
from kafka_exec.cli.tasks.run_now import retry, run
from kafka_exec.cli.tasks.suspended import suspended
from kafka_exec.cli.tasks.why import why
from kafka_exec.cli.waiting.audit import audit
from kafka_exec.cli.waiting.dead import dead
from kafka_exec.cli.waiting.keys import keys
from kafka_exec.cli.waiting.queues import queues
from kafka_exec.cli.waiting.replay import replay
from kafka_exec.cli.waiting.top import top
from kafka_exec.settings.inventory import versions


def _show_versions(context: click.Context, option: click.Parameter, value: bool) -> None:
    if value:
        click.echo(" ".join(f"{name}:{version}" for name, version in versions().items()))
        context.exit()


@click.group(cls=Guarded)
@click.option(
    "--version",
    "version",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_show_versions,
    help="Show the versions of kafka_exec and of what it runs on.",
)
def kafka() -> None:
    """Run and look after kafka_exec's Kafka."""


for command in (
    acls,
    api,
    audit,
    broker,
    claims,
    control_plane,
    dead,
    doctor,
    executions,
    exporter,
    history,
    import_django_beat,
    import_redbeat,
    keys,
    nodes,
    plan,
    queues,
    remark,
    replay,
    resume,
    retry,
    revoke,
    run,
    schedule,
    show,
    status,
    suspended,
    top,
    topics,
    why,
):
    kafka.add_command(command)

# The former name of ``keys``: it still works, and the help does not list it.
kafka.commands["groups"] = keys

# It imports Celery's command, which loads this group as its entry point: the group must be there by now.
from kafka_exec.cli.loading import guard_loading  # noqa: E402

guard_loading(kafka)
