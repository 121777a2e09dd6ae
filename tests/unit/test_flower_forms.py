"""Our pages in Flower are made of the API: their acts fit its operations, and their forms its schemas."""

from __future__ import annotations

import logging
import re
from pathlib import Path
from typing import Any

import pytest

from kafka_exec.core.results.lifecycle import State
from kafka_exec.core.results.smaller import smaller
from kafka_exec.core.results.state_record import StateRecord
from kafka_exec.errors import ConfigurationError
from kafka_exec.flower.forms import BY_NAME, IN_PATH, body_of, fields, path_of
from kafka_exec.flower.navigation import Templates
from kafka_exec.flower.pages import LETTER_ACTS, PAGES, TASK_ACTS
from kafka_exec.flower.tables import PageAct, forms, shown

#: Facts of all things that acts are on.
FACTS: dict[str, Any] = {
    **dict.fromkeys(("queue", "key", "id", "name", "correlation_id", "reason", "task"), "<&/>"),
    **{"partition": 3, "offset": 17, "state": "DONE", "paused_keys": {"k": {}}, "body": [[1], {"y": 2}, {}]},
}
ACTS = [*TASK_ACTS, *LETTER_ACTS, *(act for page in PAGES.values() for act in (*page.acts, *page.acts_on_all))]


@pytest.mark.parametrize("act", ACTS, ids=lambda act: f"{act.operation}-{act.label}")
def test_an_act_fits_its_operation(act: PageAct) -> None:
    operation = BY_NAME[act.operation]
    assert operation.method == "POST"
    assert sorted(act.path(FACTS)) == sorted(re.findall(r"{(\w+)}", operation.path))
    assert set(act.fields) <= set(operation.body)
    assert set(operation.required) <= set(act.fields)
    (form,) = forms([act._replace(applies=lambda facts: True)], FACTS)
    filled = {**form.hidden, **{field.name: field.value for field in form.fields}}
    assert "<" not in path_of(operation, filled)
    assert path_of(operation, filled).count("/") == operation.path.count("/") + 2
    body_of(operation, filled)


@pytest.mark.parametrize(
    ("arguments", "offered"),
    [
        ({"args": [1], "kwargs": {"a": 2}}, True),
        ({"args": ["x" * 9000], "kwargs": {"a": 2}}, False),
        ({"args": [1], "kwargs": {"a": "x" * 9000}}, False),
    ],
)
def test_no_task_is_sent_with_what_stands_for_arguments_that_were_left_out(
    arguments: dict[str, Any], offered: bool
) -> None:
    whole, *cut = smaller(StateRecord("t", State.FAILED, "FAILURE", name="pay", **arguments), None)
    stored = whole if offered else cut[-1]
    again = next(act for act in TASK_ACTS if act.operation == "create")
    edited = next(act for act in TASK_ACTS if act.label == "Edit and replay")
    facts = {**stored.as_json(), "reason": "dead letter"}
    assert (again.applies(facts), edited.applies(facts)) == (offered, offered)


def test_a_field_is_filled_with_what_was_given() -> None:
    arguments = BY_NAME["replay_letter"].body
    found = fields(arguments, {"args": [1, "<é>"], "kwargs": {}, "again": True})
    assert [(each.name, each.kind, each.value) for each in found] == [
        ("args", "json", '[1, "<é>"]'),
        ("kwargs", "json", "{}"),
        ("again", "flag", "true"),
    ]
    assert [each.value for each in fields(arguments, {})] == ["", "", ""]
    assert {each.name: each.value for each in fields(BY_NAME["executions"].query, {"name": "a*"})}["limit"] == "100"


def test_the_fields_become_json_values_and_empty_ones_nothing() -> None:
    operation = BY_NAME["create"]
    filled = {"name": "add", "args": "[1, 2]", "kwargs": "", "queue": "7", "unknown": "x"}
    assert body_of(operation, filled) == {"name": "add", "args": [1, 2], "queue": "7"}
    for wrong in ("[1", "yes", "[" * 100_000):
        with pytest.raises(ConfigurationError, match="args: it is no JSON value"):
            body_of(operation, {"args": wrong})
    with pytest.raises(ConfigurationError, match="key is missing"):
        path_of(BY_NAME["unblock_key"], {"key": "k"})
    assert path_of(BY_NAME["unblock_key"], {f"{IN_PATH}key": "a/../b?c"}) == "/api/kafka/keys/a%2F..%2Fb%3Fc/unblock"


@pytest.mark.parametrize(
    ("name", "value", "text"),
    [
        ("queues", ["a", "b"], "a, b"),
        ("queues", [], ""),
        ("missed", 0, "0"),
        ("paused", False, ""),
        ("paused", True, "yes"),
        ("result", {"x": "é"}, '{"x": "é"}'),
        ("holder", None, ""),
        ("name", "<b>", "<b>"),
    ],
)
def test_a_value_is_shown_as_a_text(name: str, value: Any, text: str) -> None:
    assert shown(name, value) == text


def test_our_pages_stand_in_flowers_navigation_and_another_navigation_is_left_as_it_is(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    navigation = tmp_path / "navbar.html"
    for text, has_place in (("<ul><li>Broker</li></ul><ul></ul>", True), ("<menu>Broker</menu>", False)):
        navigation.write_text(text)
        templates = Templates(str(tmp_path), '/flo"/kafka/queues')
        with caplog.at_level(logging.WARNING, "kafka_exec"):
            shown_twice = [templates.load("navbar.html").generate(active_tab="kafka").decode() for _ in range(2)]
        assert ('href="/flo&quot;/kafka/queues"' in shown_twice[0]) is has_place
        assert "Broker" in shown_twice[1]
    assert [record.message.partition(":")[0] for record in caplog.records] == [
        "this version of Flower has no place for Kafka in its navigation"
    ]
