"""The forms of pages, made of the schemas of the API's operations, and what their fields become."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any, NamedTuple
from urllib.parse import quote

from kafka_exec.api.openapi import BASE, OPERATIONS
from kafka_exec.api.operation import Operation, Schema
from kafka_exec.errors import ConfigurationError

#: The operations of the API by their names.
BY_NAME: Mapping[str, Operation] = {each.name: each for each in OPERATIONS}

#: The names of the fields that fill a path begin with this.
IN_PATH = "path."


class FormField(NamedTuple):
    """A field of a form.

    Attributes:
        kind: ``text``, ``flag``, ``choice``, ``number``, or ``json``: a text of several lines.
        hint: its meaning.
        value: the text that it has at first.
    """

    name: str
    kind: str
    hint: str
    value: str
    required: bool = False
    choices: tuple[str, ...] = ()


def fields(schemas: Mapping[str, Schema], given: Mapping[str, Any], required: tuple[str, ...] = ()) -> list[FormField]:
    """The fields of a form for some parameters. ``given``: values that they have at first."""
    found = []
    for name, schema in schemas.items():
        kind = _kind(schema)
        value = given.get(name, schema.get("default", "") if kind == "number" else "")
        text = value if isinstance(value, str) and kind != "json" else json.dumps(value, ensure_ascii=False)
        text = "" if value in ("", None) else text
        choices = tuple(schema.get("enum", ()))
        found.append(FormField(name, kind, schema.get("description", ""), text, name in required, choices))
    return found


def _kind(schema: Schema) -> str:
    if "enum" in schema:
        return "choice"
    kinds = {"string": "text", "boolean": "flag", "integer": "number", "number": "number"}
    return kinds.get(schema.get("type", ""), "json")


def path_of(operation: Operation, filled: Mapping[str, str]) -> str:
    """The path of an operation. ``filled``: the fields of a form.

    Raises:
        ConfigurationError: a part of the path is missing.
    """

    def part(found: re.Match[str]) -> str:
        value = filled.get(IN_PATH + found[1], "")
        if not value:
            raise ConfigurationError(f"{found[1]} is missing")
        return quote(value, safe="")

    return BASE + re.sub(r"{(\w+)}", part, operation.path)


def body_of(operation: Operation, filled: Mapping[str, str]) -> dict[str, Any]:
    """The body of an operation, without the fields that are empty. ``filled``: the fields of a form.

    Raises:
        ConfigurationError: a field should have a JSON value and has none.
    """
    found = {}
    for name, schema in operation.body.items():
        if text := filled.get(name, ""):
            try:
                found[name] = text if _kind(schema) in ("text", "choice") else json.loads(text)
            except (ValueError, RecursionError):
                raise ConfigurationError(f"{name}: it is no JSON value; a text needs double quotes") from None
    return found
