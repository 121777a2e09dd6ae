"""Operations of the API as values, of which its routes, its OpenAPI file and its page of documentation are made."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from celery import Celery

#: A JSON schema.
Schema = Mapping[str, Any]

TEXT: Schema = {"type": "string"}
NAME: Schema = {"type": "string", "minLength": 1}
FLAG: Schema = {"type": "boolean", "default": False}
LIST: Schema = {"type": "array"}
OBJECT: Schema = {"type": "object"}


def told(schema: Schema, description: str) -> Schema:
    """A schema with a description."""
    return {**schema, "description": description}


#: The part of a list.
PAGING: Mapping[str, Schema] = {
    "limit": told({"type": "integer", "minimum": 1, "maximum": 10_000, "default": 100}, "So many at most."),
    "offset": told(
        {"type": "integer", "minimum": 0, "maximum": 250_000, "default": 0}, "So many of the latest are left out."
    ),
}


class Call(NamedTuple):
    """One call of an operation.

    Attributes:
        path, query, body: its parameters, which fit the operation's schemas.
        user: the name of the user who calls it.
        root: the path under which the API is mounted.
    """

    app: Celery
    path: Mapping[str, str]
    query: Mapping[str, Any]
    body: Mapping[str, Any]
    user: str
    root: str = ""


@dataclass(frozen=True)
class Operation:
    """An operation of the API.

    Attributes:
        perform: does it, and returns the answer as JSON; it blocks. Its docstring is the documentation.
        answer: the name of the answer's schema.
        query, body: the schemas of the parameters.
        required: the parameters of the body that must be there.
        status: that of an answer that tells of no error.
        errors: the statuses of errors that only some operations have.
    """

    method: str
    path: str
    perform: Callable[[Call], Any]
    answer: str
    query: Mapping[str, Schema] = field(default_factory=dict)
    body: Mapping[str, Schema] = field(default_factory=dict)
    required: tuple[str, ...] = ()
    status: int = 200
    errors: tuple[int, ...] = ()

    @property
    def is_act(self) -> bool:
        """True if it changes something."""
        return self.method != "GET"

    @property
    def name(self) -> str:
        """Its name in the OpenAPI file."""
        return self.perform.__name__

    @property
    def text(self) -> str:
        """Its documentation in one paragraph."""
        return " ".join((inspect.getdoc(self.perform) or "").split())

    @property
    def body_schema(self) -> Schema:
        """The schema of its body as a whole."""
        return {
            "type": "object",
            "properties": self.body,
            "required": list(self.required),
            "additionalProperties": False,
        }


def items(found: list[Any], **more: Any) -> dict[str, Any]:
    """The answer of an operation that lists things."""
    return {"items": found, **more}
