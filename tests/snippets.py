"""The documentation's Markdown, taken apart: its code, its links, its headings."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[1]
README = ROOT / "README.md"
EXAMPLE = ROOT / "celery_app" / "README.md"
PAGES = [README, EXAMPLE, *sorted((ROOT / "docs").glob("*.md"))]

_FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_CODE = re.compile(r"`([^`\n]+)`")
_LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)|^\[[^\]]+\]: (\S+)$", re.MULTILINE)
_HEADING = re.compile(r"^#+ (.+)$", re.MULTILINE)


class Block(NamedTuple):
    """A fenced block of code. ``language`` is empty for commands."""

    language: str
    text: str

    @property
    def program(self) -> str:
        """A block of Python as it can be compiled: one that ends with the head of a function gets a body."""
        last = self.text.rstrip().rpartition("\n")[2]
        indentation = " " * (len(last) - len(last.lstrip()) + 4)
        return f"{self.text}{indentation}..." if last.endswith(":") else self.text


def programs(text: str) -> list[str]:
    """The blocks of Python of a page."""
    return [block.program for block in blocks(text) if block.language == "python"]


def blocks(text: str) -> list[Block]:
    """The fenced blocks of a page, or of a part of one."""
    return [Block(language, code) for language, code in _FENCE.findall(text)]


def spans(text: str) -> list[str]:
    """All code of a page that is no Python and no diagram: spans within a line, and the lines of commands."""
    commands = [line for block in blocks(text) if not block.language for line in block.text.splitlines()]
    return [*_CODE.findall(_FENCE.sub("", text)), *commands]


def links(text: str) -> list[str]:
    """The targets of a page's links and pictures within the repository."""
    prose = _CODE.sub("", _FENCE.sub("", text))
    found = [first or second for first, second in _LINK.findall(prose)]
    return [target for target in found if "://" not in target]


def anchors(text: str) -> set[str]:
    """The anchors of a page's headings, as GitHub makes them."""
    seen: Counter[str] = Counter()
    found = set()
    for heading in _HEADING.findall(_FENCE.sub("", text)):
        slug = re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-")
        found.add(f"{slug}-{seen[slug]}" if seen[slug] else slug)
        seen[slug] += 1
    return found


def section(text: str, heading: str) -> str:
    """The part of a page under a heading of the second level."""
    _, found, rest = text.partition(f"\n## {heading}\n")
    assert found, f"there is no heading {heading}"
    return rest.partition("\n## ")[0]
