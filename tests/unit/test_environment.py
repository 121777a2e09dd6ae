"""Settings from the environment: read by their kinds, refused by the variable's name, and stronger than all else."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kafka_exec.core.cluster.settings import KINDS, Settings
from kafka_exec.errors import ConfigurationError
from kafka_exec.settings.environment import from_environment, variable

SECRET = "correct-horse"

RIGHT: dict[str, tuple[str, Any]] = {
    "partitions": ('{"queue": 3}', {"queue": 3}),
    "replication": ("3", 3),
    "heartbeat": ("0.5", 0.5),
    "session_timeout": ("6", 6.0),
    "publish_timeout": ("1e1", 10.0),
    "commit_interval": (" 2 ", 2.0),
    "group_protocol": ("consumer", "consumer"),
    "exchange_retention": ("60", 60.0),
    "dead_retention": ("60", 60.0),
    "audit_retention": ("60", 60.0),
    "deduplication_retention": ("60", 60.0),
    "revoked_retention": ("60", 60.0),
    "buffer": ("100", 100),
    "max_deliveries": ("2", 2),
    "wrong_node_timeout": ("60", 60.0),
    "suspend_timeout": ("60", 60.0),
    "resume_timeout": ("60", 60.0),
    "work_sharing": ("false", False),
    "control_plane": ("TRUE", True),
    "beat_catch_up": ("all", "all"),
    "beat_labels": ('["gpu", "eu"]', ["gpu", "eu"]),
    "beat_claim_heartbeat": ("5", 5.0),
    "topics": ('{"queue": "jobs.{name}"}', {"queue": "jobs.{name}"}),
    "health_file": ("/run/kafka-exec", "/run/kafka-exec"),
    "metrics_port": ("9810", 9810),
    "metrics_host": ("0.0.0.0", "0.0.0.0"),
    "secrets_file": ("/run/secrets/kafka", "/run/secrets/kafka"),
    "api_tokens": (f'["ann:{SECRET * 2}"]', [f"ann:{SECRET * 2}"]),
    "cache_url": (f"redis://:{SECRET}@h", f"redis://:{SECRET}@h"),
}


def test_the_table_of_right_texts_knows_every_setting() -> None:
    assert set(RIGHT) == set(KINDS)


@pytest.mark.parametrize("name", KINDS)
def test_every_setting_is_read(name: str) -> None:
    text, value = RIGHT[name]
    found = from_environment({variable(name): text, "PATH": "/bin", "CELERY_BROKER_URL": "x"})
    assert found == {name: value}
    assert getattr(Settings.read({}, found), name) == value


@pytest.mark.parametrize("name", [name for name, kind in KINDS.items() if kind.read("x") == "x" and kind.example])
def test_the_example_of_the_documentation_is_right(name: str) -> None:
    assert name in from_environment({variable(name): KINDS[name].example})


@pytest.mark.parametrize("name", ["partitions", "heartbeat", "buffer", "work_sharing", "beat_labels", "topics"])
@pytest.mark.parametrize("text", ["x", "yes", "{", "[1", "nan", "-1", "[[[[" * 20_000, '{"a": 1}', "1e999"])
def test_a_wrong_text_is_refused_by_the_variables_name(name: str, text: str) -> None:
    with pytest.raises(ConfigurationError, match=f"^{variable(name)}"):
        from_environment({variable(name): text})


def test_what_is_no_json_is_refused_with_an_example() -> None:
    with pytest.raises(ConfigurationError) as caught:
        from_environment({"KAFKA_EXEC_PARTITIONS": "queue=3"})
    assert str(caught.value) == 'KAFKA_EXEC_PARTITIONS must be JSON, such as {"queue": 32}'


@given(name=st.sampled_from(sorted(KINDS)), text=st.text(max_size=20))
def test_any_text_is_a_setting_or_refused(name: str, text: str) -> None:
    refusal, found = "", {}
    try:
        found = from_environment({variable(name): text})
    except ConfigurationError as error:
        refusal = str(error)
    assert refusal.startswith(variable(name)) or found or not text
    Settings.read(found)


@pytest.mark.parametrize(
    ("wrong", "right"),
    [
        ("KAFKA_EXEC_MAX_DELIVERY", "KAFKA_EXEC_MAX_DELIVERIES"),
        ("KAFKA_EXEC_SESION_TIMEOUT", "KAFKA_EXEC_SESSION_TIMEOUT"),
        ("KAFKA_EXEC_PASWORD", "KAFKA_EXEC_PASSWORD"),
        ("kafka_exec_buffer", "KAFKA_EXEC_BUFFER"),
        ("KAFKA_EXEC_Heartbeat", "KAFKA_EXEC_HEARTBEAT"),
        ("KAFKA_EXEC_BROKER_URL", "CELERY_BROKER_URL"),
        ("KAFKA_EXEC_RESULT_BACKEND", "CELERY_RESULT_BACKEND"),
    ],
)
def test_an_unknown_variable_is_refused_with_the_nearest(wrong: str, right: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        from_environment({wrong: "5"})
    assert str(caught.value) == f"unknown setting {wrong}, did you mean {right}?"


def test_what_is_no_setting_is_known() -> None:
    given = {"KAFKA_EXEC_USER": "ann", "KAFKA_EXEC_PASSWORD": SECRET, "KAFKA_EXEC_KAFKA": '{"linger.ms": 5}'}
    assert from_environment(given) == {"kafka": {"linger.ms": 5}}


def test_an_empty_variable_says_nothing() -> None:
    assert from_environment({variable(name): "" for name in KINDS}) == {}


@pytest.mark.parametrize("text", [SECRET, json.dumps(SECRET), json.dumps([SECRET]), f'{{"sasl.password": "{SECRET}"'])
def test_a_refusal_shows_no_secret(text: str) -> None:
    for name in ("KAFKA_EXEC_KAFKA", "KAFKA_EXEC_CACHE_URL"):
        with pytest.raises(ConfigurationError, match=f"^{name}") as caught:
            from_environment({name: text})
        assert SECRET not in str(caught.value)
