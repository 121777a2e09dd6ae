"""The options of connections: what is unknown is refused as it was written, what others know is told of once."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import amqp
import kombu.transport
import pytest
from celery import Celery

from kafka_exec.core.cluster import foreign
from kafka_exec.core.cluster.arguments import (
    HARMLESS,
    HONOURED,
    REFUSED,
    check_arguments,
    check_consumer,
    check_exchange,
    no_priority,
)
from kafka_exec.core.cluster.settings import KAFKA, KINDS
from kafka_exec.errors import ConfigurationError
from kafka_exec.settings import once
from kafka_exec.settings.options import broker_options, cache_url, check_options, note, result_options

URL = "kafka-exec://127.0.0.1:9092/shop"


@pytest.fixture(autouse=True)
def _unsaid() -> Iterator[None]:
    once.forget()
    yield
    once.forget()


def conf_of(namespace: str | None = None, **conf: Any) -> Any:
    app = Celery("options", set_as_current=False)
    key = f"{namespace}_BROKER_URL" if namespace else "broker_url"
    app.config_from_object(SimpleNamespace(**{key: "memory://", **conf}), namespace=namespace)
    return app.conf


def kombus_options() -> Iterator[str]:
    """All transport options that Kombu's transports read, as far as their sources tell."""
    yield from set(inspect.signature(amqp.Connection.__init__).parameters) - {
        "self",
        "host",
        "userid",
        "password",
        "virtual_host",
        "kwargs",
        "heartbeat",
    }
    reads = re.compile(r"(?:transport_options|self\.options|topts|opts)(?:\.get)?[\[(]\s*['\"]([\w-]+)['\"]")
    for path in Path(kombu.transport.__file__).parent.rglob("*.py"):
        source = path.read_text()
        yield from reads.findall(source)
        for names in re.findall(r"from_transport_options = \((.*?)\n\n", source, re.DOTALL):
            yield from re.findall(r"'(\w+)'", names)


def test_every_option_that_kombu_reads_is_known() -> None:
    found = set(kombus_options())
    assert len(found) > 80
    assert found - set(foreign.OPTIONS) - foreign.KOMBUS - set(KINDS) == set()
    assert set(foreign.OPTIONS) & (set(KINDS) | foreign.KOMBUS | {KAFKA}) == set()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"max_delivery": 2}, 'W["max_delivery"], did you mean W["max_deliveries"]?'),
        ({"kafka_exec_max_deliveries": 2}, 'W["kafka_exec_max_deliveries"]: it is called W["max_deliveries"] here, or'),
        ({"KAFKA_EXEC_BUFFER": 2}, 'W["KAFKA_EXEC_BUFFER"]: it is called W["buffer"] here'),
        ({"visibilty_timeout": 2}, 'W["visibilty_timeout"], like visibility_timeout: not needed: '),
        ({"interval_stop": 2}, 'W["interval_stop"], did you mean W["interval_step"]?'),
        ({"linger.ms": 2}, 'W["linger.ms"]: librdkafka\'s properties go into W["kafka"]'),
        ({"zzz": 2}, 'W["zzz"]; known are partitions, '),
        ({5: 2}, 'W["5"]; known are partitions, '),
        ({"max_deliveries": "2"}, "W[\"max_deliveries\"] must be a whole number greater than 0, not '2'"),
        ({"kafka": "sasl.password=x"}, 'W["kafka"] must be a mapping of librdkafka properties'),
        (5, "W must be a mapping, not int"),
    ],
)
def test_an_option_is_refused_as_it_was_written(options: Any, message: str) -> None:
    def refused(where: str, act: Any) -> None:
        with pytest.raises(ConfigurationError) as caught:
            act()
        assert message.replace("W", where) in str(caught.value)

    refused("broker_transport_options", lambda: broker_options(conf_of(broker_transport_options=options)))
    conf = conf_of(result_backend_transport_options=options)
    refused("result_backend_transport_options", lambda: result_options(conf, also_brokers=True))
    refused("transport_options", lambda: check_options(options))
    refused("transport_options", lambda: broker_options(conf_of(), options))


def test_the_result_back_end_leaves_another_brokers_options_alone() -> None:
    conf = conf_of(broker_transport_options={"visibility_timeout": 60, "buffer": 7, "nonsense": 1})
    assert result_options(conf, also_brokers=False) == {}
    conf = conf_of(
        broker_transport_options={"visibility_timeout": 60, "buffer": 7, "heartbeat": 2},
        result_backend_transport_options={"buffer": 8, "retry_policy": {}},
        kafka_exec_heartbeat=3,
        kafka_exec_cache_url="redis://h",
    )
    assert result_options(conf, also_brokers=True) == {"heartbeat": 2, "buffer": 8}


@pytest.mark.parametrize("name", ["security_protocol", "sasl_mechanism", "ssl", "is_secure", "ssl_keyfile"])
def test_what_would_weaken_the_connection_is_not_ignored(name: str) -> None:
    with pytest.raises(ConfigurationError, match="would be ignored, and the connection be weaker"):
        broker_options(conf_of(broker_transport_options={name: "SASL_SSL"}))
    assert broker_options(conf_of(broker_transport_options={name: False})) == {}


def test_properties_of_kombus_kafka_are_refused_where_they_secure() -> None:
    options = {"kafka_producer_config": {"linger.ms": 5}, "kafka_common_config": None}
    assert broker_options(conf_of(broker_transport_options=options)) == {}
    for name in ("security.protocol", "ssl.ca.location", "sasl.password"):
        with pytest.raises(ConfigurationError, match="weaker: write these librdkafka properties") as caught:
            broker_options(conf_of(broker_transport_options={"kafka_common_config": {name: "correct-horse"}}))
        assert "correct-horse" not in str(caught.value)


@pytest.mark.parametrize(
    ("namespace", "key", "value", "message"),
    [
        (None, "kafka_exec_max_delivery", 2, "unknown setting KEY, did you mean kafka_exec_max_deliveries?"),
        (
            "CELERY",
            "CELERY_KAFKA_EXEC_MAX_DELIVERY",
            2,
            "unknown setting KEY, did you mean CELERY_KAFKA_EXEC_MAX_DELIVERIES?",
        ),
        ("SHOP", "SHOP_KAFKA_EXEC_BUFFER", "x", "KEY must be a whole number greater than 0, not 'x'"),
        (None, "kafka_exec_buffer", "x", "KEY must be a whole number greater than 0, not 'x'"),
        (None, "KAFKA_EXEC_BUFFER", 3, "unknown setting KEY, did you mean kafka_exec_buffer?"),
        ("CELERY", "KAFKA_EXEC_BUFFER", 3, "unknown setting KEY, did you mean CELERY_KAFKA_EXEC_BUFFER?"),
    ],
)
def test_a_setting_is_named_as_it_was_written(namespace: str | None, key: str, value: Any, message: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        broker_options(conf_of(namespace, **{key: value}))
    assert str(caught.value) == message.replace("KEY", key)


def test_a_setting_is_named_by_its_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KAFKA_EXEC_BUFFER", "x")
    with pytest.raises(ConfigurationError, match=r"^KAFKA_EXEC_BUFFER must be a whole number"):
        broker_options(conf_of(kafka_exec_buffer=5))


def test_the_cache_comes_from_the_environment_too(monkeypatch: pytest.MonkeyPatch) -> None:
    conf = conf_of(kafka_exec_cache_url="redis://a", broker_transport_options={"cache_url": "redis://b"})
    assert cache_url(conf) == "redis://b"
    assert cache_url(conf, also_brokers=False) == "redis://a"
    monkeypatch.setenv("KAFKA_EXEC_CACHE_URL", "redis://c")
    assert cache_url(conf) == "redis://c"


def test_one_warning_names_all_and_is_given_once(caplog: pytest.LogCaptureFixture) -> None:
    conf = conf_of(
        "CELERY",
        CELERY_BROKER_TRANSPORT_OPTIONS={
            "visibility_timeout": 60,
            "unacked_key": "u",
            "priority_steps": [0],
            "buffer": 7,
        },
        CELERY_TASK_ACKS_LATE=False,
        CELERY_REDBEAT_LOCK_TIMEOUT=5,
        CELERY_REDIS_MAX_CONNECTIONS=5,
        REDIS_HOST="h",
    )
    for _ in range(3):
        note(conf)
        check_options(conf.broker_transport_options)
    (line,) = [record.getMessage() for record in caplog.records]
    for text in (
        'broker_transport_options["unacked_key"], broker_transport_options["visibility_timeout"]: not needed: ',
        'broker_transport_options["priority_steps"]: ',
        "CELERY_TASK_ACKS_LATE=False: a task that has begun is lost",
        "CELERY_REDBEAT_LOCK_TIMEOUT: RedBeat's",
        "CELERY_REDIS_MAX_CONNECTIONS: of Celery's Redis result back end",
        "docs/migration.md",
    ):
        assert text in line
    assert "buffer" not in line
    assert "REDIS_HOST" not in line


def test_redis_settings_are_honoured_by_a_redis_result_back_end(caplog: pytest.LogCaptureFixture) -> None:
    note(conf_of(redis_max_connections=5, result_backend="redis://h"))
    check_options({})
    assert caplog.records == []


def test_celerys_old_names_are_known_too(caplog: pytest.LogCaptureFixture) -> None:
    app = Celery("old", set_as_current=False)
    app.config_from_object({"BROKER_URL": "memory://", "CELERY_ACKS_LATE": False, "BROKER_HEARTBEAT": 5})
    note(app.conf)
    check_options({})
    (line,) = [record.getMessage() for record in caplog.records]
    assert "task_acks_late=False: " in line
    assert "BROKER_HEARTBEAT: " in line


def test_kombu_alone_is_told_too(caplog: pytest.LogCaptureFixture) -> None:
    check_options({"visibility_timeout": 60, "max_retries": 3, "retry_errors": None, "buffer": 7})
    (line,) = [record.getMessage() for record in caplog.records]
    assert 'transport_options["visibility_timeout"]: not needed' in line


def test_what_was_said_is_forgotten_when_it_is_too_much() -> None:
    for number in range(10_001):
        once.unsaid([f"text {number}"])
    assert [once.is_said(f"text {number}") for number in (0, 9_999, 10_000)] == [False, False, True]


# Queues


WRONG_ARGUMENTS = {
    "x-partitions": [0, -1, "four", 1.5, True, [2]],
    "x-max-priority": [-1, 256, "9", 1.5, True],
    "x-message-ttl": [-1, "60", float("nan"), float("inf"), True, {}],
    "x-expires": [0, -1, "60", float("inf"), True],
}


@pytest.mark.parametrize(
    ("name", "value"), [(name, value) for name, values in WRONG_ARGUMENTS.items() for value in values], ids=str
)
def test_a_wrong_value_of_an_argument_is_refused(name: str, value: Any) -> None:
    with pytest.raises(ConfigurationError, match=f"^queue 'jobs': the argument {name} must be .*, not "):
        check_arguments("jobs", {name: value})


@pytest.mark.parametrize("name", REFUSED)
def test_what_a_queue_does_not_do_is_refused_with_what_to_do(name: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        check_arguments("jobs", {"x-max-priority": 3, name: 5})
    assert str(caught.value) == f"queue 'jobs': the argument {name} is not supported: {REFUSED[name]}"


def test_right_arguments_pass_and_none_says_nothing() -> None:
    assert set(WRONG_ARGUMENTS) == set(HONOURED)
    check_arguments("jobs", {"x-partitions": 4, "x-max-priority": 0, "x-message-ttl": 0, "x-expires": 1})
    check_arguments("jobs", dict.fromkeys([*HONOURED, *HARMLESS, "x-max-length"]))
    check_consumer("jobs", {"x-cancel-on-ha-failover": True})
    check_exchange("e", {})


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("x-max-prioritty", "did you mean x-max-priority?"),
        ("max_priority", "did you mean x-max-priority?"),
        ("x-zzz", "known are x-partitions, "),
        (5, "known are x-partitions, "),
    ],
)
def test_an_unknown_argument_is_refused(name: Any, hint: str) -> None:
    with pytest.raises(ConfigurationError, match=f"^queue 'jobs': unknown argument {name!r}") as caught:
        check_arguments("jobs", {name: 1})
    assert hint in str(caught.value)


@pytest.mark.parametrize(
    ("priority", "is_right"),
    [(0, True), (255, True), (256, False), (-1, False), ("5", False), (5.0, False), (True, False)],
)
def test_a_priority_is_a_number(priority: Any, is_right: bool) -> None:
    assert (no_priority(priority) is None) is is_right
