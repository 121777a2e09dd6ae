"""What JSON does not know in headers and properties: written, and read again, as Kombu's JSON has it in bodies."""

from __future__ import annotations

from typing import Any

from kombu.utils.json import JSONEncoder, object_hook

#: Makes a JSON value of a UUID, a time, bytes, a Decimal and whatever else was registered with Kombu.
to_json = JSONEncoder().default


def from_json(found: dict[str, Any]) -> Any:
    """What an object was made of; one that only looks as if it had been made of something is left as it is."""
    try:
        return object_hook(found)
    except Exception:
        return found
