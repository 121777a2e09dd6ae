"""The lines of ``celery report`` about this package."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import pytest
from celery import Celery

import kafka_exec
from kafka_exec.core.cluster.settings import Settings
from kafka_exec.settings.inventory import in_force

SECRET = "correct-horse"


def report(url: str, **conf: Any) -> list[str]:
    app = Celery("about", broker=url, set_as_current=False)
    app.conf.update(conf)
    told: str = app.bugreport()
    return told.splitlines()


def test_the_report_names_us_and_our_settings_in_force() -> None:
    told = report(
        f"kafka-exec://ann:{SECRET}@127.0.0.1:1/shop",
        kafka_exec_heartbeat=2.5,
        kafka_exec_cache_url=f"redis://:{SECRET}@h4/1",
        broker_transport_options={"buffer": 77, "kafka": {"sasl.password": SECRET}},
    )
    assert [line for line in told if f"kafka_exec:{kafka_exec.__version__}" in line]
    ours = told[told.index("in force:") + 1 :]
    assert "kafka_exec_heartbeat: 2.5" in ours
    assert "kafka_exec_buffer: 77" in ours, "wherever it was set"
    assert f"kafka_exec_session_timeout: {Settings().session_timeout}" in ours, "also what nobody has set"
    assert not [line for line in ours if "cache_url" in line or SECRET in line]
    assert SECRET not in "\n".join(told)


def test_the_report_of_another_broker_has_our_version_only() -> None:
    told = report("redis://127.0.0.1:1/0")
    assert [line for line in told if f"kafka_exec:{kafka_exec.__version__}" in line]
    assert "in force:" not in told


def test_what_others_put_in_the_place_of_celerys_report_is_in_effect(monkeypatch: pytest.MonkeyPatch) -> None:
    app = Celery("about", broker="kafka-exec://127.0.0.1:1/shop", set_as_current=False)
    monkeypatch.setattr(Celery, "bugreport", lambda self: "patched")
    assert app.bugreport().startswith("patched\n")


def test_a_setting_that_may_be_secret_is_not_told() -> None:
    told = in_force(Settings(cache_url=f"redis://:{SECRET}@h4/1", beat_labels={"b", "a"}))
    assert told.keys() == {field.name for field in fields(Settings)} - {"api_tokens", "cache_url"}
    assert told["beat_labels"] == ["a", "b"]
