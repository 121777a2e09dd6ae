"""A folder of text and its statistics: plain functions that know nothing of Celery.

Counts are JSON as they are (section -> key -> number), so they travel as a task's result unchanged, and adding two
of them up is the same for every section.
"""

from __future__ import annotations

import codecs
import os
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from email.parser import HeaderParser
from email.utils import getaddresses
from importlib.metadata import distribution
from pathlib import Path, PurePosixPath

Counts = dict[str, dict[str, int]]

SECTIONS = ("totals", "words", "licences", "author_files", "author_lines")

MAX_FILES = 1000
MAX_FILE_BYTES = 512 * 1024
BATCH_FILES = 40
# Only a file's most frequent words are counted by name: with every word of every file, the parts that the reduce task
# is given would add up to several megabytes, and a Kafka message holds one.
LEADING_WORDS = 12
LICENCE_HEAD = 8192

_SKIPPED_FOLDERS = {"__pycache__", "node_modules"}
_SKIPPED_FILES = {"RECORD"}  # an installer's list of checksums, of every package
_BINARY_PROBE = 4096
_UTF16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)

_WORD = re.compile(r"[^\W\d_]+")
_WORD_LENGTHS = range(4, 31)

_SPDX = re.compile(r"SPDX-License-Identifier:\s*([A-Za-z0-9.+-]+(?: (?:OR|AND|WITH) [A-Za-z0-9.+-]+)*)")
_LICENCE_HEADER = re.compile(r"^License(?:-Expression)?:[ \t]*(\S[^\n]{0,40})$", re.MULTILINE)
_NOISE = re.compile(r"[\s#*/;\"'`]+")
# The first whose phrases all occur wins, so the special ones stand before the general ones.
_LICENCE_PHRASES: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("Apache-2.0", ("apache license", "version 2.0")),
    ("LGPL", ("gnu lesser general public license",)),
    ("AGPL", ("gnu affero general public license",)),
    ("GPL", ("gnu general public license",)),
    ("MPL-2.0", ("mozilla public license",)),
    ("PSF-2.0", ("python software foundation license",)),
    ("ZPL-2.1", ("zope public license",)),
    ("Unlicense", ("this is free and unencumbered software",)),
    ("BSD-3-Clause", ("redistribution and use in source and binary forms", "neither the name")),
    ("BSD-2-Clause", ("redistribution and use in source and binary forms",)),
    ("ISC", ("permission to use, copy, modify, and", "for any purpose with or without fee is hereby granted")),
    ("MIT", ("permission is hereby granted, free of charge",)),
    ("MIT", ("mit license",)),
    ("BSD", ("bsd license",)),
)

_SPDX_NAMES = {
    "Apache 2.0": "Apache-2.0",
    "BSD 2-Clause License": "BSD-2-Clause",
    "New BSD": "BSD-3-Clause",
}

_DUNDER_AUTHOR = re.compile(r"^__author__\s*=\s*[\"']([^\"'\n]+)[\"']", re.MULTILINE)
_COPYRIGHT = re.compile(
    r"copyright\s+(?:(?:\(c\)|©|:)\s*)?[\d\s,\u2013-]*\d{4}(?:\s*[-\u2013]\s*present)?[,:]?\s+(?:by\s+)?(?:the\s+)?([^\n]{3,80})",
    re.IGNORECASE,
)
# A full stop ends a name, but not the one after an initial.
_AFTER_NAME = re.compile(
    r"\s*(?:(?<!\b[A-Z])\.|[,;:<(\[\\\"|*]|\s/|\s-|(?i:(?:&|and) (?:\w+ )?(?:contributors|others)|all rights)).*$"
)
_NAME = re.compile(r"[^\W\d_][\w .'&/-]{2,59}")


@dataclass(frozen=True)
class Corpus:
    """The files to count: names relative to ``root``, and how many others there were."""

    root: Path
    names: tuple[str, ...]
    text_files: int
    left_out: int

    def batches(self) -> list[list[str]]:
        """Split the names into the work of one task each."""
        return [list(self.names[i : i + BATCH_FILES]) for i in range(0, len(self.names), BATCH_FILES)]


def installed_packages() -> Path:
    """The folder the installed Python packages are in: real text that every machine with Celery has."""
    return Path(str(distribution("celery").locate_file(""))).resolve()


def find(root: Path, max_files: int = MAX_FILES) -> Corpus:
    """Find the text files below ``root``; of more than ``max_files``, take the same even spread every time."""
    names: list[str] = []
    left_out = 0
    for folder, folders, files in os.walk(root):
        folders[:] = [name for name in folders if name not in _SKIPPED_FOLDERS and not name.startswith(".")]
        for file in set(files) - _SKIPPED_FILES:
            path = Path(folder, file)
            if is_text(path):
                names.append(path.relative_to(root).as_posix())
            else:
                left_out += 1
    names.sort()
    # Authors and licences stand in the packages' metadata, a small part of all files: it comes before any source.
    metadata = _spread([name for name in names if ".dist-info/" in name], max_files)
    others = _spread([name for name in names if ".dist-info/" not in name], max_files - len(metadata))
    return Corpus(root, tuple(metadata + others), len(names), left_out)


def is_text(path: Path) -> bool:
    """Whether this is a readable regular file of text and of a size to read at once."""
    try:
        if path.is_symlink() or not path.is_file() or path.stat().st_size > MAX_FILE_BYTES:
            return False
        with path.open("rb") as file:
            head = file.read(_BINARY_PROBE)
    except OSError:
        return False
    return head.startswith(_UTF16) or b"\0" not in head


def decode(data: bytes) -> str:
    """Read bytes as text, whatever their encoding: every byte sequence is some text in Latin-1."""
    if data.startswith(_UTF16):
        return data.decode("utf-16", errors="replace")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:
        return data.decode("latin-1")


def count_files(root: Path, names: Iterable[str]) -> Counts:
    """Count these files one after the other; the plain, single-process way when given all of them."""
    sums: dict[str, Counter[str]] = {section: Counter() for section in SECTIONS}
    for name in names:
        data = (root / name).read_bytes()
        for section, counted in count_text(name, decode(data)).items():
            sums[section].update(counted)
        sums["totals"]["bytes"] += len(data)
    return {section: dict(counted) for section, counted in sums.items()}


def count_text(name: str, text: str) -> Counts:
    """Count one file."""
    words = Counter(_WORD.findall(text.lower()))
    lines = text.count("\n") + (not text.endswith("\n") and bool(text))
    named = authors(name, text)
    return {
        "totals": {"files": 1, "lines": lines, "words": words.total()},
        "words": leading_words(words),
        "licences": {licence(text): 1},
        "author_files": dict.fromkeys(named, 1),
        "author_lines": dict.fromkeys(named, lines),
    }


def leading_words(words: Counter[str]) -> dict[str, int]:
    """The most frequent words that say something, ties in alphabetical order."""
    telling = [(-n, word) for word, n in words.items() if len(word) in _WORD_LENGTHS]
    return {word: -n for n, word in sorted(telling)[:LEADING_WORDS]}


def licence(text: str) -> str:
    """The licence a file states, as its SPDX name where that is known, or ``none stated``."""
    head = text[:LICENCE_HEAD]
    for stated in (_SPDX.search(head), _LICENCE_HEADER.search(head)):
        if stated:
            return _SPDX_NAMES.get(stated[1].strip(), stated[1].strip())
    plain = _NOISE.sub(" ", head).lower()
    for identifier, phrases in _LICENCE_PHRASES:
        if all(phrase in plain for phrase in phrases):
            return identifier
    return "none stated"


def authors(name: str, text: str) -> set[str]:
    """Who a file names as its authors: metadata in its headers, any other in ``__author__`` and copyright lines."""
    if PurePosixPath(name).name in ("METADATA", "PKG-INFO"):
        headers = HeaderParser().parsestr(text)
        stated = [who for value in headers.get_all("Author", []) for who in str(value).split(",")]
        stated += [who for who, _ in getaddresses([str(value) for value in headers.get_all("Author-email", [])])]
    else:
        head = text[:LICENCE_HEAD]
        stated = _DUNDER_AUTHOR.findall(head) + _COPYRIGHT.findall(head)
    names = (_AFTER_NAME.sub("", who).strip(" '\"") for who in stated)
    return {who for who in names if _NAME.fullmatch(who)}


def merge(parts: Iterable[Counts]) -> Counts:
    """Add partial counts up; their order and how the files were split make no difference."""
    sums: dict[str, Counter[str]] = {section: Counter() for section in SECTIONS}
    for part in parts:
        for section, counted in part.items():
            sums[section].update(counted)
    return {section: dict(counted) for section, counted in sums.items()}


def differences(counted: Counts, expected: Counts) -> list[str]:
    """Where two counts differ, one sentence for each; empty when they are equal."""
    found = []
    for section in SECTIONS:
        ours, theirs = counted.get(section, {}), expected.get(section, {})
        for key in sorted(ours.keys() | theirs.keys()):
            if ours.get(key, 0) != theirs.get(key, 0):
                found.append(f"{section} of {key!r}: {ours.get(key, 0):,} counted, {theirs.get(key, 0):,} expected")
    return found


def top(counted: dict[str, int], n: int) -> list[tuple[str, int]]:
    """The ``n`` largest, ties in alphabetical order."""
    return sorted(counted.items(), key=lambda item: (-item[1], item[0]))[:n]


def _spread(names: Sequence[str], limit: int) -> list[str]:
    if len(names) <= limit:
        return list(names)
    return [names[i * len(names) // limit] for i in range(limit)]
