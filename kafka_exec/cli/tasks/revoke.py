"""``celery kafka revoke``: revokes the tasks that a filter chooses."""

from __future__ import annotations

import click

from kafka_exec.cli.common import progress
from kafka_exec.cli.tasks.choosing import choosing, in_batches, propose
from kafka_exec.core.overview.choosing.filters import TaskFilter
from kafka_exec.core.results.lifecycle import TERMINAL
from kafka_exec.core.results.state_record import StateRecord

COLUMNS = ("ID", "STATE", "NAME", "QUEUE", "WORKER")

#: So many tasks are revoked by one message.
_BATCH = 100


@click.command()
@choosing
@click.option("--terminate", is_flag=True, help="Also end the processes of those that run.")
@click.option("--rate", type=click.FloatRange(0, min_open=True), metavar="N", help="So many a second at most.")
@click.option("--dry-run", is_flag=True, help="Only list them.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.pass_context
def revoke(
    context: click.Context, chosen: TaskFilter, terminate: bool, rate: float | None, dry_run: bool, yes: bool
) -> None:
    """Revoke the tasks that have not ended and that are chosen.

    It can be interrupted and run again: a task that was revoked is not chosen any more.

    \\b
    Example: celery -A shop kafka revoke --name 'reports.*' --state DELAYED
    """
    if chosen.chooses_all:
        raise click.UsageError("say which tasks: --name, --state, --queue, --key, --worker, --since, --where")
    from kafka_exec.operations.tasks import choose

    found = [record for record in choose(context.obj.app, chosen, progress()) if record.state not in TERMINAL]
    if not found:
        click.echo("no tasks are chosen that have not ended")
        return
    if not propose(COLUMNS, found, _row, f"Revoke {len(found)} tasks?", dry_run=dry_run, yes=yes):
        return
    for batch in in_batches([record.id for record in found], _BATCH, rate, "Revoking"):
        context.obj.app.control.revoke(batch, terminate=terminate)
    click.echo(f"revoked {len(found)} tasks")


def _row(record: StateRecord) -> tuple[str, ...]:
    return (record.id, record.state.value, record.name or "", record.queue or "", record.worker or "")
