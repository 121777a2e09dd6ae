"""The lines of kafka-acls for each role."""

from __future__ import annotations

import pytest
from celery import Celery
from click.testing import CliRunner

import kafka_exec  # noqa: F401
from kafka_exec.cli.cluster.acls import acls
from kafka_exec.core.cluster.rights import ROLES, Right, commands


@pytest.mark.parametrize("role", ROLES)
def test_each_right_of_a_role_is_a_line_about_names_that_begin_with_the_prefix(role: str) -> None:
    lines = list(commands("a b", "User:ann", [role]))
    assert len(lines) == len(ROLES[role])
    for line, (operation, resource, rest) in zip(lines, ROLES[role], strict=True):
        assert f"--allow-principal User:ann --operation {operation} --resource-pattern-type prefixed" in line
        assert line.endswith(f" --{resource} a_x20b.{rest}")


def test_of_several_roles_each_right_stands_once() -> None:
    lines = list(commands("shop", "User:ann", ROLES))
    assert len(set(lines)) == len(lines)
    assert Right("Delete", "group") in ROLES["operator"]
    assert any("--operation Delete --resource-pattern-type prefixed --group shop." in line for line in lines)


def test_the_command_needs_no_broker() -> None:
    class Context:
        app = Celery(broker="kafka-exec://127.0.0.1:1/shop", set_as_current=False)

    told = CliRunner().invoke(acls, ["--role", "beat", "--principal", "User:beat"], obj=Context())
    assert told.exit_code == 0, told.output
    assert told.output.splitlines() == list(commands("shop", "User:beat", ["beat"]))
