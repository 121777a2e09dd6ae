"""The pages of docs/ say what the code does: the settings, and what becomes of those of other brokers."""

from __future__ import annotations

import re
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any, NamedTuple

import pytest
from celery import Celery
from celery.exceptions import ImproperlyConfigured
from kombu import Exchange, Queue

from kafka_exec.core.cluster import arguments, foreign
from kafka_exec.errors import ChannelFailed, ConfigurationError
from kafka_exec.settings import once
from kafka_exec.settings.options import check_options, result_options
from kafka_exec.settings.url import split, warn_of_number
from kafka_exec.transport.channel import Channel
from kafka_exec.transport.publishing import tell_of_priority
from tests.pages import DOCS, PAGES

URL = "kafka-exec://127.0.0.1:9092/shop"
REFUSALS = (ConfigurationError, ImproperlyConfigured, ChannelFailed)


@pytest.mark.parametrize("name", PAGES)
def test_a_page_is_what_the_code_says(name: str) -> None:
    assert (DOCS / name).read_text() == PAGES[name](), "write it anew: python -m tests.pages"


class Row(NamedTuple):
    """A thing that somebody may have written, and what becomes of it."""

    written: str
    becomes: str


def rows() -> Iterator[Row]:
    for line in (DOCS / "migration.md").read_text().splitlines():
        if line.startswith("| `"):
            first, second, *_ = line.strip("|").split(" | ")
            for written in re.findall(r"`([^`]+)`", first):
                yield Row(written, second.partition(":")[0].partition(",")[0].strip())


ROWS = list(rows())
OUTCOMES = ("refused", "warned", "honoured", "harmless")


def test_the_table_has_all_that_the_code_knows_of() -> None:
    page = (DOCS / "migration.md").read_text()
    names = [
        *foreign.OPTIONS,
        *foreign.SETTINGS,
        *foreign.PREFIXES,
        *foreign.GIVEN_UP,
        *foreign.REDIS_RESULTS,
        *arguments.HONOURED,
        *arguments.HARMLESS,
        *arguments.REFUSED,
        *foreign.KOMBUS - {"on_revive", "retry_errors"},  # written by Kombu itself
    ]
    assert [name for name in names if name not in page] == []
    assert {row.becomes for row in ROWS} == set(OUTCOMES)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{row.becomes}: {row.written}")
def test_what_somebody_has_becomes_what_the_table_says(row: Row, caplog: pytest.LogCaptureFixture) -> None:
    once.forget()
    refused = None
    try:
        use(row.written)
    except REFUSALS as error:
        refused = error
    warnings = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    found = "refused" if refused else "warned" if warnings else "harmless" if row.becomes == "harmless" else "honoured"
    assert (found, row.written) == (row.becomes, row.written), (refused, warnings)
    assert len(warnings) == (row.becomes == "warned"), warnings
    name = (re.findall(r"\[\"([\w.-]+)\"\]|\"(x-[\w-]+)\"|^(\w+) =", row.written) or [("",)])[0]
    told = str(refused) if refused else "".join(warnings)
    if not found.startswith("h") and "URL" not in told and "http" not in row.written and "://" not in row.written:
        assert max(name) in told, told
    # Told once.
    caplog.clear()
    if refused is None:
        use(row.written)
        assert caplog.records == []


def use(written: str) -> None:
    """Does with a thing what happens to it before anything is connected."""
    if written.startswith("Queue("):
        declare(eval(written, {"Queue": Queue}))
    elif written.startswith("Exchange("):
        exchange = eval(written, {"Exchange": Exchange})
        space = SimpleNamespace(bindings=SimpleNamespace(declare_exchange=lambda *args, **kwargs: None))
        channel: Any = SimpleNamespace(_check_open=lambda: None, _space=space)
        Channel.exchange_declare(channel, exchange.name, exchange.type, arguments=exchange.arguments)
    elif written.startswith("add.apply_async("):
        priority = eval(written, {"add": SimpleNamespace(apply_async=lambda priority: priority)})
        nobody: Any = None
        Channel.prepare_message(nobody, b"", priority)
        tell_of_priority("jobs", None, has_key=False)
    else:
        configure(written)


def declare(queue: Any) -> None:
    nobody: Any = None
    options = {name: getattr(queue, name) for name in ("max_length", "max_length_bytes", "max_priority", "message_ttl")}
    found = Channel.prepare_queue_arguments(nobody, queue.queue_arguments, expires=queue.expires, **options)
    arguments.check_arguments(queue.name, found)
    arguments.check_consumer(queue.name, queue.consumer_arguments or {})


def configure(written: str) -> None:
    conf: dict[str, Any] = {"broker_transport_options": {}, "result_backend_transport_options": {}}
    conf.update(broker_url=URL, result_backend=URL)
    exec(written, {"__builtins__": {}}, conf)
    app = Celery("migrating", set_as_current=False)
    app.config_from_object(conf)
    connections = [app.connection_for_read(), app.connection_for_write()]
    result_options(app.conf, also_brokers=True)
    for connection in connections:
        check_options(connection.transport_options)
        warn_of_number(split(connection.virtual_host)[0])
