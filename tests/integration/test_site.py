"""The documentation as a site: all pages, each in the navigation, and no link that leads nowhere."""

from __future__ import annotations

import logging
import re
from pathlib import Path

import pytest
from mkdocs.exceptions import Abort

from tests import site
from tests.snippets import PAGES, ROOT, links


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    site.make(folder / "pages", folder / "site")
    return folder / "site"


def test_each_page_is_there_and_can_be_reached(built: Path) -> None:
    pages = [page for page in PAGES if page.name not in site.LEFT_OUT]
    home = (built / "index.html").read_text(encoding="utf-8")
    for page in pages:
        name = Path(site.place(page)).with_suffix(".html").name
        assert (built / name).is_file(), page
        assert f'href="{name}' in home, f"README does not lead to {page}"


def test_what_the_pages_name_of_the_repository_is_there(built: Path) -> None:
    named = {(page.parent / target.partition("#")[0]).resolve() for page in PAGES for target in links(page.read_text())}
    others = [path for path in named if path.is_file() and path.suffix != ".md"]
    assert ROOT / "docker" / "compose.yaml" in others
    for path in others:
        assert (built / site.place(path)).read_bytes() == path.read_bytes()


def test_it_has_both_themes_and_asks_no_other_site_for_fonts(built: Path) -> None:
    home = (built / "index.html").read_text(encoding="utf-8")
    assert set(re.findall(r'data-md-color-scheme="(\w+)"', home)) == {"default", "slate"}
    assert re.findall(r'<(?:link|script|img)[^>]+(?:href|src)="(https?:[^"]+)"', home) == []


@pytest.mark.parametrize("text", ["[there](nowhere.md)", "[there](delays.md#nowhere)"], ids=["page", "heading"])
def test_a_link_that_leads_nowhere_is_an_error(
    text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(site, "navigation", lambda: [{"Home": "index.md"}, {"Delays": "delays.md"}])

    def write(folder: Path) -> None:
        (folder / "index.md").write_text(f"# Home\n\n{text}\n")
        (folder / "delays.md").write_text("# Delays\n")

    monkeypatch.setattr(site, "write_sources", write)
    with caplog.at_level(logging.WARNING, "mkdocs"), pytest.raises(Abort):
        site.make(tmp_path / "pages", tmp_path / "site")
    assert "nowhere" in caplog.text


def test_links_are_those_of_the_site_and_code_is_left_as_it_is() -> None:
    text = "[a](../README.md#features) `[b](c)` [d](https://example.org) ![e](how-it-works.svg) [f](../dev)\n"
    fenced = "```\n[g](h)\n```\n"
    assert site.moved(text + fenced, site.DOCS / "delays.md", site.place) == (
        "[a](index.md#features) `[b](c)` [d](https://example.org) ![e](how-it-works.svg) [f](source/dev)\n" + fenced
    )
