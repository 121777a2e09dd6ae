"""Settings: what is wrong is refused by name, what is secret is never shown."""

from __future__ import annotations

import json
import re
import ssl
import traceback
from dataclasses import FrozenInstanceError, fields
from pathlib import Path
from typing import Any

import pytest

from kafka_exec.core.cluster.settings import (
    KINDS,
    PREFIX,
    Settings,
    check_names,
    check_value,
)
from kafka_exec.errors import ConfigurationError
from kafka_exec.kafka.client.properties import bootstrap_servers, client_properties

SECRET = "correct-horse"
NAMES = [setting.name for setting in fields(Settings)]

NO_TIME = [0, -1, 0.0001, float("inf"), float("-inf"), float("nan"), "5", None, True, [1]]
NO_COUNT = [0, -1, 1.5, float("inf"), "5", True, [1]]

WRONG: dict[str, list[Any]] = {
    "partitions": [16, "16", [("queue", 1)], {"queues": 3}, {7: 3}, *({"queue": value} for value in [*NO_COUNT, None])],
    "replication": NO_COUNT,
    "heartbeat": NO_TIME,
    "session_timeout": NO_TIME,
    "publish_timeout": NO_TIME,
    "commit_interval": NO_TIME,
    "group_protocol": ["", "Classic", "share", None, 1, ["classic"]],
    "exchange_retention": NO_TIME,
    "dead_retention": NO_TIME,
    "audit_retention": NO_TIME,
    "deduplication_retention": NO_TIME,
    "wrong_node_timeout": NO_TIME,
    "suspend_timeout": NO_TIME,
    "resume_timeout": NO_TIME,
    "revoked_retention": NO_TIME,
    "buffer": [*NO_COUNT, None],
    "max_deliveries": [*NO_COUNT, None],
    "control_plane": [0, 1, "yes", None, []],
    "work_sharing": [0, 1, "yes", None, []],
    "beat_catch_up": ["", "none", None, 1, True, ["one"]],
    "beat_labels": ["gpu", 5, None, [1], {"gpu": None, 3: 4}],
    "beat_claim_heartbeat": NO_TIME,
    "topics": ["x", 5, ["queue"], {"que": "{name}"}, {"queue": "q"}, {"queue": None}, {"nodes": "{region}"}],
    "health_file": [5, True, b"x"],
    "metrics_port": [-1, 65536, True, "9810", 1.0, None],
    "metrics_host": ["", "a b", 5, None, b"::"],
    "secrets_file": [5, {"sasl.password": SECRET}, [SECRET], b"x"],
    # Celery's reports would show the values of a mapping.
    "api_tokens": [SECRET, [SECRET], None, {"ann": SECRET * 2}, [f"a b:{SECRET * 2}"], [f"ann:{SECRET} x"], [None]],
    "cache_url": [
        "",
        5,
        "h:6379",
        f"http://:{SECRET}@h",
        f"redis:{SECRET}",
        [f"redis://:{SECRET}@h"],
        True,
        Path("redis://h"),
    ],
}


def test_the_table_of_wrong_values_knows_every_setting() -> None:
    assert set(WRONG) == set(NAMES) == set(KINDS)


@pytest.mark.parametrize(
    ("name", "value"),
    [(name, value) for name, values in WRONG.items() for value in values],
    ids=lambda value: str(value),
)
def test_a_wrong_value_is_refused_by_its_name(name: str, value: Any) -> None:
    with pytest.raises(ConfigurationError, match=f"^{PREFIX}{name}") as caught:
        Settings(**{name: value})
    assert SECRET not in str(caught.value)


@pytest.mark.parametrize(
    "given_settings",
    [
        {},
        {"partitions": {"queue": 1, "exchange": 100}},
        {"replication": 3, "buffer": 1, "heartbeat": 0.001, "session_timeout": 45},
        {"group_protocol": "consumer", "topics": {"queue": "jobs.{name}"}},
        {"metrics_port": 0, "metrics_host": "::"},
        {"metrics_port": 65535, "metrics_host": "0.0.0.0"},
        {"secrets_file": "/run/secrets/kafka"},
        {"secrets_file": Path("/run/secrets/kafka")},
        {"api_tokens": ["ann:" + "a" * 16, "bob:" + ":b" * 40]},
        {"cache_url": "redis://h:6379/1"},
        {"cache_url": "rediss://ann:pw@h"},
        {"cache_url": "unix:///run/redis.sock?db=1"},
    ],
)
def test_right_values_are_kept(given_settings: dict[str, Any]) -> None:
    settings = Settings(**given_settings)
    assert {name: getattr(settings, name) for name in given_settings} == given_settings


def test_settings_are_frozen() -> None:
    with pytest.raises(FrozenInstanceError):
        Settings().buffer = 5  # type: ignore[misc]


def test_read_takes_what_is_ours_and_the_last_layer_wins() -> None:
    first = {"buffer": 7, "heartbeat": 2, "visibility_timeout": 3600, "kafka": {"debug": "all"}}
    assert Settings.read(first, {"buffer": 8}, {}) == Settings(buffer=8, heartbeat=2)


def test_a_wrong_value_is_named_as_it_was_written() -> None:
    with pytest.raises(ConfigurationError, match=r"^HEART must be a number of seconds"):
        check_value("heartbeat", 0, lambda name: name.upper()[:5])


@pytest.mark.parametrize(("kind", "number"), [("queue", 2), ("exchange", 6), ("state", 16), ("control", 8)])
def test_partitions_of_a_kind(kind: str, number: int) -> None:
    assert Settings(partitions={"queue": 2}).partitions_of(kind) == number


# Names


def test_known_names_pass() -> None:
    check_names(NAMES)
    check_names([*NAMES, "kafka"], also=["kafka"])


@pytest.mark.parametrize(
    ("wrong", "right"),
    [
        ("kafka_exec_partition", "kafka_exec_partitions"),
        ("kafka_exec_heartbeats", "kafka_exec_heartbeat"),
        ("kafka_exec_Buffer", "kafka_exec_buffer"),
        ("kafka_exec_secret_file", "kafka_exec_secrets_file"),
        ("kafka_exec_sesion_timeout", "kafka_exec_session_timeout"),
    ],
)
def test_an_unknown_name_is_refused_with_the_nearest(wrong: str, right: str) -> None:
    with pytest.raises(ConfigurationError, match=f"unknown setting {wrong}, did you mean {right}\\?"):
        check_names(["buffer", wrong.removeprefix(PREFIX)])


@pytest.mark.parametrize("name", NAMES)
def test_one_wrong_letter_leads_to_the_right_name(name: str) -> None:
    for place in range(len(name)):
        for letter in ("", "z", f"{name[place]}z"):
            wrong = name[:place] + letter + name[place + 1 :]
            with pytest.raises(ConfigurationError, match=f"did you mean {PREFIX}{name}\\?"):
                check_names([wrong])


# Hosts


@pytest.mark.parametrize(
    ("hosts", "port", "servers"),
    [
        (None, None, "127.0.0.1:9092"),
        ("", 9093, "127.0.0.1:9093"),
        ("h1", None, "h1:9092"),
        ("h1", 0, "h1:9092"),
        ("h1,h2,h3", 9095, "h1:9095,h2:9095,h3:9095"),
        ("h1,,h2,", 9092, "h1:9092,h2:9092"),
        ("h1, h2", 9092, "h1:9092,h2:9092"),
        (",", 9092, "127.0.0.1:9092"),
    ],
)
def test_hosts_of_a_url(hosts: str | None, port: int | None, servers: str) -> None:
    assert bootstrap_servers(hosts, port) == servers


# Security


def properties(secrets: dict[str, Any] | None = None, tmp_path: Path | None = None, **options: Any) -> dict[str, Any]:
    settings = Settings()
    if secrets is not None and tmp_path is not None:
        path = tmp_path / "secrets.json"
        path.write_text(json.dumps(secrets))
        settings = Settings(secrets_file=str(path))
    return client_properties(servers="h:9092", settings=settings, **options)


PLAIN = {"bootstrap.servers": "h:9092", "security.protocol": "plaintext"}
TLS = {**PLAIN, "security.protocol": "ssl"}
SASL = {**PLAIN, "security.protocol": "sasl_plaintext", "sasl.username": "ann", "sasl.password": "pw"}
SCRAM = {**SASL, "sasl.mechanism": "SCRAM-SHA-512"}


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, PLAIN),
        ({"tls": False}, PLAIN),
        ({"tls": {}}, PLAIN),
        ({"mechanism": "PLAIN"}, PLAIN),
        ({"tls": True}, TLS),
        ({"user": "ann", "password": "pw"}, SCRAM),
        ({"user": "ann", "password": "pw", "mechanism": "PLAIN"}, {**SASL, "sasl.mechanism": "PLAIN"}),
        ({"user": "ann", "password": "pw", "tls": True}, {**SCRAM, "security.protocol": "sasl_ssl"}),
        (
            {"mechanism": "OAUTHBEARER", "tls": True},
            {**PLAIN, "security.protocol": "sasl_ssl", "sasl.mechanism": "OAUTHBEARER"},
        ),
        ({"extra": {"ssl.ca.location": "ca"}}, {**TLS, "ssl.ca.location": "ca"}),
        ({"extra": {"security.protocol": "SSL"}}, {**PLAIN, "security.protocol": "SSL"}),
        (
            {"extra": {"sasl.username": "ann", "sasl.password": "pw", "sasl.mechanism": "PLAIN"}},
            {**SASL, "sasl.mechanism": "PLAIN"},
        ),
        ({"extra": {"bootstrap.servers": "a:1,b:2"}}, {**PLAIN, "bootstrap.servers": "a:1,b:2"}),
        ({"user": "ann", "password": "pw", "extra": {"sasl.password": "other"}}, {**SCRAM, "sasl.password": "other"}),
    ],
)
def test_security_properties(options: dict[str, Any], expected: dict[str, Any]) -> None:
    assert properties(**options) == expected


@pytest.mark.parametrize(
    ("celerys", "librdkafkas"),
    [
        ({"ca_certs": "f"}, {"ssl.ca.location": "f"}),
        ({"cafile": "f"}, {"ssl.ca.location": "f"}),
        ({"ssl_ca_certs": "f"}, {"ssl.ca.location": "f"}),
        ({"certfile": "f"}, {"ssl.certificate.location": "f"}),
        ({"ssl_certfile": "f"}, {"ssl.certificate.location": "f"}),
        ({"keyfile": "f"}, {"ssl.key.location": "f"}),
        ({"ssl_keyfile": "f"}, {"ssl.key.location": "f"}),
        ({"keyfile_password": "f"}, {"ssl.key.password": "f"}),
        ({"password": "f"}, {"ssl.key.password": "f"}),
        ({"ciphers": "f"}, {"ssl.cipher.suites": "f"}),
        ({"cert_reqs": ssl.CERT_NONE}, {"enable.ssl.certificate.verification": False}),
        ({"cert_reqs": "CERT_NONE"}, {"enable.ssl.certificate.verification": False}),
        ({"ssl_cert_reqs": 0}, {"enable.ssl.certificate.verification": False}),
        ({"cert_reqs": ssl.CERT_REQUIRED}, {"enable.ssl.certificate.verification": True}),
        ({"cert_reqs": ssl.CERT_OPTIONAL}, {"enable.ssl.certificate.verification": True}),
        ({"cert_reqs": None}, {"enable.ssl.certificate.verification": True}),
        ({"ssl.crl.location": "f"}, {"ssl.crl.location": "f"}),
        ({"cafile": "a", "certfile": "c"}, {"ssl.ca.location": "a", "ssl.certificate.location": "c"}),
    ],
)
def test_broker_use_ssl(celerys: dict[str, Any], librdkafkas: dict[str, Any]) -> None:
    assert properties(tls=celerys) == {**TLS, **librdkafkas}


def test_an_unknown_key_of_broker_use_ssl_is_refused_without_its_value() -> None:
    with pytest.raises(
        ConfigurationError, match=r"broker_use_ssl: unknown key 'passwort'; known are .*cert_reqs"
    ) as caught:
        properties(tls={"passwort": SECRET})
    assert SECRET not in str(caught.value)


def test_librdkafka_properties_that_are_no_mapping_are_refused() -> None:
    with pytest.raises(ConfigurationError, match=re.escape('broker_transport_options["kafka"]')) as caught:
        properties(extra=f"sasl.password={SECRET}")
    assert SECRET not in str(caught.value)


# The secrets file


@pytest.mark.parametrize(
    ("secrets", "options", "expected"),
    [
        ({}, {}, PLAIN),
        ({"sasl.username": "ann", "sasl.password": "pw"}, {}, SCRAM),
        ({"sasl.password": "pw"}, {"user": "ann"}, SCRAM),
        ({"sasl.username": "bob", "sasl.password": "other"}, {"user": "ann", "password": "pw"}, SCRAM),
        ({"sasl.mechanism": "PLAIN"}, {"user": "ann", "password": "pw"}, {**SASL, "sasl.mechanism": "PLAIN"}),
        ({"sasl.mechanisms": "PLAIN"}, {"user": "ann", "password": "pw"}, {**SASL, "sasl.mechanism": "PLAIN"}),
        ({"sasl.mechanism": "PLAIN"}, {"user": "ann", "password": "pw", "mechanism": "SCRAM-SHA-512"}, SCRAM),
        ({"security.protocol": "SSL"}, {}, TLS),
        ({"security.protocol": "plaintext"}, {"tls": True}, TLS),
        (
            {"security.protocol": "SASL_SSL", "sasl.username": "ann", "sasl.password": "pw"},
            {},
            {**SCRAM, "security.protocol": "sasl_ssl"},
        ),
        (
            {"security.protocol": "sasl_ssl"},
            {"user": "ann", "password": "pw"},
            {**SCRAM, "security.protocol": "sasl_ssl"},
        ),
        ({"ssl.key.password": "k"}, {}, {**TLS, "ssl.key.password": "k"}),
        ({"ssl.key.password": "k"}, {"extra": {"ssl.key.password": "x"}}, {**TLS, "ssl.key.password": "x"}),
        ({"bootstrap.servers": "other:1"}, {}, PLAIN),
    ],
)
def test_the_secrets_file_comes_first_and_never_weakens_the_connection(
    tmp_path: Path, secrets: dict[str, Any], options: dict[str, Any], expected: dict[str, Any]
) -> None:
    assert properties(secrets, tmp_path, **options) == expected


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "No such file or directory"),
        (b"", "is not JSON"),
        (f'{{"sasl.password": "{SECRET}"'.encode(), "is not JSON"),
        (f"sasl.password={SECRET}".encode(), "is not JSON"),
        (f'"\xff{SECRET}"'.encode("latin-1"), "is not JSON"),
        (f'"{SECRET}"'.encode(), "must hold a JSON object of librdkafka properties"),
        (f'["{SECRET}"]'.encode(), "must hold a JSON object of librdkafka properties"),
        (b"[" * 100_000 + SECRET.encode(), "is not JSON"),
    ],
    ids=lambda value: repr(value)[:40],
)
def test_an_unreadable_secrets_file_is_named_and_not_shown(tmp_path: Path, content: bytes | None, message: str) -> None:
    path = tmp_path / "kafka.json"
    if content is not None:
        path.write_bytes(content)
    settings = Settings(secrets_file=str(path))
    with pytest.raises(ConfigurationError) as caught:
        client_properties(servers="h:9092", settings=settings)
    assert str(caught.value) == f"kafka_exec_secrets_file {path}{':' if content is None else ''} {message}"
    assert SECRET not in "".join(traceback.format_exception(caught.value))
    # The parser's error holds the whole text: nobody who reports causes may be led to it.
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__ or caught.value.__context__ is None


def test_a_folder_is_no_secrets_file(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="Is a directory"):
        client_properties(servers="h:9092", settings=Settings(secrets_file=str(tmp_path)))


def test_settings_show_the_path_and_not_the_secrets(tmp_path: Path) -> None:
    path = tmp_path / "kafka.json"
    path.write_text(json.dumps({"sasl.password": SECRET}))
    settings = Settings(secrets_file=str(path))
    assert client_properties(servers="h:9092", settings=settings)["sasl.password"] == SECRET
    assert str(path) in repr(settings)
    assert SECRET not in repr(settings)


def test_settings_do_not_show_the_url_of_the_cache() -> None:
    assert SECRET not in repr(Settings(cache_url=f"redis://:{SECRET}@h"))
