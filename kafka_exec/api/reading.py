"""Reading the parameters of a call: they fit the schemas of the operation, or are refused in one line."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

from jsonschema import Draft202012Validator
from jsonschema.exceptions import best_match

from kafka_exec.api.operation import Operation, Schema
from kafka_exec.core.record.fields import an_object, from_json, is_unicode
from kafka_exec.core.record.plain import is_deep
from kafka_exec.errors import ConfigurationError

#: A complaint about a parameter is cut to so many characters.
_LONGEST = 300

#: The types of schemas whose values are written as JSON in a query.
_WRITTEN_AS_JSON = ("boolean", "integer", "number")


def read_query(operation: Operation, pairs: Iterable[tuple[str, str]]) -> dict[str, Any]:
    """The parameters in the query of a URL, with those that have defaults.

    Raises:
        ConfigurationError: one is unknown, is there twice, or does not fit its schema.
    """
    given = list(pairs)
    if unknown := [name for name, _ in given if name not in operation.query]:
        known = ", ".join(operation.query) or "none"
        raise ConfigurationError(f"there is no parameter {unknown[0]!r:.{_LONGEST}}; there are {known}")
    if twice := [name for name, number in Counter(name for name, _ in given).items() if number > 1]:
        raise ConfigurationError(f"the parameter {twice[0]} is there more than once")
    found = {name: _value(operation.query[name], text) for name, text in given}
    for name, value in found.items():
        _check(operation.query[name], value, name)
    return {**_defaults(operation.query), **found}


def _value(schema: Schema, text: str) -> Any:
    """The value of a text; the text itself if it stands for none, which does not fit the schema."""
    kind = schema.get("type")
    if kind not in _WRITTEN_AS_JSON:
        return text
    try:
        found = _from_json(text)
    except ValueError:
        return text
    return found if kind != "integer" or type(found) is int else text


def read_body(operation: Operation, data: bytes) -> dict[str, Any]:
    """The parameters in a body, with those that have defaults.

    Raises:
        ConfigurationError: it is no JSON object, or does not fit the operation's schema.
    """
    try:
        found = an_object(_from_json(data))
    except ValueError:
        raise ConfigurationError("the body must be a JSON object, with finite numbers, and not too deep") from None
    if not is_unicode(json.dumps(found, ensure_ascii=False)):
        raise ConfigurationError("the body has a text with half a character: a lone surrogate")
    _check(operation.body_schema, found, "the body")
    return {**_defaults(operation.body), **found}


def _from_json(data: str | bytes) -> Any:
    """The value of a JSON text. Raises a ValueError also for numbers that only Python knows, such as NaN and 1e999."""
    found = from_json(data)
    if is_deep(found):
        raise ValueError("it is nested too deeply")
    json.dumps(found, allow_nan=False)
    return found


def _check(schema: Schema, value: Any, name: str) -> None:
    error = best_match(Draft202012Validator(schema).iter_errors(value))
    if error is not None:
        path = ".".join(map(str, error.absolute_path))
        where = path if name == "the body" and path else name
        raise ConfigurationError(f"{where}: {error.message:.{_LONGEST}}")


def _defaults(schemas: Mapping[str, Schema]) -> dict[str, Any]:
    return {name: schema["default"] for name, schema in schemas.items() if "default" in schema}
