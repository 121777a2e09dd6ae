"""The documentation as a site: ``python -m tests.site`` builds it into ``build/site``; any broken link is an error.

The pages are those of the repository as they are. Their order is that of the table of pages in the README. What a page names
of the repository, such as a Compose file, is in the site too.
"""

from __future__ import annotations

import logging
import os
import re
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from mkdocs.commands.build import build
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.exceptions import Abort
from pymdownx.superfences import fence_code_format

from tests.snippets import EXAMPLE, README, ROOT, anchors, section

DOCS = ROOT / "docs"

#: Pages outside docs, by their names in the site.
MOVED = {README: "index.md", EXAMPLE: "example.md"}

#: The text of the package on its index, which repeats the README.
LEFT_OUT = {"package.md"}

#: Code, which is left as it is; or a link's target.
_CODE_OR_LINK = re.compile(r"(^```.*?^```$|`[^`\n]+`)|(?<=\]\()([^)\s]+)(?=\))", re.MULTILINE | re.DOTALL)
_ROW = re.compile(r"^\| ([a-z][^|]+) \| (.+) \|$", re.MULTILINE)
_ENTRY = re.compile(r"\[([^\]]+)\]\(([^)]+)\)")


def place(path: Path) -> str:
    """The name of a file of the repository in the site."""
    if path in MOVED:
        return MOVED[path]
    return (
        path.relative_to(DOCS).as_posix()
        if path.is_relative_to(DOCS)
        else f"source/{path.relative_to(ROOT).as_posix()}"
    )


def moved(text: str, page: Path, name: Callable[[Path], str]) -> str:
    """The text of a page with its links as they are in the site. ``name``: tells where a file is there."""

    def target(found: re.Match[str]) -> str:
        if found[1] or "://" in found[2] or found[2].startswith(("#", "mailto:")):
            return found[0]
        path, mark, anchor = found[2].partition("#")
        return os.path.relpath(name((page.parent / path).resolve()), Path(name(page)).parent) + mark + anchor

    return _CODE_OR_LINK.sub(target, text)


def write_sources(folder: Path) -> None:
    """Writes the pages, and the other files that they name, into a folder."""

    def name(path: Path) -> str:
        found = place(path)
        if not found.endswith(".md") and path.is_file():
            copy = folder / found
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, copy)
        return found

    for page in [*MOVED, *sorted(DOCS.glob("*.md"))]:
        if page.name not in LEFT_OUT:
            text = moved(page.read_text(encoding="utf-8"), page, name)
            (folder / name(page)).write_text(text, encoding="utf-8")


def navigation() -> list[dict[str, Any]]:
    """The pages in the order of README's table."""
    groups: list[dict[str, Any]] = [{"Home": MOVED[README]}]
    for group, entries in _ROW.findall(section(README.read_text(encoding="utf-8"), "Pages")):
        if pages := _ENTRY.findall(entries):
            listed = [{capital(title): place((ROOT / target).resolve())} for title, target in pages]
            groups.append({capital(group): listed})
    return groups


def capital(text: str) -> str:
    """A text with a capital letter at its beginning."""
    return text[:1].upper() + text[1:]


def slug(text: str, separator: str) -> str:
    """The anchor of a heading, as GitHub makes it: pages are read there too."""
    return anchors(f"# {text}").pop()


def settings(folder: Path, site: Path) -> dict[str, Any]:
    """The settings of MkDocs."""
    palette = [
        {"media": f"(prefers-color-scheme: {name})", "scheme": scheme, "toggle": {"icon": icon, "name": f"Go {other}"}}
        for name, scheme, icon, other in (
            ("light", "default", "material/weather-night", "dark"),
            ("dark", "slate", "material/weather-sunny", "light"),
        )
    ]
    diagram = {"name": "mermaid", "class": "mermaid"}
    return {
        "site_name": "kafka_exec",
        "docs_dir": str(folder),
        "site_dir": str(site),
        "strict": True,
        # Pages open from a folder as from a server; only the search needs a server.
        "use_directory_urls": False,
        "nav": navigation(),
        "plugins": ["material/search"],
        # No fonts of another site.
        "theme": {
            "name": "material",
            "font": False,
            "palette": palette,
            "features": ["navigation.indexes", "navigation.top", "search.highlight", "content.code.copy", "toc.follow"],
        },
        "markdown_extensions": [
            "tables",
            "sane_lists",
            "pymdownx.highlight",
            {"pymdownx.superfences": {"custom_fences": [{**diagram, "format": fence_code_format}]}},
            {"toc": {"permalink": True, "slugify": slug}},
        ],
        "validation": {
            "nav": {"omitted_files": "warn", "not_found": "warn", "absolute_links": "warn"},
            "links": dict.fromkeys(("not_found", "anchors", "absolute_links", "unrecognized_links"), "warn"),
        },
    }


def make(sources: Path, site: Path) -> None:
    """Builds the site.

    Raises:
        Abort: a link leads nowhere, or a page is not in the table of pages.
    """
    shutil.rmtree(sources, ignore_errors=True)
    sources.mkdir(parents=True)
    write_sources(sources)
    config = MkDocsConfig()
    config.load_dict(settings(sources, site))
    errors, warnings = config.validate()
    assert not errors, errors
    assert not warnings, warnings
    config.plugins.on_startup(command="build", dirty=False)
    build(config)


if __name__ == "__main__":
    logging.basicConfig(format="%(levelname)s %(message)s", level=logging.WARNING)
    try:
        make(ROOT / "build" / "docs", ROOT / "build" / "site")
    except Abort as error:
        sys.exit(f"docs: {error}")
    print(f"docs: {ROOT / 'build' / 'site' / 'index.html'}")
