"""The example application's counting, without Celery: tables, and the merge beside a dumb twin."""

from __future__ import annotations

import json
import os
import re
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from celery_app import corpus, report

BSD = "Redistribution and use in source and binary forms, with or without modification, are permitted"


# Finding files


def write(root: Path, name: str, data: bytes = b"text\n") -> None:
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)


def test_find_takes_text_and_says_what_it_left_out(tmp_path: Path) -> None:
    for name in ("b.py", "a.txt", "sub/LICENSE", "pkg.dist-info/METADATA", "empty"):
        write(tmp_path, name)
    write(tmp_path, "utf16.txt", "text\n".encode("utf-16"))
    write(tmp_path, "binary.so", b"\x7fELF\0\0")
    write(tmp_path, "large.txt", b"x" * (corpus.MAX_FILE_BYTES + 1))
    (tmp_path / "link.txt").symlink_to(tmp_path / "a.txt")
    for ignored in ("__pycache__/b.txt", ".git/config", "pkg.dist-info/RECORD"):
        write(tmp_path, ignored)

    found = corpus.find(tmp_path)

    assert found.names == ("pkg.dist-info/METADATA", "a.txt", "b.py", "empty", "sub/LICENSE", "utf16.txt")
    assert (found.text_files, found.left_out) == (6, 3)


def test_find_leaves_out_what_it_may_not_read(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "gone").symlink_to(tmp_path / "nowhere")

    assert corpus.find(tmp_path) == corpus.Corpus(tmp_path, (), 0, 2)


@pytest.mark.parametrize(
    ("limit", "names"),
    [
        (9, ("p.dist-info/METADATA", "a", "b", "c", "d", "e", "f")),
        (4, ("p.dist-info/METADATA", "a", "c", "e")),
        (1, ("p.dist-info/METADATA",)),
    ],
)
def test_find_spreads_a_limited_number_over_the_folder(tmp_path: Path, limit: int, names: tuple[str, ...]) -> None:
    for name in ("f", "e", "d", "c", "b", "a", "p.dist-info/METADATA"):
        write(tmp_path, name)

    found = corpus.find(tmp_path, limit)

    assert found.names == names
    assert found.text_files == 7


@pytest.mark.parametrize("files", [0, 1, corpus.BATCH_FILES, corpus.BATCH_FILES + 1, 3 * corpus.BATCH_FILES - 1])
def test_batches_hold_every_name_once(files: int) -> None:
    names = tuple(f"{n}.txt" for n in range(files))

    batches = corpus.Corpus(Path("/x"), names, files, 0).batches()

    assert tuple(name for batch in batches for name in batch) == names
    assert all(0 < len(batch) <= corpus.BATCH_FILES for batch in batches)


def test_the_default_input_is_there() -> None:
    found = corpus.find(corpus.installed_packages(), 1000)

    assert len(found.names) == 1000
    assert any(name.startswith("celery-") for name in found.names)


# Counting one file


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (b"", ""),
        ("Grüße".encode(), "Grüße"),
        ("Grüße".encode("utf-8-sig"), "Grüße"),
        ("Grüße".encode("utf-16"), "Grüße"),
        ("Grüße".encode("latin-1"), "Grüße"),
        (b"\xff\xfe\x00", "\ufffd"),
    ],
)
def test_decode(data: bytes, text: str) -> None:
    assert corpus.decode(data) == text


@given(st.binary())
def test_decode_reads_anything(data: bytes) -> None:
    assert isinstance(corpus.decode(data), str)


@pytest.mark.parametrize(
    ("text", "lines", "words"),
    [
        ("", 0, 0),
        ("\n", 1, 0),
        ("one two", 1, 2),
        ("one two\n", 1, 2),
        ("one\n\ntwo\nthree", 4, 3),
        ("task_acks_late = 42  # naïve", 1, 4),
    ],
)
def test_lines_and_words(text: str, lines: int, words: int) -> None:
    assert corpus.count_text("x", text)["totals"] == {"files": 1, "lines": lines, "words": words}


def test_leading_words_are_the_most_frequent_telling_ones() -> None:
    many = {"word" + chr(ord("a") + n) * 2: 2 for n in range(20)}
    words = Counter({"the": 9, "self": 5, "x" * 40: 7, "task": 5, "zebra": 3, **many})

    leading = corpus.leading_words(words)

    assert list(leading.items())[:5] == [("self", 5), ("task", 5), ("zebra", 3), ("wordaa", 2), ("wordbb", 2)]
    assert len(leading) == corpus.LEADING_WORDS


@pytest.mark.parametrize(
    ("text", "licence"),
    [
        ("", "none stated"),
        ("print('permission')", "none stated"),
        ("// SPDX-License-Identifier: Apache-2.0 OR MIT\nint x;", "Apache-2.0 OR MIT"),
        ("/* SPDX-License-Identifier: MPL-2.0 */", "MPL-2.0"),
        ("Name: x\nLicense-Expression: BSD-3-Clause\nLicense-File: LICENSE", "BSD-3-Clause"),
        ("Name: x\nLicense: New BSD\n", "BSD-3-Clause"),
        ("Name: x\nLicense: \nLicense-File: COPYING", "none stated"),
        ("Permission is hereby granted, free of\n# charge, to any person", "MIT"),
        ("Apache License\n   Version 2.0, January 2004", "Apache-2.0"),
        (f"{BSD}. Neither the name of the", "BSD-3-Clause"),
        (BSD, "BSD-2-Clause"),
        ("GNU LESSER GENERAL PUBLIC LICENSE, which adds to the GNU General Public License", "LGPL"),
        ("GNU GENERAL PUBLIC LICENSE Version 3", "GPL"),
        ("This is free and unencumbered software", "Unlicense"),
        ("x" * corpus.LICENCE_HEAD + "SPDX-License-Identifier: MIT", "none stated"),
    ],
)
def test_licence(text: str, licence: str) -> None:
    assert corpus.licence(text) == licence


@pytest.mark.parametrize(
    ("name", "text", "authors"),
    [
        ("x.py", "", set()),
        ("x.py", "__author__ = 'Ask Solem'\n", {"Ask Solem"}),
        ("x.py", "# Copyright (c) 2009-2012 Ask Solem & contributors. All rights reserved.", {"Ask Solem"}),
        ("x.py", "# Copyright 2013 David R. MacIver and others.", {"David R. MacIver"}),
        ("x.py", "Copyright \N{COPYRIGHT SIGN} 2001-present by the Pallets team <x@y>", {"Pallets team"}),
        ("x.c", "Copyright (c) 2001, 2002 Nominum, Inc.\nCopyright (C) 2020 Bob Halley", {"Nominum", "Bob Halley"}),
        ("x.py", "the copyright of this is in dispute", set()),
        ("a/METADATA", "Name: a\nAuthor: Armin Rigo, Ann Bee\n\nCopyright 2000 X Y", {"Armin Rigo", "Ann Bee"}),
        ("METADATA", 'Name: a\nAuthor-email: "David R. MacIver" <d@x>, Ann <a@x>, b@x\n', {"David R. MacIver", "Ann"}),
        ("x.py", "Author: Somebody", set()),
    ],
)  # fmt: skip
def test_authors(name: str, text: str, authors: set[str]) -> None:
    assert corpus.authors(name, text) == authors


# Merging


def twin(texts: dict[str, str]) -> dict[str, int]:
    """The totals of all texts, the dumb way."""
    everything = list(texts.values())
    return {
        "files": len(everything),
        "lines": sum(len(re.findall(r"[^\n]*\n|[^\n]+", text)) for text in everything),
        "words": sum(1 for text in everything for _ in re.finditer(r"[^\W\d_]+", text.lower())),
        "bytes": sum(len(text.encode()) for text in everything),
    }


TEXTS = st.lists(
    st.text(st.sampled_from("abé \n1_")) | st.sampled_from(["license text", "Copyright 2020 Ann Bee\n", f"{BSD}\n"]),
    max_size=8,
)


@given(texts=TEXTS, data=st.data())
def test_merge_of_any_split_in_any_order_is_the_count_of_all(
    tmp_path_factory: pytest.TempPathFactory, texts: list[str], data: st.DataObject
) -> None:
    root = tmp_path_factory.mktemp("texts")
    named = {f"{n}.txt": text for n, text in enumerate(texts)}
    for name, text in named.items():
        (root / name).write_bytes(text.encode())
    order = data.draw(st.permutations(list(named)))
    cuts = sorted(data.draw(st.lists(st.integers(0, len(order)), max_size=4)))
    split = [order[a:b] for a, b in zip([0, *cuts], [*cuts, len(order)], strict=True)]

    parts = [json.loads(json.dumps(corpus.count_files(root, names))) for names in split]
    merged = corpus.merge(parts)

    assert corpus.differences(merged, corpus.count_files(root, named)) == []
    assert {key: merged["totals"].get(key, 0) for key in twin(named)} == twin(named)
    assert sum(merged["licences"].values()) == len(texts)


def test_a_lost_a_doubled_and_a_changed_part_are_noticed(tmp_path: Path) -> None:
    for n in range(4):
        write(tmp_path, f"{n}.txt", b"some words\n" * (n + 1))
    names = [f"{n}.txt" for n in range(4)]
    parts = [corpus.count_files(tmp_path, [name]) for name in names]
    expected = corpus.count_files(tmp_path, names)

    assert corpus.differences(corpus.merge(parts), expected) == []
    assert "totals of 'files': 3 counted, 4 expected" in corpus.differences(corpus.merge(parts[1:]), expected)
    assert "totals of 'files': 5 counted, 4 expected" in corpus.differences(corpus.merge([*parts, parts[0]]), expected)
    parts[2]["words"]["some"] += 1
    assert corpus.differences(corpus.merge(parts), expected) == ["words of 'some': 11 counted, 10 expected"]


@pytest.mark.parametrize(
    ("counted", "expected", "found"),
    [
        ({}, {}, []),
        ({"words": {"a": 1}}, {"words": {"a": 1}}, []),
        ({"words": {"a": 1}}, {}, ["words of 'a': 1 counted, 0 expected"]),
        ({}, {"licences": {}, "words": {"a": 1000}}, ["words of 'a': 0 counted, 1,000 expected"]),
        (
            {"words": {"a": 1}},
            {"words": {"b": 1}},
            [
                "words of 'a': 1 counted, 0 expected",
                "words of 'b': 0 counted, 1 expected",
            ],
        ),
    ],
)
def test_differences_sees_what_only_one_side_has(
    counted: corpus.Counts, expected: corpus.Counts, found: list[str]
) -> None:
    assert corpus.differences(counted, expected) == found


def test_the_largest_parts_stay_far_below_a_kafka_message(tmp_path: Path) -> None:
    letters = "\N{CJK UNIFIED IDEOGRAPH-4E00}"  # six bytes each in JSON
    names = []
    for n in range(corpus.BATCH_FILES):
        words = [chr(ord(letters) + 100 * n + k) * 30 for k in range(2 * corpus.LEADING_WORDS)]
        names.append(f"{n}.txt")
        write(tmp_path, names[-1], " ".join(words).encode())

    assert len(json.dumps(corpus.count_files(tmp_path, names))) < 200_000


# The report


def test_the_report_marks_what_is_wrong() -> None:
    expected = {"totals": {"files": 2, "lines": 30}, "words": {"self": 3}}

    same = report.comparison(expected, expected)
    other = report.comparison({"totals": {"files": 2, "lines": 1029}, "words": {"elf": 3}}, expected)

    assert [line.split()[-1] for line in same[1:]] == ["OK", "OK", "OK"]
    assert [line.split()[-1] for line in other[1:]] == ["OK", "WRONG", "WRONG"]
    assert other[2] == "  lines            1,029           30  WRONG"


def test_a_table_aligns_names_left_and_numbers_right() -> None:
    assert report.table(["who", "n"], [("Ann", "1"), ("Robert", "22")]) == [
        "  who      n",
        "  Ann      1",
        "  Robert  22",
    ]
