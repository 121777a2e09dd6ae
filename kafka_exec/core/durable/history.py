"""The history of a durable task: what its function has asked for so far, in order, with the answers.

A run of the task begins at the function's top. Each of its durable calls (a step, a suspension, a sleep, a wait for other
tasks) has a number, and an *entry* when it is answered. A call with an entry returns the recorded value at once; the first
one without an entry is done now. So a function must make the same calls in the same order in each of its runs, as in other
systems with this design (Temporal's workflows, DBOS, Restate).

Entries are records of the topic of steps, one for each step. Before a task gives its slot up, or sends its retry, it writes
*pages*: records with many entries, each page naming the one before it. So the next run reads few records.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from kafka_exec.core.durable.continuation import Continued
from kafka_exec.core.record.fields import a_list, an_object, from_json, optional, text, whole
from kafka_exec.errors import NonDeterministic, Undecodable

#: The kinds of durable calls.
STEP, SUSPENSION, SLEEP, WAIT = "step", "suspend", "sleep", "wait_for"

#: A page holds entries of at most so many characters.
PAGE = 256 * 1024

#: The value of a larger entry is not in pages: they name its own record.
LARGE = 16 * 1024

#: A page with entries of at most so many characters comes with the message that continues its task.
INLINE = 16 * 1024

#: What belongs to a task is looked for from so many seconds before the time that is known: the clocks of brokers and
#: publishers may differ.
MARGIN = 600.0

_SCHEMA = 1


def written_since(repeated: float | None, created: float | None, *, is_replay: bool) -> float | None:
    """The time from which on an earlier run of a message may have written entries that no page has.

    Args:
        repeated: a time before all that a lost run can have written; None: no run of the message was lost.
        created: the time when the task was first sent.
        is_replay: the message was a dead letter.

    Returns:
        epoch seconds; None: there was no such run.
    """
    since = created if is_replay else repeated
    return None if since is None else since - MARGIN


class Entry(NamedTuple):
    """The answer to one durable call.

    Attributes:
        number: how many durable calls the function has made before.
        kind: :data:`STEP`, :data:`SUSPENSION`, :data:`SLEEP` or :data:`WAIT`.
        name: the name of the step, the correlation id of the suspension, or the names of the tasks that are waited for.
        value: the value's text; None: only its own record has it.
        key, offset: the key and the offset of its own record; None: it has none.
    """

    number: int
    kind: str
    name: str
    value: str | None
    key: str | None = None
    offset: int | None = None

    def encode(self, task_id: str, facts: Mapping[str, Any]) -> bytes:
        """The value of the entry's own record: JSON. ``facts``: what else is told, such as the time and the worker."""
        told = {"number": self.number, "kind": self.kind, "name": self.name, "value": self.value}
        return _dump({"schema": _SCHEMA, "task": task_id, **told, **facts})

    @property
    def size(self) -> int:
        """The length of what a page holds of the entry, characters."""
        return 100 + len(self.name) + len(self.key or "") + (0 if self.is_large else len(self.value or ""))

    @property
    def is_large(self) -> bool:
        """True if a page only names the entry's own record."""
        return self.offset is not None and (self.value is None or len(self.value) > LARGE)

    def in_page(self) -> list[Any]:
        """The entry as a page holds it."""
        return list(self._replace(value=None) if self.is_large else self)


def read_entry(key: str, offset: int, value: bytes | None) -> tuple[str, Entry] | None:
    """The task's id and the entry in a record of the topic of steps; None if the record holds no entry.

    Raises:
        Undecodable: the record is none of ours.
    """
    found = _object(value)
    if "kind" not in found or "entries" in found:
        return None
    try:
        entry = Entry(
            whole(found["number"]), text(found["kind"]), _name(found["name"]), text(found["value"]), key, offset
        )
        return text(found["task"]), entry
    except (KeyError, ValueError) as error:
        raise Undecodable("no-step", f"the record of a step cannot be read: {error}") from None


class Page(NamedTuple):
    """A record with entries, and, if the task is suspended with it, with the message by which the task continues.

    Attributes:
        before: the offset of the page before this one; None: it is the first.
        keys: the keys of the pages before.
        message: the message's facts, for :mod:`kafka_exec.core.durable.continuation`.
        state: the state record of the suspension, if its task stores results.
        asks: the kind and the name of the durable call that has no entry yet, for whose answer the task waits.
    """

    task: str
    entries: tuple[Entry, ...]
    before: int | None = None
    keys: tuple[str, ...] = ()
    message: Mapping[str, Any] | None = None
    state: str | None = None
    asks: tuple[str, str] | None = None

    @property
    def inline(self) -> str | None:
        """The page's text, as its task needs it that continues; None if it is too large to come with the message."""
        if sum(entry.size for entry in self.entries) > INLINE:
            return None
        return self._replace(message=None, state=None).encode().decode()

    def encode(self) -> bytes:
        """The value of the page's record: JSON."""
        made: dict[str, Any] = {"schema": _SCHEMA, "task": self.task, "before": self.before, "keys": list(self.keys)}
        if self.asks is not None:
            made["asks"] = list(self.asks)
        if self.message is not None:
            made["message"] = self.message
        if self.state is not None:
            made["state"] = self.state
        return _dump({**made, "entries": [entry.in_page() for entry in self.entries]})

    @classmethod
    def decode(cls, value: bytes | None, at: int) -> Page:
        """The page in the value of the record at an offset.

        Raises:
            Undecodable: the record is none of ours.
        """
        found = _object(value)
        try:
            return cls(
                text(found.get("task")),
                tuple(_entry(each) for each in a_list(found.get("entries"))),
                optional(found, "before", lambda before: whole(before, most=at - 1)),
                tuple(text(each) for each in a_list(found.get("keys"))),
                optional(found, "message", an_object),
                optional(found, "state", text),
                optional(found, "asks", _call),
            )
        except ValueError as error:
            raise Undecodable("no-step", f"the record of a suspension cannot be read: {error}") from None


class History:
    """The entries of one task, and the place in them of its present run. Not thread-safe.

    Args:
        continued: the header of the run's message, if it continues the task, or retries it.

    Attributes:
        position: the number of the next durable call.
        base: the offset of the last page that is full; None: there is none.
        pages: the keys of the pages.
    """

    def __init__(self, task_id: str, continued: Continued | None = None) -> None:
        self.task_id = task_id
        # The answer that has come with the run's message, and the call that it answers, if that is known.
        self._answer = continued if continued is not None and continued.number is not None else None
        self._asked: tuple[str, str] | None = None
        self.position = 0
        self.base: int | None = None
        self.pages: list[str] = []
        self._entries: dict[int, Entry] = {}
        # The numbers of the entries in full pages. One may be missing below others: its answer is in the run's message.
        self._paged: set[int] = set()
        self._names: Counter[str] = Counter()

    @property
    def keys(self) -> list[str]:
        """The keys of all records of the task."""
        return [*self.pages, *(entry.key for entry in self._entries.values() if entry.key is not None)]

    def known(self, entry: Entry) -> None:
        """Notes an entry that an earlier run has made. Of two with one number the first counts."""
        self._entries.setdefault(entry.number, entry)

    def read_newest(self, page: Page, key: str) -> None:
        """Notes the newest page: its entries are not in full pages."""
        self.base, self.pages, self._asked = page.before, [*page.keys, key], page.asks
        self._entries.update((entry.number, entry) for entry in page.entries)

    def read_full(self, page: Page) -> None:
        """Notes a page before the newest one."""
        self._paged.update(entry.number for entry in page.entries)
        self._entries.update((entry.number, entry) for entry in page.entries)

    @property
    def is_empty(self) -> bool:
        """True if no durable call is answered."""
        return not self._entries and self._answer is None

    def has(self, number: int) -> bool:
        """True if the durable call with this number is answered."""
        return number in self._entries or (self._answer is not None and self._answer.number == number)

    def take(self, kind: str, name: str) -> Entry | None:
        """The entry of the next durable call; None if it has none, and :meth:`add` must follow.

        Raises:
            NonDeterministic: the call with this number was another one.
        """
        if (found := self._entries.get(self.position)) is None and (found := self._answered(kind, name)) is None:
            return None
        if (found.kind, found.name) != (kind, name):
            raise NonDeterministic(
                f"durable call {self.position + 1} of task {self.task_id} was {found.kind} {found.name!r} in an earlier "
                f"run, and is {kind} {name!r} now: the function must make the same calls in the same order in each run; "
                "give the new code another task name or version"
            )
        self.add(found)
        return found

    def _answered(self, kind: str, name: str) -> Entry | None:
        """The entry of the next durable call, if its answer has come with the run's message."""
        if self._answer is None or self._answer.number != self.position:
            return None
        kind, name = self._asked or (kind, name)
        return Entry(self.position, kind, name, json.dumps(self._answer._replace(page=None)._asdict()))

    def add(self, entry: Entry) -> None:
        """Notes the entry of the present durable call."""
        self._entries[entry.number] = entry
        self.position = entry.number + 1

    def numbered(self, name: str) -> str:
        """The name of a step; that of one that comes again in this run gets a number."""
        self._names[name] += 1
        return name if self._names[name] == 1 else f"{name}-{self._names[name]}"

    def full_pages(self) -> Iterator[Page]:
        """The pages that must be written before :meth:`last_page`; after each one the caller calls :meth:`wrote`."""
        while True:
            pending, size = self._pending(), 0
            for count, entry in enumerate(pending):
                size += entry.size
                if size > PAGE and count:
                    yield self._page(pending[:count])
                    break
            else:
                return

    def wrote(self, page: Page, offset: int, key: str) -> None:
        """Notes that a full page was written."""
        self.base = offset
        self._paged.update(entry.number for entry in page.entries)
        self.pages.append(key)

    def last_page(self, asks: tuple[str, str] | None = None, **suspension: Any) -> Page:
        """The page with all entries behind the full ones. ``suspension``: further attributes of :class:`Page`."""
        return self._page(self._pending())._replace(asks=asks or self._asked, **suspension)

    def handed_on(self, at: int) -> Continued:
        """The header of a retry, behind the page at this offset: the answer too, unless that page has it."""
        if self._answer is None or self._answer.number in self._entries:
            return Continued(at)
        return self._answer._replace(at=at, page=None)

    def _page(self, entries: Sequence[Entry]) -> Page:
        return Page(self.task_id, tuple(entries), self.base, tuple(self.pages))

    def _pending(self) -> list[Entry]:
        return [self._entries[number] for number in sorted(self._entries) if number not in self._paged]


def _entry(found: Any) -> Entry:
    number, kind, name, value, key, offset = a_list(found)
    return Entry(
        whole(number),
        text(kind),
        _name(name),
        None if value is None else text(value),
        None if key is None else text(key),
        None if offset is None else whole(offset),
    )


def _call(found: Any) -> tuple[str, str]:
    kind, name = a_list(found)
    return text(kind), _name(name)


def _name(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError(f"a text is expected, not {value!r:.60}")
    return value


def _object(value: bytes | None) -> dict[str, Any]:
    try:
        found = an_object(from_json(value))
    except ValueError:
        raise Undecodable("no-step", "the record of a step is no JSON object") from None
    if found.get("schema") != _SCHEMA:
        raise Undecodable("unknown-schema", f"the record of a step is of schema version {found.get('schema')!r:.20}")
    return found


def _dump(value: Any) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()
