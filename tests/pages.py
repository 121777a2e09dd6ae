"""Pages of docs/ that are made from the code: ``python -m tests.pages`` writes them anew."""

from __future__ import annotations

import inspect
import json
import re
from collections.abc import Iterator
from dataclasses import MISSING, fields
from pathlib import Path
from typing import Any

import yaml

from kafka_exec.core.cluster.foreign import KOMBUS
from kafka_exec.core.cluster.settings import DEFAULT_PARTITIONS, KAFKA, KINDS, PREFIX, Settings
from kafka_exec.core.cluster.values import PROPERTIES
from kafka_exec.core.overview.metrics import PREFIX as METRIC
from kafka_exec.core.overview.metrics import gauges
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
`metrics`: `pip install "kafka_exec[metrics]"`. It reads the topics at each scrape and asks no worker, so its figures are
right also if no worker lives, and one exporter for a prefix is enough. In a container it needs `--host 0.0.0.0`.

| metric | labels | meaning |
|---|---|---|
| `{prefix}up` | | 1 if the topics could be read; otherwise the others are missing |
| `{prefix}build_info` | `version` | the version of kafka_exec |
{metrics}

Labels are names of queues and nodes, never ids or keys.

## Alerts

[`docker/monitoring/`](../docker/monitoring/alerts.yaml) has these as rules, and a dashboard. Each name leads to what is to be done.

| alert | expression | for |
|---|---|---|
{alerts}

To scale workers use `{prefix}queue_ready + {prefix}queue_running + {prefix}queue_runs_lost`, not the lag of Kafka's group: a
task that runs counts as lag, and one that is parked does not. [An example](docker.md#kubernetes) for KEDA.
"""


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
    rows = (
        f"| `{METRIC}{each.name}` | {', '.join(f'`{label}`' for label in each.labels)} | {each.help} |"
        for each in gauges((), (), 0.0)
    )
    return METRICS.format(prefix=METRIC, metrics="\n".join(rows), alerts="\n".join(_alerts()))


def _alerts() -> Iterator[str]:
    """The rows of the alert rules."""
    for group in yaml.safe_load(ALERTS.read_text())["groups"]:
        for rule in group["rules"]:
            name, expression = rule["alert"], " ".join(rule["expr"].split()).replace("|", "\\|")
            yield f"| [{name}](operations.md#{name.lower()}) | `{expression}` | {rule.get('for', '')} |"


PAGES = {"configuration.md": configuration, "metrics.md": metrics}

if __name__ == "__main__":
    for name, make in PAGES.items():
        (DOCS / name).write_text(make())
        print(DOCS / name)
