"""Pages of docs/ that are made from the code: ``python -m tests.pages`` writes them anew."""

from __future__ import annotations

import inspect
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import MISSING, fields
from pathlib import Path
from typing import Any

import yaml

from kafka_exec.api.openapi import ALIASES, BASE, ERRORS, OPERATIONS, document
from kafka_exec.api.operation import Operation
from kafka_exec.core.cluster.foreign import KOMBUS
from kafka_exec.core.cluster.settings import DEFAULT_PARTITIONS, KAFKA, KINDS, PREFIX, Settings
from kafka_exec.core.cluster.values import PROPERTIES
from kafka_exec.core.overview.metrics import PREFIX as METRIC
from kafka_exec.core.overview.metrics import gauges
from kafka_exec.core.results.counters import METRICS as TASK_METRICS
from kafka_exec.kafka.nodes.metrics_port import METRICS as PROCESS_METRICS
from kafka_exec.kafka.nodes.metrics_port import TRIED
from kafka_exec.kafka.publish.meters import REASONS
from kafka_exec.settings.environment import PASSWORD, USER, variable

DOCS = Path(__file__).parents[1] / "docs"
ALERTS = DOCS.parent / "docker" / "monitoring" / "alerts.yaml"

CONFIGURATION = """# Settings

*Made from the code by `python -m tests.pages`; a test says when it is to be made again.*

A setting is a key of Celery's configuration. All of them have the same name, without `kafka_exec_`, in
`broker_transport_options`, and an environment variable. What is wrong, or unknown, is refused in words that name it as
you wrote it.

| setting | type | default | environment variable | meaning |
|---|---|---|---|---|
{settings}

Times are seconds. With a namespace (`config_from_object("django.conf:settings", namespace="CELERY")`) the keys are
`CELERY_KAFKA_EXEC_MAX_DELIVERIES` and the like.

## Where a setting comes from

The later one wins, as a whole: mappings are not merged.

1. the secrets file (`kafka_exec_secrets_file`), and the broker's URL with Celery's own security settings
   (`broker_use_ssl`, `broker_login_method`);
2. `kafka_exec_…` of Celery's configuration;
3. `broker_transport_options`, for example `{{"max_deliveries": 2}}`;
4. `result_backend_transport_options`, for the result back end;
5. the query of the URL, of the broker or of the result back end: `kafka-exec://host:9092/shop?max_deliveries=2`. What
   is secret is refused there, for URLs are shown. `ssl_…`, `login_method` and `connect_timeout` are Kombu's. Chords need
   the same settings in both URLs;
6. the environment, as with Celery's own `CELERY_BROKER_URL`: `KAFKA_EXEC_MAX_DELIVERIES=2`. It holds for workers,
   publishers, `celery beat`, the result back end and `celery kafka` alike. Numbers and texts are written as they are,
   flags as `true` and `false`, mappings and lists as JSON (`KAFKA_EXEC_PARTITIONS='{partitions}'`). A variable that
   is empty says nothing; one that begins with `KAFKA_EXEC_` and is unknown is refused.

## What is no setting

| where | |
|---|---|
| `broker_transport_options["{kafka}"]` · `{kafka_variable}` | a mapping of [librdkafka's properties][1]: `{properties}` |
| `{user}` · `{password}` | user and password, where the URL has none |
| `broker_transport_options` | {kombus}: Kombu reads these for every transport |
| `CELERY_BROKER_URL` · `CELERY_RESULT_BACKEND` | Celery's own: the URLs |

librdkafka's properties win over all that the settings make of them. What other brokers' settings become is in
[migration.md](migration.md).

[1]: https://github.com/confluentinc/librdkafka/blob/master/CONFIGURATION.md
"""

METRICS = """# Metrics

*Made from the code by `python -m tests.pages`; a test says when it is to be made again.*

`celery -A shop kafka exporter` serves them to Prometheus on `http://127.0.0.1:9808/metrics`. It needs the extra
`metrics`: `pip install "kafka_exec[metrics]"`. It reads the topics and asks no worker, so its figures are
right also if no worker lives, and one exporter for a prefix is enough. In a container it needs `--host 0.0.0.0`.
[Flower](flower.md#api-and-metrics) has them too.

| metric | labels | meaning |
|---|---|---|
| `{prefix}up` | | 1 if the topics could be read; otherwise those of queues and nodes are missing |
| `{prefix}build_info` | `version` | the version of kafka_exec |
{metrics}

Labels are names of queues, nodes and tasks (of the first 200, then `other`), never ids or keys.

The metrics of tasks are counted from the exporter's start on, from the state records: of a task whose result is ignored
there are none, and a run of less than 0.1 s is told by its end only. So retries are `previous="DELAYED",state="RUNNING"`,
resumes `previous="SUSPENDED"`, and runs that a lost worker left `previous="RUNNING",state="RUNNING"`.

## Of each process

A worker, a beat and a control plane serve what they count of their own work, with the same extra, on a port of their own:
`kafka_exec_metrics_port = 9810`, or `KAFKA_EXEC_METRICS_PORT=9810`. Without it, which is the default, nothing is counted.
If the port is taken they try the next ones, {tried} in all, and the log says which it is: `metrics of this process: http://…`.
So several of a machine may have the same setting; let Prometheus look at as many ports. In a container set
`KAFKA_EXEC_METRICS_HOST=0.0.0.0`. If they cannot be served that is an error in the log, and the node works without.

| metric | labels | meaning |
|---|---|---|
{process}

Reasons are {reasons}. What the children of a prefork pool publish (results, and what tasks send) is not among them, nor what
is published in transactions: there a task gets the exception. A web application that only publishes has no port either.
Counting took 1.6 µs for each acknowledged record, of which a task has one to three: 0.1 to 0.3 % of the time that a worker
takes for an empty task.

## Alerts

[`docker/monitoring/`](../docker/monitoring/alerts.yaml) has these as rules, and a dashboard. Each name leads to what is
to be done.

| alert | expression | for |
|---|---|---|
{alerts}

To scale workers use `{prefix}queue_ready + {prefix}queue_running + {prefix}queue_runs_lost`, not the lag of Kafka's group: a
task that runs counts as lag, and one that is parked does not. [An example](docker.md#kubernetes) for KEDA.
"""


API = """# HTTP API

*Made from the code by `python -m tests.pages`; a test says when it is to be made again.*

`celery -A shop kafka api` serves tasks, queues and nodes as JSON on `http://127.0.0.1:9809{base}`. It needs the extra
`api`: `pip install "kafka_exec[api]"`. Its answers come from Kafka, so they are right also if no worker lives; only keys
are asked of the workers. The objects in them are those that [the commands](cli.md) print with `--json`; a list is
`{{"items": […]}}`, with the number of further ones as `more` where there is a `limit`. [Flower](flower.md) serves it
too, for its own users.

It is an ASGI application, which yours can mount:

```python
from starlette.applications import Starlette
from starlette.routing import Mount

from kafka_exec.api import application
from shop import app

web = Starlette(routes=[Mount("/tasks", application(app, read_only=True))])
```

## Operations

[openapi.json](openapi.json), which `GET {base}/openapi.json` returns too, has the schemas of all parameters and answers.
The parameters of `GET` stand in the query, those of `POST` are the fields of a JSON object; with `*` they must be there.
The filter of tasks is that of [`celery kafka executions`](cli.md#choosing-tasks).

| operation | | parameters |
|---|---|---|
{operations}

These paths are other names, which services for jobs have:

| path | stands for |
|---|---|
{aliases}

An id, a key or a name in a path is percent-encoded: `customer/7` is `customer%2F7`.

## A task from its begin to its end

```bash
API=http://127.0.0.1:9809{base}
SEND='-H Content-Type:application/json'
curl $API/executions $SEND -d '{{"name": "shop.pay", "args": [42], "ordering_key": "customer-7"}}'   # {{"id": "3f0c5a52-…"}}
curl $API/executions $SEND -d '{{"name": "shop.report", "eta": "2026-01-31T14:00:00Z"}}'
curl $API/executions $SEND -d '{{"name": "shop.clean", "scheduleExpression": "0 4 * * mon"}}'   # {{"entry": "shop.clean"}}
curl $API/executions/3f0c5a52-…
curl $API/executions/3f0c5a52-…/why
curl $API/executions/active
curl "$API/executions?state=FAILED&since=1h&name=shop.*"
curl $API/executions/3f0c5a52-…/resume $SEND -d '{{"data": {{"approved": true}}}}'
curl $API/executions/3f0c5a52-…/retry $SEND -d '{{"args": [43]}}'
curl $API/executions/3f0c5a52-…/revoke $SEND -d '{{}}'
```

A task that is sent here has the state SCHEDULED before the answer comes. A task that neither the application nor a
living worker knows, and a queue that does not exist, are refused with 404.

## Who may use it

Each user has a token of at least 16 characters, and sends it as `Authorization: Bearer TOKEN`:

```bash
export KAFKA_EXEC_API_TOKENS='["anna:7Yd0sVb2qLw9rTz4", "deploy:Qm3xHc8nKe6uJp1f"]'
```

or `kafka_exec_api_tokens` in the configuration. Without tokens it answers only this machine, under the names
`localhost`, `127.0.0.1` and `[::1]`; `--host` then takes no other address, and everybody on the machine may use it.
Behind a proxy on the same machine, set tokens. Where an application around it has authenticated the user (Starlette's
`request.user`), no token is needed.

* `--read-only`, or `application(app, read_only=True)`, refuses all acts (`POST`, `DELETE`).
* An act that a page of another site has sent is refused: its `Origin` must be the host's own, and a body must be
  `application/json`.
* Each act is a line in the log `kafka_exec.api`: the user, the path, the status. It has no arguments.
* It speaks HTTP. Put it behind a proxy with TLS where others can listen.

## Errors

`{{"error": "one line, which says who must act"}}`, with these statuses:

| status | |
|---|---|
{errors}
"""


def api() -> str:
    """docs/api.md."""
    operations = (
        f"| `{each.method} {each.path}` | {each.text} | {', '.join(_parameters(each))} |" for each in OPERATIONS
    )
    return API.format(
        base=BASE,
        operations="\n".join(operations),
        aliases="\n".join(f"| `{alias}` | `{BASE}{path}` |" for alias, path in ALIASES.items()),
        errors="\n".join(f"| {status} | {text} |" for status, text in ERRORS.items()),
    )


def _parameters(operation: Operation) -> Iterator[str]:
    for name in (*operation.query, *operation.body):
        yield f"`{name}`{'*' if name in operation.required else ''}"


def openapi() -> str:
    """docs/openapi.json."""
    return json.dumps(document(), indent=1) + "\n"


def configuration() -> str:
    """docs/configuration.md."""
    return CONFIGURATION.format(
        settings="\n".join(_rows()),
        partitions=KINDS["partitions"].example,
        kafka=KAFKA,
        kafka_variable=variable(KAFKA),
        properties=PROPERTIES.example,
        user=USER,
        password=PASSWORD,
        kombus=", ".join(f"`{name}`" for name in sorted(KOMBUS)),
    )


def _rows() -> Iterator[str]:
    meanings = _meanings()
    for setting in fields(Settings):
        default = DEFAULT_PARTITIONS if setting.name == "partitions" else setting.default
        meaning = meanings[setting.name].replace("``", "`")
        yield (
            f"| `{PREFIX}{setting.name}` | {KINDS[setting.name].name} | {_default(default)} | `{variable(setting.name)}` "
            f"| {meaning} |"
        )


def _default(value: Any) -> str:
    if value in (None, (), MISSING):
        return "none"
    return f"`{json.dumps(int(value) if isinstance(value, float) and value == int(value) else value)}`"


def _meanings() -> dict[str, str]:
    """The meaning of each setting, from the documentation in the code."""
    text = inspect.cleandoc(Settings.__doc__ or "").partition("Attributes:")[2]
    found = re.findall(r"^    (\w+): ((?:.|\n {8})+)", text, re.MULTILINE)
    return {name: re.sub(r"\s+", " ", meaning).strip() for name, meaning in found}


def metrics() -> str:
    """docs/metrics.md."""
    found = {each.name: (each.labels, each.help) for each in gauges((), (), {}, 0.0)} | TASK_METRICS
    return METRICS.format(
        prefix=METRIC,
        metrics="\n".join(_metrics(found)),
        process="\n".join(_metrics(PROCESS_METRICS)),
        tried=TRIED,
        reasons=", ".join(f"`{reason}`" for reason in REASONS),
        alerts="\n".join(_alerts()),
    )


def _metrics(found: Mapping[str, tuple[tuple[str, ...], str]]) -> Iterator[str]:
    """The rows of metrics."""
    for name, (labels, meaning) in found.items():
        yield f"| `{METRIC}{name}` | {', '.join(f'`{label}`' for label in labels)} | {meaning} |"


def _alerts() -> Iterator[str]:
    """The rows of the alert rules."""
    for group in yaml.safe_load(ALERTS.read_text())["groups"]:
        for rule in group["rules"]:
            name, expression = rule["alert"], " ".join(rule["expr"].split()).replace("|", "\\|")
            yield f"| [{name}](operations.md#{name.lower()}) | `{expression}` | {rule.get('for', 'at once')} |"


PAGES = {"api.md": api, "configuration.md": configuration, "metrics.md": metrics, "openapi.json": openapi}

if __name__ == "__main__":
    for name, make in PAGES.items():
        (DOCS / name).write_text(make())
        print(DOCS / name)
