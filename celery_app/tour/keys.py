"""Stops about ordering keys and deduplication, on the files of installed packages."""

from __future__ import annotations

import uuid
from collections import defaultdict
from itertools import pairwise

from celery_app import diary
from celery_app.packages import enter, stay
from celery_app.tour.guide import Seen, Steps, Stop, Tour

PACKAGES, FILES = 3, 5


def packages(tour: Tour) -> dict[str, list[str]]:
    """Files of some packages, by their names."""
    found: dict[str, list[str]] = defaultdict(list)
    for name in tour.files.names:
        package = name.partition("/")[0] if "/" in name else tour.files.root.name
        found[package].append(str(tour.files.root / name))
    largest = sorted(found, key=lambda package: (-len(found[package]), package))[:PACKAGES]
    return {package: found[package][:FILES] for package in largest}


def ordering(tour: Tour) -> Steps:
    """The files of some packages are added to the sums of their packages, and one of each fails once."""
    chosen = packages(tour)
    sent = {
        package: [enter.delay(package, path, number == 1) for number, path in enumerate(paths)]
        for package, paths in chosen.items()
    }
    yield None
    told = []
    for package, tasks in sent.items():
        for each in tasks:
            tour.result(each)
        ids = [each.id for each in tasks]
        begins, ends = diary.read("begin", *ids), diary.read("end", *ids)
        tour.require([entry.task for entry in ends] == ids, f"the files of {package} did not end in order")
        runs = sorted([*begins, *ends])
        tour.require(
            all((one.task == next_one.task) or one.what == "end" for one, next_one in pairwise(runs)),
            f"two files of {package} were added at once",
        )
        told.append(f"{package}: {len(begins)} runs of {len(tasks)} tasks")
    yield Seen(
        f"{sum(map(len, sent.values()))} files of {len(sent)} packages were added up, the package being the ordering key",
        "those of a package one at a time and in order; the second one of each failed, and was retried in its place",
        "; ".join(told),
    )


def fencing(tour: Tour) -> Steps:
    """Files of a package are added up, and then the first run writes once more, as one that was paused would."""
    name, paths = next(iter(packages(tour).items()))
    key = f"{name}, once more"
    sent = [enter.delay(key, path) for path in paths]
    yield None
    lines = sum(tour.result(each) for each in sent)
    tokens = [int(entry.number) for entry in diary.read("begin", *(each.id for each in sent))]
    tour.require(tokens == sorted(set(tokens)), f"the fencing tokens of {key} do not grow: {tokens}")
    tour.require(not diary.add_file(key, 1, tokens[0]), "the store took a late write")
    files, stored, fence = diary.package(key)
    tour.require(stored == lines, f"{key} has {stored} lines, {lines} were counted")
    yield Seen(
        f"{len(sent)} runs of a key wrote to a store with their tokens; then one wrote late, with the first token",
        f"the store refused that, and kept {files} files with {stored:,} lines",
        f"tokens {', '.join(map(str, tokens))}; the store has {fence}",
    )


def deduplication(tour: Tour) -> Steps:
    """The same task is sent three times."""
    invoice = f"invoice-{uuid.uuid4().hex[:8]}"
    sent = [stay.apply_async((0.0,), deduplication_id=invoice) for _ in range(3)]
    for each in sent:
        tour.result(each)
    runs = diary.read("begin", sent[0].id)
    tour.require(
        len({each.id for each in sent}) == len(runs) == 1, f"a task that was sent thrice ran {len(runs)} times"
    )
    yield Seen(
        f"a task was sent three times with the deduplication id {invoice}",
        "all three have one id and one result, and it ran once",
        f"id {sent[0].id}, {len(runs)} run",
    )


STOPS = [Stop("Ordering keys", ordering), Stop("Fencing tokens", fencing), Stop("Deduplication", deduplication)]
