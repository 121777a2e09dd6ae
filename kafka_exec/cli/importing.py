"""``celery kafka import-redbeat`` and ``import-django-beat``: periodic entries of other schedulers become ours."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import click

from kafka_exec.cli.common import confirm, echo_table
from kafka_exec.core.beat.imports import Imported, NotImported

COLUMNS = ("NAME", "TASK", "SCHEDULE", "STATE")

dry_run_option = click.option("--dry-run", is_flag=True, help="Only list them.")
yes_option = click.option("--yes", is_flag=True, help="Do not ask.")


@click.command("import-redbeat")
@click.argument("url", envvar="REDBEAT_REDIS_URL")
@click.option("--key-prefix", default="redbeat:", show_default=True, help="RedBeat's redbeat_key_prefix.")
@dry_run_option
@yes_option
@click.pass_context
def import_redbeat(context: click.Context, url: str, key_prefix: str, dry_run: bool, yes: bool) -> None:
    """Add the periodic entries of RedBeat, from Redis at URL.

    RedBeat's own stay as they are: stop its beats first. It can be run again; what is there already is left out.

    \\b
    Example: celery -A shop kafka import-redbeat redis://localhost:6379/1
    """
    from kafka_exec.operations.imports import from_redbeat

    _import(context.obj.app, lambda: from_redbeat(url, key_prefix), dry_run, yes)


@click.command("import-django-beat")
@dry_run_option
@yes_option
@click.pass_context
def import_django_beat(context: click.Context, dry_run: bool, yes: bool) -> None:
    """Add the periodic entries of django-celery-beat.

    Its own stay as they are: stop its beats first. It can be run again; what is there already is left out.

    \\b
    Example: celery -A shop kafka import-django-beat --dry-run
    """
    from kafka_exec.operations.imports import from_django

    _import(context.obj.app, lambda: from_django(context.obj.app), dry_run, yes)


def _import(app: Any, read: Callable[[], list[Imported | NotImported]], dry_run: bool, yes: bool) -> None:
    from kafka_exec.operations.imports import add, names

    taken = names(app)  # so an import that was broken off goes on
    found = [
        NotImported(each.name, "there is an entry of this name") if each.name in taken else each for each in read()
    ]
    entries = [each for each in found if isinstance(each, Imported)]
    if entries:
        echo_table([COLUMNS, *((*each[:3], "paused" if each.paused else "") for each in entries)])
    _say_refused(each for each in found if isinstance(each, NotImported))
    if not entries:
        click.echo("no entries to add")
        return
    if dry_run:
        return
    confirm(f"Add {len(entries)} entries?", yes)
    refused = list(add(app, entries))
    _say_refused(refused)
    click.echo(f"added {len(entries) - len(refused)} entries")


def _say_refused(refused: Iterable[NotImported]) -> None:
    for each in refused:
        click.echo(f"left out {each.name}: {each.reason}", err=True)
