"""The history of a durable task: its pages, what a later run finds, and the messages by which it continues."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from typing import Any, NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kafka_exec.core.durable import history
from kafka_exec.core.durable.continuation import ANSWERED, TIMED_OUT, Continued, KeptMessage
from kafka_exec.core.durable.history import SLEEP, STEP, SUSPENSION, Entry, History, Page, read_entry, written_since
from kafka_exec.core.message.envelope import CONTINUED
from kafka_exec.errors import NonDeterministic, Undecodable
from tests.unit.hostile import mutations

PAGE, LARGE, INLINE = 1200, 300, 700


@pytest.fixture(autouse=True, scope="module")
def small_pages() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(history, "PAGE", PAGE)
        patched.setattr(history, "LARGE", LARGE)
        patched.setattr(history, "INLINE", INLINE)
        yield


class Call(NamedTuple):
    """A durable call of a function. ``value``: what it returns, or its answer."""

    kind: str
    name: str
    value: str


class Begin(NamedTuple):
    """The begin of a run: the header of its message, if any, and if an earlier run of the message was lost."""

    continued: Continued | None
    is_repeated: bool = False


class Log:
    """The records of one task, and what each of its runs does with them, as :mod:`kafka_exec.app.durable.run` does it."""

    def __init__(self) -> None:
        self.records: list[tuple[str, bytes]] = []

    def append(self, value: bytes) -> tuple[str, int]:
        self.records.append((f"t/{len(self.records)}", value))
        return self.records[-1][0], len(self.records) - 1

    def load(self, newest: int | None, *, is_repeated: bool = False) -> History:
        return self.begin(Begin(None if newest is None else Continued(newest), is_repeated))

    def begin(self, begin: Begin) -> History:
        found, continued = History("t", begin.continued), begin.continued
        if continued is not None:
            page = self.page(continued.at)
            if continued.page is not None and not begin.is_repeated:
                assert continued.page[0] == self.records[continued.at][0]
                read, page = page, Page.decode(continued.page[1].encode(), continued.at)
                assert page == read._replace(message=None), "who reads the page finds the same"
            found.read_newest(page, self.records[continued.at][0])
            while page.before is not None:
                page = self.page(page.before)
                found.read_full(page)
        for offset, (key, value) in enumerate(self.records if begin.is_repeated else ()):
            if (entry := read_entry(key, offset, value)) is not None:
                assert entry[0] == "t"
                found.known(entry[1])
        return found

    def page(self, offset: int) -> Page:
        return Page.decode(self.records[offset][1], offset)

    def value_of(self, entry: Entry) -> str:
        if entry.value is not None:
            return entry.value
        value: str = json.loads(self.records[entry.offset or 0][1])["value"]
        return value

    def step(self, found: History, name: str, value: str) -> None:
        entry = Entry(found.position, STEP, name, value)
        key, offset = self.append(entry.encode("t", {"at": 1.0}))
        found.add(entry._replace(key=key, offset=offset))

    def write(self, found: History, message: Any = None, asks: Any = None) -> int:
        for page in found.full_pages():
            key, offset = self.append(page.encode())
            found.wrote(page, offset, key)
        return self.append(found.last_page(asks, message=message).encode())[1]

    def run(self, calls: list[Call], begin: Begin, fate: str, most: int) -> Begin | None:
        """A run that is killed, or ends with a retry, after so many calls. Returns the begin of the next run, or None."""
        found = self.begin(begin)
        for number, call in enumerate(calls):
            if number == most and fate == "killed":
                return begin._replace(is_repeated=True)
            if number == most and fate == "retried":
                return begin if found.is_empty else Begin(found.handed_on(self.write(found)))
            if (known := found.take(call.kind, call.name)) is not None:
                value = self.value_of(known)
                assert (value if call.kind == STEP else json.loads(value)["answers"]["a"]) == call.value
            elif call.kind == STEP:
                self.step(found, call.name, call.value)
            else:
                at = self.write(found, asks=(call.kind, call.name))
                inline = self.page(at).inline
                page = None if inline is None else (self.records[at][0], inline)
                following = Begin(Continued(at, number, ANSWERED, {"a": call.value}, page=page))
                return begin._replace(is_repeated=True) if fate == "killed at its end" else following
            assert found.position == number + 1
        return None


VALUES = st.sampled_from([0, 1, LARGE, LARGE + 1, PAGE, 3 * PAGE]).map(lambda size: "v" * size)
CALLS = st.lists(
    st.builds(Call, st.sampled_from([STEP, STEP, SUSPENSION, SLEEP]), st.sampled_from(["a", "b"]), VALUES), max_size=25
)


FATES = st.lists(
    st.tuples(st.sampled_from(["killed", "killed at its end", "retried"]), st.integers(0, 25)), max_size=12
)


def play(calls: list[Call], fates: list[tuple[str, int]]) -> tuple[Log, Begin]:
    """Runs a function until it ends. The last begin is that of the run that has ended."""
    log, begin, each = Log(), Begin(None), iter(fates)
    for _ in range(len(calls) + len(fates) + 1):
        following = log.run(calls, begin, *next(each, ("lives", 0)))
        if following is None:
            return log, begin
        begin = following
    raise AssertionError("a run does not go on")


@given(CALLS, FATES)
def test_each_run_finds_what_earlier_runs_have_done_whatever_they_came_to(
    calls: list[Call], fates: list[tuple[str, int]]
) -> None:
    log, last = play(calls, fates)
    found = log.begin(last._replace(is_repeated=True))
    assert all(found.has(number) for number in range(len(calls)))
    assert set(found.keys) <= {key for key, _ in log.records}


@given(CALLS)
def test_without_a_killed_run_each_record_is_erased_and_each_step_has_one(calls: list[Call]) -> None:
    log, last = play(calls, [])
    found = log.begin(last._replace(is_repeated=True))
    assert sorted(found.keys) == sorted(key for key, _ in log.records)
    steps = [entry for offset, (key, value) in enumerate(log.records) if (entry := read_entry(key, offset, value))]
    assert len(steps) == len([call for call in calls if call.kind == STEP])


@given(CALLS)
def test_pages_are_small_and_each_names_the_one_before(calls: list[Call]) -> None:
    log, last = play(calls, [])
    numbers: list[int] = []
    offset = None if last.continued is None else last.continued.at
    while offset is not None:
        page = log.page(offset)
        assert len(page.entries) <= 1 or sum(entry.size for entry in page.entries) <= PAGE
        assert page.before is None or page.before < offset
        numbers = [*(entry.number for entry in page.entries), *numbers]
        offset = page.before
    assert numbers == list(range(len(numbers)))


def test_a_large_value_is_in_its_own_record_only() -> None:
    log, found = Log(), History("t")
    log.step(found, "small", "s" * LARGE)
    log.step(found, "large", "l" * (LARGE + 1))
    small, large = log.page(log.write(found)).entries
    assert (small.value, small.key, small.offset) == ("s" * LARGE, "t/0", 0)
    assert (large.value, large.key, large.offset) == (None, "t/1", 1)
    assert log.value_of(large) == "l" * (LARGE + 1)
    assert large.is_large, "a page that is written anew names it again"


def test_an_answer_has_no_record_of_its_own_so_a_page_has_it_whole() -> None:
    log, found = Log(), History("t")
    found.add(Entry(0, SUSPENSION, "x", "v" * 5 * PAGE))
    (entry,) = log.page(log.write(found)).entries
    assert (entry.value, entry.key, entry.offset) == ("v" * 5 * PAGE, None, None)


def test_full_pages_are_written_once() -> None:
    log, found = Log(), History("t")
    for number in range(20):
        log.step(found, f"s{number}", "v" * 200)
    newest = log.write(found)
    written = len(log.records)
    again = log.load(newest)
    assert log.page(log.write(again)).before == log.page(newest).before
    assert len(log.records) == written + 1
    assert [again.has(number) for number in range(21)] == [True] * 20 + [False]


def test_an_answer_that_a_retried_run_has_not_used_is_not_lost() -> None:
    """A run with an answer is killed after a step. The repeated run fails before its first call, and is retried."""
    log, first = Log(), History("t")
    answer = Continued(log.write(first, asks=(SUSPENSION, "x")), 0, ANSWERED, {"a": "1"})
    second = log.begin(Begin(answer))
    assert second.take(SUSPENSION, "x") is not None
    log.step(second, "a", "1")
    repeated = log.begin(Begin(answer, is_repeated=True))
    handed_on = repeated.handed_on(log.write(repeated))
    assert handed_on == answer._replace(at=handed_on.at)
    retry = log.begin(Begin(handed_on))
    assert retry.take(SUSPENSION, "x") is not None
    assert [entry.number for entry in log.page(log.write(retry)).entries] == [0, 1]
    assert retry.handed_on(9) == Continued(9)


def test_of_two_entries_of_one_number_the_first_counts() -> None:
    found = History("t")
    found.known(Entry(0, STEP, "a", "first"))
    found.known(Entry(0, STEP, "a", "second"))
    entry = found.take(STEP, "a")
    assert entry is not None
    assert entry.value == "first"


def test_what_a_page_has_counts_before_a_record_of_a_run_that_was_lost() -> None:
    log, found = Log(), History("t")
    lost = Entry(0, STEP, "a", "of a run that was lost")
    log.append(lost.encode("t", {}))
    log.step(found, "a", "of the run that was suspended")
    again = log.load(log.write(found), is_repeated=True)
    entry = again.take(STEP, "a")
    assert entry is not None
    assert entry.value == "of the run that was suspended"


@pytest.mark.parametrize(("kind", "name"), [(STEP, "b"), (SUSPENSION, "a"), (SLEEP, "")])
def test_another_call_than_before_is_an_error_that_names_both(kind: str, name: str) -> None:
    found = History("t")
    found.known(Entry(0, STEP, "first", "1"))
    found.known(Entry(1, STEP, "a", "2"))
    assert found.take(STEP, "first") is not None
    with pytest.raises(NonDeterministic) as caught:
        found.take(kind, name)
    assert f"durable call 2 of task t was step 'a' in an earlier run, and is {kind} {name!r} now" in str(caught.value)


@pytest.mark.parametrize(("kind", "name"), [(SUSPENSION, "b"), (STEP, "a"), (SLEEP, "")])
def test_an_answer_is_that_of_the_call_which_has_asked_for_it(kind: str, name: str) -> None:
    log = Log()
    at = log.write(History("t"), asks=(SUSPENSION, "a"))
    found = log.begin(Begin(Continued(at, 0, ANSWERED, {"": "1"})))
    with pytest.raises(NonDeterministic, match="was suspend 'a' in an earlier run, and is"):
        found.take(kind, name)
    entry = found.take(SUSPENSION, "a")
    assert entry is not None
    assert json.loads(entry.value or "")["answers"] == {"": "1"}


def test_a_page_comes_with_the_message_without_it_and_only_if_it_is_small() -> None:
    small = Page(
        "t", (Entry(0, STEP, "a", "v" * LARGE, "t/0", 0),), message=KEPT.as_json(), state="{}", asks=(SLEEP, "")
    )
    assert small.inline is not None
    assert Page.decode(small.inline.encode(), 1) == small._replace(message=None, state=None)
    assert small._replace(entries=small.entries * 2).inline is None


def test_a_page_that_names_itself_or_a_later_one_is_refused() -> None:
    page = Page("t", (), before=5)
    assert Page.decode(page.encode(), 6) == page
    for at in (5, 4):
        with pytest.raises(Undecodable):
            Page.decode(page.encode(), at)


@pytest.mark.parametrize(
    ("repeated", "created", "is_replay", "since"),
    [(None, 5e3, False, None), (7e3, 5e3, False, 6.4e3), (7e3, 5e3, True, 4.4e3), (7e3, None, True, None)],
)
def test_earlier_runs_have_written_since_the_message_was_sent_first(
    repeated: Any, created: Any, is_replay: bool, since: Any
) -> None:
    assert written_since(repeated, created, is_replay=is_replay) == since


def test_a_name_that_comes_again_in_a_run_is_numbered() -> None:
    found = History("t")
    assert [found.numbered(name) for name in ["a", "b", "a", "a", "b"]] == ["a", "b", "a-2", "a-3", "b-2"]
    assert History("t").numbered("a") == "a"


def test_a_page_is_no_entry_and_an_entry_is_no_page() -> None:
    entry = Entry(3, STEP, "a", "1")
    assert read_entry("k", 7, entry.encode("t", {"worker": "w"})) == ("t", entry._replace(key="k", offset=7))
    page = Page("t", (entry,), 5, ("k",), {"topic": "q"})
    assert read_entry("k", 7, page.encode()) is None
    assert Page.decode(page.encode(), 9) == page
    with pytest.raises(Undecodable):
        Page.decode(entry.encode("t", {}), 9)


@pytest.mark.parametrize("value", [None, b"", b"{", b"[]", b'{"schema":2}', b'{"schema":"1"}', b"{}"])
def test_records_of_others_are_said_to_be_so(value: bytes | None) -> None:
    with pytest.raises(Undecodable) as caught:
        read_entry("k", 0, value)
    assert caught.value.reason == ("unknown-schema" if value and b"}" in value else "no-step")
    with pytest.raises(Undecodable):
        Page.decode(value, 9)


def test_whatever_stands_in_a_record_it_is_read_or_refused() -> None:
    entries = (Entry(0, STEP, "a", None, "t/0", 4), Entry(1, SUSPENSION, "x", "{}"))
    page = Page("t", entries, 5, ("t/9",), KEPT.as_json(), "{}", (SLEEP, ""))
    for changed in mutations(page.encode(), random.Random(7)):
        try:
            found = Page.decode(changed, 9)
        except Undecodable:
            continue
        reader = History("t")
        reader.read_newest(found, "k")
        reader.read_full(found)
        again = Page.decode(reader.last_page(message=found.message).encode(), 2**62)
        assert again.message == found.message
        try:
            KeptMessage.of_json(found.message or {})
        except Undecodable:
            continue
    for changed in mutations(entries[1].encode("t", {}), random.Random(7)):
        try:
            read_entry("k", 0, changed)
        except Undecodable:
            continue
    told = json.dumps(Continued(3, 1, ANSWERED, {"a": "1"}, page=("t/1", "{}"))._asdict()).encode()
    for changed in mutations(told, random.Random(7)):
        try:
            value = json.loads(changed or b"null")
        except (ValueError, RecursionError):
            continue
        try:
            Continued.of_json(value)
        except Undecodable:
            continue


KEPT = KeptMessage("q", b"body", "key", [("headers", b'{"id":"t"}'), ("retry-of", None)], 3)

BYTES = st.none() | st.binary(max_size=20)
TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=10)


@given(
    TEXTS,
    BYTES,
    st.none() | TEXTS | st.binary(max_size=20),
    st.lists(st.tuples(TEXTS, BYTES)),
    st.none() | st.integers(0, 99),
)
def test_a_kept_message_comes_back(topic: str, value: Any, key: Any, headers: Any, partition: Any) -> None:
    kept = KeptMessage(topic, value, key, headers, partition)
    again = KeptMessage.of_json(json.loads(json.dumps(kept.as_json())))
    assert again == kept._replace(key=key.encode() if isinstance(key, str) else key)


@given(
    st.integers(0, 2**62),
    st.none() | st.integers(0, 99),
    st.sampled_from([ANSWERED, TIMED_OUT]),
    st.dictionaries(TEXTS, TEXTS),
    TEXTS,
    st.none() | st.tuples(TEXTS, TEXTS),
)
def test_a_continuation_comes_back(at: int, number: Any, outcome: str, answers: Any, reason: str, page: Any) -> None:
    told = Continued(at, number, outcome, answers, reason, page)
    assert Continued.of_json(json.loads(json.dumps(told._asdict()))) == told


def test_a_message_continues_with_one_header_more() -> None:
    found = KEPT.continuing(Continued(7, 2, TIMED_OUT, {"a": "1"}))
    headers = dict(found.headers)
    assert found._replace(headers=KEPT.headers) == KEPT
    told = json.loads(headers["headers"] or b"")
    assert Continued.of_json(told.pop(CONTINUED)) == Continued(7, 2, TIMED_OUT, {"a": "1"})
    assert (told, headers["retry-of"]) == ({"id": "t"}, None)


def test_a_message_with_large_answers_goes_without_the_page() -> None:
    for size, page in ((10, ("t/1", "{}")), (100_000, None)):
        continued = Continued(7, 2, ANSWERED, {"a": "x" * size}, page=("t/1", "{}"))
        told = json.loads(dict(KEPT.continuing(continued).headers)["headers"] or b"")
        assert Continued.of_json(told[CONTINUED]) == continued._replace(page=page)


def test_a_message_that_continues_again_has_the_newest_answer_only() -> None:
    again = KEPT.continuing(Continued(7, 2, ANSWERED, {"a": "1"})).continuing(Continued(9, 5, ANSWERED, {"b": "2"}))
    told = json.loads(dict(again.headers)["headers"] or b"")
    assert Continued.of_json(told[CONTINUED]) == Continued(9, 5, ANSWERED, {"b": "2"})
