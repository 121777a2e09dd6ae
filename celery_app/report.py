"""The demonstration's report: figures in, text out."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

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
