"""``celery kafka resume``: continues a task that is suspended."""

from __future__ import annotations

import json

import click

from kafka_exec.cli.common import json_option

_TEXTS = {
    "continued": "the task goes on",
    "counted": "{got} of {expected} callbacks have come",
    "already": "a callback with this id has come before, or the task was continued before: nothing is changed",
    "kept": "no task is suspended with this id yet: the callback waits for it",
    "unexpected": "the task does not expect a callback with this id: nothing is changed",
    "too late": "the suspension has timed out: nothing is changed",
    "sent": "the callback is safe in Kafka, but the control plane has not answered: does a worker run?",
}


@click.command()
@click.argument("correlation_id")
@click.argument("data", default="null")
@click.option("--callback", "callback_id", help="The id of the callback, if the suspension expects several.")
@click.option("--timeout", default=10.0, show_default=True, help="Wait so many seconds for the answer.")
@json_option
@click.pass_context
def resume(
    context: click.Context, correlation_id: str, data: str, callback_id: str | None, timeout: float, as_json: bool
) -> None:
    """Continue the task that is suspended with CORRELATION_ID; it gets DATA, a JSON value."""
    from kafka_exec.app.durable.resuming import resume as act

    try:
        value = json.loads(data)
    except ValueError as error:
        raise click.BadParameter(
            f"it is no JSON value ({error}); a text needs double quotes", param_hint="DATA"
        ) from None
    found = act(context.obj.app, correlation_id, value, callback_id, timeout=timeout)
    click.echo(json.dumps(found._asdict()) if as_json else _TEXTS[found.outcome].format(**found._asdict()))
