"""Questions about dead letters."""

from __future__ import annotations

import heapq
import json
from collections.abc import Callable, Iterator
from itertools import chain
from typing import Any, NamedTuple

from celery import Celery

from kafka_exec.core.message.dead import Letter, Order, as_text
from kafka_exec.kafka.queue.dead import DeadLetters, OnProgress, queues_with_letters
from kafka_exec.settings.appconf import broker_home

#: So many bytes are shown of a body that is no JSON.
_MOST_SHOWN = 200


class Letters(NamedTuple):
    """The latest of the dead letters that were asked for.

    Attributes:
        letters: each with its queue, the latest first.
        matching: the number of all that were asked for.
        replayed: the number of those that were left out, since they were replayed.
    """

    letters: list[tuple[Letter, str]]
    matching: int
    replayed: int

    def facts(self) -> list[dict[str, Any]]:
        """The letters as JSON objects."""
        return [{"queue": queue, **letter.as_json()} for letter, queue in self.letters]


def latest(
    app: Celery,
    queue: str | None,
    order: Order,
    limit: int,
    *,
    offset: int = 0,
    also_replayed: bool = False,
    progress: Callable[[str], OnProgress | None] = lambda queue: None,
) -> Letters:
    """The latest letters of a queue, or of all queues, so many at most.

    Args:
        order: chooses the letters.
        offset: so many, the very latest, are left out.
        progress: makes the function that is called with the progress of reading a queue.

    Raises:
        ConnectionFailed: the cluster does not answer.
    """
    matching = replayed = 0

    def wanted(letters: DeadLetters) -> Iterator[tuple[Letter, str]]:
        nonlocal matching, replayed
        for letter in letters.scan(progress(letters.queue)):
            if not order.matches(letter):
                continue
            if letter.replayed and not also_replayed:
                replayed += 1
                continue
            matching += 1
            yield letter, letters.queue

    space = broker_home(app)
    queues = [queue] if queue is not None else queues_with_letters(space.topics, space.cluster.topics.counts())
    read = (wanted(DeadLetters(space.cluster, space.topics, name)) for name in queues)
    found = heapq.nlargest(offset + limit, chain.from_iterable(read), key=lambda each: (each[0].at, each[0].address))[
        offset:
    ]
    return Letters(found, matching, replayed)


def details(letter: Letter, queue: str) -> dict[str, Any]:
    """A letter with its headers and its body as a JSON object; of a body that is no JSON, its size and its beginning."""
    facts = {"queue": queue, **letter.as_json(), "key": None if letter.key is None else as_text(letter.key)}
    facts["headers"] = [[name, None if value is None else as_text(value)] for name, value in letter.headers]
    try:
        json.dumps(letter.body, allow_nan=False)
        return {**facts, "body": letter.body}
    except ValueError:
        size = None if letter.value is None else len(letter.value)
        return {**facts, "size": size, "begins": as_text((letter.value or b"")[:_MOST_SHOWN])}
