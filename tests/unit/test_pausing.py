"""Pauses of queues and ordering keys: which tasks they keep from beginning, and until when."""

from __future__ import annotations

import json
from typing import Any

import pytest

from kafka_exec.core.queue.pausing import NO_PAUSES, Pause, QueuePauses, pauses_in, row_names

NOW = 1000.0
LASTING = Pause("ann", 900.0, "a reason")
ENDING = LASTING._replace(until=NOW + 1)
OVER = LASTING._replace(until=NOW)


@pytest.mark.parametrize(
    ("pauses", "key", "kept_by"),
    [
        (NO_PAUSES, None, None),
        (NO_PAUSES, "k", None),
        (QueuePauses(LASTING), None, LASTING),
        (QueuePauses(LASTING), "k", LASTING),
        (QueuePauses(ENDING), None, ENDING),
        (QueuePauses(OVER), None, None),
        (QueuePauses(OVER), "k", None),
        (QueuePauses(keys={"k": LASTING}), None, None),
        (QueuePauses(keys={"k": LASTING}), "other", None),
        (QueuePauses(keys={"k": LASTING}), "k", LASTING),
        (QueuePauses(keys={"k": OVER}), "k", None),
        (QueuePauses(OVER, {"k": LASTING}), "k", LASTING),
        (QueuePauses(LASTING, {"k": OVER}), "k", LASTING),
    ],
)
def test_a_pause_keeps_the_tasks_of_its_queue_or_key_from_beginning_until_it_is_over(
    pauses: QueuePauses, key: str | None, kept_by: Pause | None
) -> None:
    assert pauses.of(key, NOW) == kept_by
    assert pauses.in_force(NOW).of(key, NOW) == kept_by


def test_only_pauses_that_are_not_over_are_in_force() -> None:
    assert QueuePauses(OVER, {"a": LASTING, "b": OVER}).in_force(NOW) == QueuePauses(keys={"a": LASTING})
    assert QueuePauses(ENDING).in_force(NOW) == QueuePauses(ENDING)


def test_what_has_changed_is_told_once() -> None:
    before, after = QueuePauses(LASTING, {"a": LASTING, "b": LASTING}), QueuePauses(keys={"b": LASTING, "c": ENDING})
    assert list(after.changes(before)) == [(None, None), ("a", None), ("c", ENDING)]
    assert list(before.changes(after)) == [(None, LASTING), ("a", LASTING), ("c", None)]
    assert list(after.changes(after)) == []


def row(names: list[str], value: Any) -> tuple[str, Any]:
    return json.dumps(names), value


def test_pauses_come_back_from_their_rows() -> None:
    rows = [
        row(row_names("q", None), LASTING._asdict()),
        row(row_names("q", "k"), ENDING._asdict()),
        row(row_names("r", ""), LASTING._asdict()),
    ]
    written = [(name, json.loads(json.dumps(value))) for name, value in rows]
    assert pauses_in(written) == {"q": QueuePauses(LASTING, {"k": ENDING}), "r": QueuePauses(keys={"": LASTING})}


@pytest.mark.parametrize(
    "wrong",
    [
        ("no JSON", LASTING._asdict()),
        ("17", LASTING._asdict()),
        row([], LASTING._asdict()),
        row(["paused"], LASTING._asdict()),
        row(["paused", "q", "k", "more"], LASTING._asdict()),
        row(["exchange", "q"], {"type": "direct"}),
        row(["keys", "q"], LASTING._asdict()),
        row(row_names("q", None), None),
        row(row_names("q", None), []),
        row(row_names("q", None), {}),
        row(row_names("q", None), {"by": "ann", "at": "today"}),
        row(row_names("q", None), {"by": "ann", "at": 1e300}),
        row(row_names("q", None), {"by": "ann", "at": 1.0, "until": "tomorrow"}),
        row(row_names("q", None), {"by": "ann", "at": 1.0, "reason": 7}),
    ],
)
def test_a_row_that_is_no_pause_pauses_nothing_and_hides_no_other(wrong: tuple[str, Any]) -> None:
    assert pauses_in([wrong]) == {}
    assert pauses_in([wrong, row(row_names("r", None), LASTING._asdict())]) == {"r": QueuePauses(LASTING)}
