"""Secrets show in nothing that is printed: URLs, reprs, reports, errors."""

from __future__ import annotations

from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

import pytest
from celery import Celery
from celery.exceptions import ImproperlyConfigured
from kombu import Connection

import kafka_exec
from kafka_exec.core.cluster.settings import Settings
from kafka_exec.kafka.client.properties import bootstrap_servers, client_properties
from kafka_exec.kafka.cluster.cluster import Cluster
from kafka_exec.settings.options import api_tokens, cache_url

SECRET = "correct-horse"
URL = f"kafka-execs://ann:{SECRET}@h1,h2,h3:9093/shop"


def configured(**conf: Any) -> Celery:
    app = Celery("secrets", broker=URL, set_as_current=False)
    app.conf.update(conf)
    return app


def test_a_url_names_several_servers_a_user_and_a_prefix() -> None:
    connection = Connection(URL)
    assert bootstrap_servers(connection.hostname, connection.port) == "h1:9093,h2:9093,h3:9093"
    assert (connection.userid, connection.password, connection.virtual_host) == ("ann", SECRET, "shop")
    assert connection.transport.tls


def test_a_url_hides_its_password() -> None:
    connection = Connection(f"{URL};kafka-exec://bob:{SECRET}@h4")
    assert SECRET not in connection.as_uri()
    assert SECRET not in repr(connection)


def test_a_cluster_shows_its_servers_only() -> None:
    properties = client_properties(servers="h1:9092", settings=Settings(), user="ann", password=SECRET)
    cluster = Cluster(properties, Settings())
    assert repr(cluster) == "<Cluster h1:9092>"
    assert SECRET not in repr(cluster.health)


def test_celerys_report_shows_no_secret() -> None:
    kafka = {"sasl.password": SECRET, "ssl.key.password": SECRET, "sasl.oauthbearer.client.secret": SECRET}
    app = configured(broker_transport_options={"kafka": kafka})
    assert "sasl.password" in app.bugreport()
    assert SECRET not in app.bugreport()


@pytest.mark.parametrize(("key", "namespace"), [("kafka_exec_cache_url", None), ("SHOP_KAFKA_EXEC_CACHE_URL", "SHOP")])
def test_the_url_of_the_cache_is_shown_by_nothing(key: str, namespace: str | None) -> None:
    url = f"redis://:{SECRET}@h4/1"
    app = Celery("secrets", broker=URL, set_as_current=False)
    app.config_from_object(SimpleNamespace(**{key: url}), namespace=namespace)
    assert cache_url(app.conf) == url
    assert "cache_url" in app.bugreport().lower()
    with app.connection_for_write() as connection:
        shown = [
            app.bugreport(),
            app.conf.humanize(),
            repr(app.conf.table()),
            repr(connection.info()["transport_options"]),
        ]
    assert SECRET not in "".join(shown)


def test_secret_options_are_shown_by_no_connection() -> None:
    secrets = {"cache_url": f"redis://:{SECRET}@h4/1", "api_tokens": [f"ann:{SECRET * 2}"]}
    app = configured(broker_transport_options={**secrets, "buffer": 7})
    assert api_tokens(app.conf) == {"ann": SECRET * 2}
    with app.connection_for_write() as connection:
        shown = connection.info()["transport_options"]
    assert shown["buffer"] == 7
    assert SECRET not in repr(shown) + app.bugreport()
    assert SECRET not in configured(kafka_exec_api_tokens=secrets["api_tokens"]).bugreport()


def test_the_url_of_the_cache_comes_by_transport_options_too() -> None:
    assert cache_url(configured().conf) is None
    assert cache_url(configured(broker_transport_options={"cache_url": "redis://h"}).conf) == "redis://h"


@pytest.mark.parametrize(
    ("conf", "message"),
    [
        ({"kafka_exec_bufer": SECRET}, "unknown setting kafka_exec_bufer, did you mean kafka_exec_buffer?"),
        ({"kafka_exec_cache_url": f"http://:{SECRET}@h"}, "kafka_exec_cache_url must be a URL of redis, rediss, unix"),
        ({"kafka_exec_secrets_file": {"sasl.password": SECRET}}, "kafka_exec_secrets_file must be a path, not dict"),
    ],
)
def test_a_wrong_setting_stops_the_app_without_showing_it(conf: Mapping[str, Any], message: str) -> None:
    app = Celery("secrets", broker=URL, set_as_current=False)
    app.config_from_object(dict(conf))
    with pytest.raises(ImproperlyConfigured) as caught:
        app.conf.task_acks_late  # noqa: B018
    assert str(caught.value) == message


def test_safer_defaults_apply_where_nothing_was_set() -> None:
    conf = configured().conf
    assert (conf.task_acks_late, conf.task_reject_on_worker_lost, conf.task_track_started) == (True, True, True)
    app = Celery("secrets", broker=URL, set_as_current=False)
    app.config_from_object({"task_acks_late": False})
    assert (app.conf.task_acks_late, app.conf.task_reject_on_worker_lost) == (False, True)
    other = Celery("secrets", broker="memory://", set_as_current=False)
    assert not other.conf.task_acks_late


def test_install_is_for_apps_that_exist_already() -> None:
    app = configured()
    fixups = list(app._fixups)
    kafka_exec.install(app)
    assert app._fixups == fixups
    app._fixups = []
    kafka_exec.install(app)
    assert len(app._fixups) == 1
    app._fixups = []
    app.finalize()
    with pytest.raises(ImproperlyConfigured, match="too late: the app is finalized"):
        kafka_exec.install(app)
