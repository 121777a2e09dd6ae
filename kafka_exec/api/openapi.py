"""All operations of the API with their paths, and the OpenAPI file that is made of them."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from kafka_exec.about import __version__
from kafka_exec.api import periodic, queues, tasks, topics
from kafka_exec.api.operation import NAME, Call, Operation, Schema
from kafka_exec.api.schemas import SCHEMAS

#: The paths of all operations begin with this.
BASE = "/api/kafka"

#: Names that other job services have for some paths, which stand beside those.
ALIASES: Mapping[str, str] = {
    "/jobs": "/executions",
    "/jobs/{id}": "/executions/{id}",
    "/executions": "/executions",
    "/executions/active": "/executions/active",
    "/executions/{id}": "/executions/{id}",
    "/executions/{id}/complete": "/executions/{id}/resume",
    "/executions/{id}/retry": "/executions/{id}/retry",
    "/executions/{id}/cancel": "/executions/{id}/revoke",
    "/runners": "/nodes",
}

#: The errors, by their statuses.
ERRORS: Mapping[int, str] = {
    400: "A parameter is wrong.",
    401: "The token is missing or wrong; or none is set, and another machine asks.",
    403: "The API is read-only, or a page of another site has sent this.",
    404: "There is no such thing.",
    409: "The task or the letter is not in a state for this.",
    413: "It is larger than the API or Kafka takes.",
    415: "The body is not said to be JSON.",
    500: "An error of the API itself.",
    501: "The application has no kafka-exec result backend.",
    503: "Kafka does not answer, or refuses the API.",
}

#: The errors that each operation may answer.
_ALWAYS = (400, 401, 500, 501, 503)


def openapi(call: Call) -> Any:
    """Returns this OpenAPI file."""
    return {**document(), "servers": [{"url": call.root or "/"}]}


OPERATIONS = (
    *tasks.OPERATIONS,
    *queues.OPERATIONS,
    *topics.OPERATIONS,
    *periodic.OPERATIONS,
    Operation("GET", "/openapi.json", openapi, "Document"),
)


def routes() -> Iterator[tuple[str, Operation]]:
    """All operations, each with its full path, in the order in which they are to be looked for; then the aliases."""
    for operation in OPERATIONS:
        yield BASE + operation.path, operation
    for alias, path in ALIASES.items():
        for operation in OPERATIONS:
            if operation.path == path:
                yield alias, operation


def document() -> dict[str, Any]:
    """The OpenAPI file, without the address of its server."""
    paths: dict[str, Any] = {}
    for path, operation in routes():
        told = _told(operation)
        if not path.startswith(BASE):
            told |= {"operationId": _alias_id(operation.method, path), "tags": ["aliases"]}
            told["summary"] = f"Is another name of {operation.method} {BASE}{operation.path}."
        paths.setdefault(path, {})[operation.method.lower()] = told
    return {
        "openapi": "3.1.0",
        "info": {"title": "kafka_exec", "version": __version__, "description": "Tasks, queues and nodes on Kafka."},
        "paths": paths,
        "components": {
            "schemas": dict(SCHEMAS),
            "responses": {str(status): _answer(text, "Error") for status, text in ERRORS.items()},
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
        },
        "security": [{"token": []}],
    }


def _alias_id(method: str, path: str) -> str:
    return "_".join([method.lower(), *re.findall(r"\w+", path)])


def errors_of(operation: Operation) -> list[int]:
    """The statuses of the errors that an operation may answer."""
    acts = (403, *((415, 413) if operation.method == "POST" else ())) if operation.is_act else ()
    return sorted({*_ALWAYS, *acts, *operation.errors})


#: The schemas of parts of paths that are no names.
_IN_PATHS: Mapping[str, Schema] = {"address": {"type": "string", "pattern": "^[0-9]+:[0-9]+$"}}


def _told(operation: Operation) -> dict[str, Any]:
    in_path = [
        {"name": name, "in": "path", "required": True, "schema": _IN_PATHS.get(name, NAME)}
        for name in re.findall(r"{(\w+)}", operation.path)
    ]
    in_query = [
        {
            "name": name,
            "in": "query",
            "description": schema.get("description", ""),
            "schema": {key: value for key, value in schema.items() if key != "description"},
        }
        for name, schema in operation.query.items()
    ]
    answers = {str(operation.status): _answer("The answer.", operation.answer)}
    answers |= {str(status): {"$ref": f"#/components/responses/{status}"} for status in errors_of(operation)}
    found: dict[str, Any] = {
        "operationId": operation.name,
        "summary": operation.text,
        "tags": [operation.path.split("/")[1].partition(".")[0]],
        "parameters": in_path + in_query,
        "responses": answers,
    }
    if operation.method == "POST":
        found["requestBody"] = {"required": True, "content": {"application/json": {"schema": operation.body_schema}}}
    return found


def _answer(description: str, schema: str) -> dict[str, Any]:
    content = {"application/json": {"schema": {"$ref": f"#/components/schemas/{schema}"}}}
    return {"description": description, "content": content}
