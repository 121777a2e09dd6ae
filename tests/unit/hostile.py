"""Records that nobody would write: real ones with something else in one place."""

from __future__ import annotations

import json
from collections.abc import Iterator
from random import Random
from typing import Any

from hypothesis import strategies as st

#: Values that are no JSON, or none that a reader expects. As texts, since Python's JSON writes some of them not at all.
NASTY: list[bytes] = [
    *(b"null", b"true", b'""', b'"x"', b"[]", b"{}", b"0", b"-1", b"1.5", b"1e999", b"-1e999", b"NaN", b"Infinity"),
    *(b"9223372036854775807", b"9223372036854775808", b"-9223372036854775809", b"1" * 400, b"9" * 4300, b"9" * 5000),
    *(b"[" * 5000, b"[" * 500 + b"]" * 500, b'{"a":' * 3000, b'"\\udcff"', b'"\\u0000"', b'"\xff\xfe"', b"[[[1]]]"),
    *(
        b'{"__type__":"uuid","__value__":5}',
        b'{"__type__":"x","__value__":null}',
        b'["a",1,null,[],{}]',
        b"",
        b"\x00\xff",
    ),
    *(b'"' + b"x" * 100_000 + b'"', '"\u0663"'.encode(), b'"1_000"', b'" 5 "', b"1700000000000000000000.5"),
]


def _places(value: Any, at: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """All places in a JSON value."""
    yield at
    if isinstance(value, dict):
        for key, each in value.items():
            yield from _places(each, (*at, key))
    elif isinstance(value, list):
        for number, each in enumerate(value):
            yield from _places(each, (*at, number))


_MARK = "\u241f here"


def _with(value: Any, at: tuple[Any, ...], nasty: bytes) -> bytes:
    """The JSON text of a value, with a text in one of its places."""
    if not at:
        return nasty
    copy = json.loads(json.dumps(value))
    target = copy
    for step in at[:-1]:
        target = target[step]
    target[at[-1]] = _MARK
    return json.dumps(copy).encode().replace(json.dumps(_MARK).encode(), nasty)


def _without(value: Any, at: tuple[Any, ...]) -> bytes:
    copy = json.loads(json.dumps(value))
    target = copy
    for step in at[:-1]:
        target = target[step]
    del target[at[-1]]
    return json.dumps(copy).encode()


def mutations(record: bytes, rng: Random) -> Iterator[bytes | None]:
    """A record with everything in every one of its places; with parts missing, cut, and with bits turned over."""
    yield from (None, b"", record + b"x", b"\xef\xbb\xbf" + record, record.decode().encode("utf-16"))
    yield from NASTY
    try:
        value = json.loads(record)
    except ValueError:
        value = None
    for at in _places(value) if value is not None else ():
        for nasty in NASTY:
            yield _with(value, at, nasty)
        if at:
            yield _without(value, at)
    for _ in range(50):
        yield record[: rng.randrange(len(record) + 1)]
        turned = bytearray(record)
        turned[rng.randrange(len(turned))] ^= 1 << rng.randrange(8)
        yield bytes(turned)


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(), max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)


def mutated(record: bytes) -> st.SearchStrategy[bytes | None]:
    """The same, drawn: with anything in some of its places."""
    try:
        value = json.loads(record)
    except ValueError:
        return st.binary() | st.sampled_from(NASTY)
    places = [at for at in _places(value) if at]
    anything = st.sampled_from(NASTY) | _JSON.map(lambda each: json.dumps(each).encode())

    @st.composite
    def draw(draw: st.DrawFn) -> bytes:
        if not places:
            return draw(anything)
        text = _with(value, draw(st.sampled_from(places)), draw(anything))
        try:
            again = json.loads(text)
        except (ValueError, RecursionError):
            return text
        more = [at for at in _places(again) if at]
        return _with(again, draw(st.sampled_from(more)), draw(anything)) if more and draw(st.booleans()) else text

    return draw() | st.binary(max_size=50) | st.none() | anything
