"""Values in headers and properties that JSON lacks, such as times: written and read as Kombu's JSON does in bodies."""

from __future__ import annotations

from typing import Any

from kombu.utils.json import JSONEncoder, object_hook

#: Makes a JSON value of a UUID, a time, bytes, a Decimal and any other type that was registered with Kombu.
to_json = JSONEncoder().default


def from_json(found: dict[str, Any]) -> Any:
    """The value that a JSON object was made of; an object that only looks as if it had been made of one stays as it is."""
    try:
        return object_hook(found)
    except Exception:
        return found
