"""The demonstration's report: figures in, text out."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from celery_app import corpus
from celery_app.corpus import Counts

TOP = 10
SECTION_TITLES = {
    "words": "leading words",
    "licences": "licences",
    "author_files": "files of authors",
    "author_lines": "lines of authors",
}


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """Lines of a table: the first column is left-aligned, numbers after it to the right."""
    cells = [list(head), *[list(row) for row in rows]]
    widths = [max(len(row[column]) for row in cells) for column in range(len(head))]
    lines = []
    for first, *others in cells:
        aligned = [first.ljust(widths[0]), *[cell.rjust(w) for cell, w in zip(others, widths[1:], strict=True)]]
        lines.append("  " + "  ".join(aligned).rstrip())
    return lines


def runs(runtimes: Mapping[tuple[str, str], Sequence[float]]) -> list[str]:
    """What ran where and for how long."""
    return table(
        ["task on node", "runs", "total", "mean"],
        [
            (f"{name} on {node}", f"{len(times)}", f"{sum(times):.2f} s", f"{1000 * sum(times) / len(times):.1f} ms")
            for (node, name), times in sorted(runtimes.items(), key=lambda item: item[0][::-1])
        ],
    )


def worker_stats(stats: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """What the workers answer to ``celery inspect stats``."""
    return table(
        ["worker", "pid", "processes", "tasks"],
        [
            (node, f"{answer['pid']}", f"{len(answer['pool']['processes'])}", f"{sum(answer['total'].values())}")
            for node, answer in sorted(stats.items())
        ],
    )


def delays(seconds: Sequence[float]) -> str:
    """How long publishing took."""
    ordered = sorted(seconds)
    p50, p99 = (1000 * ordered[int(q * (len(ordered) - 1))] for q in (0.5, 0.99))
    return f"  delay() of {len(ordered)} tasks: half within {p50:.2f} ms, 99 % within {p99:.2f} ms"


def statistics(counted: Counts) -> list[str]:
    """The most frequent words, the licences and the authors."""
    words, licences = corpus.top(counted["words"], TOP), corpus.top(counted["licences"], TOP)
    lines = counted["author_lines"]
    return [
        f"Most frequent words (of each file's first {corpus.LEADING_WORDS})",
        *table(["word", "times"], [(word, f"{n:,}") for word, n in words]),
        "Licences",
        *table(["stated licence", "files"], [(name, f"{n:,}") for name, n in licences]),
        *more(len(counted["licences"])),
        "Authors",
        *table(
            ["named as author", "files", "lines"],
            [(who, f"{n:,}", f"{lines[who]:,}") for who, n in corpus.top(counted["author_files"], TOP)],
        ),
        *more(len(counted["author_files"])),
    ]


def more(total: int) -> list[str]:
    """Say how many rows the table above leaves out."""
    return [f"  … and {total - TOP:,} more"] if total > TOP else []


def comparison(counted: Counts, expected: Counts) -> list[str]:
    """The workers' totals beside those of one process, and a verdict for each."""
    rows = [
        (name, counted["totals"].get(name, 0), n, counted["totals"].get(name, 0) == n)
        for name, n in expected["totals"].items()
    ]
    rows += [
        (SECTION_TITLES[section], sum(counted[section].values()), sum(n.values()), counted[section] == n)
        for section, n in expected.items()
        if section != "totals"
    ]
    return table(
        ["totals", "workers", "one process", ""],
        [(name, f"{ours:,}", f"{theirs:,}", "OK" if equal else "WRONG") for name, ours, theirs, equal in rows],
    )
