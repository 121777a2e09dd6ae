"""AMQP's topic patterns, word by word."""

from __future__ import annotations


def words(key: str) -> list[str]:
    return key.split(".") if key else []


def takes(pattern: list[str], key: list[str]) -> bool:
    if not pattern:
        return not key
    if pattern[0] == "#":
        return takes(pattern[1:], key) or (bool(key) and takes(pattern, key[1:]))
    return bool(key) and pattern[0] in ("*", key[0]) and takes(pattern[1:], key[1:])
