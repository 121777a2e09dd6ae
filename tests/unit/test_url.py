"""URLs: settings in the query, and what is almost a URL of ours."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote, urlencode

import pytest
from celery import Celery
from celery.exceptions import ImproperlyConfigured
from hypothesis import given
from hypothesis import strategies as st
from kombu import Connection

from kafka_exec.core.cluster.settings import KINDS
from kafka_exec.errors import ConfigurationError
from kafka_exec.settings import once
from kafka_exec.settings.url import check_schemes, split

SECRET = "correct-horse"
PUBLIC = sorted(name for name, kind in KINDS.items() if not kind.is_secret)


@given(
    names=st.sets(st.sampled_from(PUBLIC)),
    path=st.text(st.characters(exclude_categories=["Cs"]), max_size=10).filter(lambda path: "?" not in path),
    scheme=st.sampled_from(["kafka-exec", "kafka-execs"]),
)
def test_settings_in_a_query_come_with_every_connection(names: set[str], path: str, scheme: str) -> None:
    texts = {name: KINDS[name].example for name in names}
    connection = Connection(f"{scheme}://ann:{SECRET}@h1,h2:9093/{quote(path)}?{urlencode(texts)}")
    assert (connection.hostname, connection.port) == ("h1,h2", 9093)
    assert (connection.userid, connection.password) == ("ann", SECRET)
    for each in (connection, connection.clone(), Connection(connection.as_uri(include_password=True))):
        prefix, settings = split(each.virtual_host)
        assert settings == {name: KINDS[name].read(text) for name, text in texts.items()}
        assert prefix == (path.strip("/") or "celery")


def test_each_url_to_fail_over_to_has_its_own() -> None:
    connection = Connection("kafka-exec://h1:9092/shop?max_deliveries=2;kafka-exec://h2:9092/shop")
    found = []
    for _ in range(3):
        found.append((connection.hostname, split(connection.virtual_host)))
        connection.maybe_switch_next()
    assert found == [
        ("h1", ("shop", {"max_deliveries": 2})),
        ("h2", ("shop", {})),
        ("h1", ("shop", {"max_deliveries": 2})),
    ]


def test_kombus_own_names_stay_its_own() -> None:
    connection = Connection("kafka-exec://h/?ssl_ca_certs=/ca.pem&login_method=PLAIN&connect_timeout=2.5&heartbeat=3")
    assert connection.ssl == {"ssl_ca_certs": "/ca.pem"}
    assert (connection.login_method, connection.connect_timeout) == ("PLAIN", 2.5)
    assert split(connection.virtual_host) == ("celery", {"heartbeat": 3.0})


def test_urls_of_others_are_kombus() -> None:
    connection = Connection("amqp://ann:pw@h:5672/shop?heartbeat=7")
    assert (connection.virtual_host, connection.heartbeat) == ("shop", 7.0)


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ("max_delivery=2", "unknown setting ?max_delivery= in the URL, did you mean ?max_deliveries= in the URL?"),
        ("max_deliveries=two", "?max_deliveries= in the URL must be a whole number greater than 0, not 'two'"),
        ("max_deliveries=", "?max_deliveries= in the URL must be a whole number greater than 0, not ''"),
        ("max_deliveries=2&max_deliveries=3", "?max_deliveries= in the URL is there more than once"),
        ("connect_timeout=x", "?connect_timeout= in the URL must be a number of seconds, not 'x'"),
        (f"cache_url=redis://:{SECRET}@h", "?cache_url= in the URL: a URL is shown, write it as kafka_exec_cache_url"),
        (
            f"sasl.password={SECRET}",
            '?sasl.password= in the URL: librdkafka\'s properties go into broker_transport_options["kafka"], or as JSON '
            "into KAFKA_EXEC_KAFKA",
        ),
    ],
)
def test_another_query_is_refused_in_words(query: str, message: str) -> None:
    for make in (lambda url: Connection(url), lambda url: Celery(broker=url, set_as_current=False).connection()):
        with pytest.raises(ConfigurationError) as caught:
            make(f"kafka-exec://ann:{SECRET}@h:9092/shop?{query}")
        assert str(caught.value) == message


@pytest.mark.parametrize("address", [f"ann:{SECRET}/x@h:9092", "h1:9092,h2:9092", f"ann:{SECRET}@h:port"])
def test_an_address_that_cannot_be_read_is_not_shown(address: str) -> None:
    with pytest.raises(ConfigurationError, match="several hosts share one port") as caught:
        Connection(f"kafka-exec://{address}/shop?max_deliveries=2")
    assert SECRET not in str(caught.value)
    assert caught.value.__suppress_context__


def test_celerys_reports_show_a_url_with_settings() -> None:
    app = Celery(broker=f"kafka-exec://ann:{SECRET}@h:9092/shop?max_deliveries=2", set_as_current=False)
    assert app.connection().as_uri() == "kafka-exec://ann:**@h:9092/shop"
    shown = app.bugreport() + app.conf.humanize() + repr(app.connection().info()["virtual_host"])
    assert "max_deliveries" in shown
    assert SECRET not in shown


@pytest.mark.parametrize(
    ("url", "right"),
    [
        ("kafka_exec://h", "kafka-exec"),
        ("kafkaexec://h", "kafka-exec"),
        ("KAFKA-EXEC://h", "kafka-exec"),
        ("kafka-exce://h", "kafka-exec"),
        ("kafka-exec+ssl://h", "kafka-execs"),
        ("kafka_execs://h", "kafka-execs"),
        ("kafka-exec:/h", "kafka-exec"),
        ("kafka_exec:h", "kafka-exec"),
        (f"kafka-exec://h;kafka_exec://ann:{SECRET}@h2", "kafka-exec"),
        (["kafka-exec://h", "kafka_exec://h2"], "kafka-exec"),
    ],
)
def test_what_is_almost_our_scheme_is_refused(url: Any, right: str) -> None:
    with pytest.raises(
        ConfigurationError, match=f"names no broker and no result back end: write {right}://$"
    ) as caught:
        check_schemes(url)
    assert SECRET not in str(caught.value)
    for setting in ("broker_url", "broker_read_url", "broker_write_url", "result_backend"):
        app = Celery(set_as_current=False)
        app.config_from_object({setting: url})
        with pytest.raises((ImproperlyConfigured, ConfigurationError), match=f"write {right}://"):
            app.conf.task_serializer  # noqa: B018
    app = Celery(broker="memory://", set_as_current=False)
    with pytest.raises(ConfigurationError, match=f"write {right}://"):
        app.connection_for_write(url)


@pytest.mark.parametrize(
    "url",
    [
        "kafka-exec://h",
        "kafka-execs://h1,h2/x?max_deliveries=2",
        "kafka://h",
        "confluentkafka://h",
        "amqp://h",
        "redis://kafka-exec",
        "memory://",
        "",
        None,
        "rpc://",
        "localhost",
        "django-db",
        "cache+memory://",
        5,
        "kafka-exec://h;amqp://h",
        ["redis://h", "kafka-exec://h"],
    ],
)
def test_other_urls_pass(url: Any) -> None:
    check_schemes(url)


@pytest.mark.parametrize("scheme", ["kafka", "confluentkafka"])
def test_kombus_own_transport_for_kafka_is_told_of_once(scheme: str, caplog: pytest.LogCaptureFixture) -> None:
    once.forget()
    for _ in range(2):
        app = Celery(broker=f"{scheme}://ann:{SECRET}@h", set_as_current=False)
        assert not app.conf.task_acks_late
    (record,) = caplog.records
    assert f"{scheme}:// is another transport" in record.getMessage()
    assert SECRET not in record.getMessage()
