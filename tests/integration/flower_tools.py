"""Flower as a process, a visitor of its pages, and what stands on them."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from urllib.parse import urljoin

import requests

from tests.integration.workers import APP, PATIENCE, ROOT, WITH_FLOWER, Crew, environment, until


class FlowerProcess:
    """A Flower that was started. ``log``: the file with what it says."""

    def __init__(self, process: subprocess.Popen[bytes], log: Path) -> None:
        self.process = process
        self.log = log

    @property
    def address(self) -> str:
        """The address on which it serves, as soon as it does."""

        def found() -> str:
            assert self.process.poll() is None, self.log.read_text()
            told = re.search(r"Visit me at (\S+)", self.log.read_text())
            return "" if told is None else told[1]

        return str(until(found, what="Flower's address"))


@contextmanager
def flower(made: Crew, *options: str, **env: str) -> Iterator[FlowerProcess]:
    """Flower beside the block. ``env``: more variables of its environment."""
    log = made.folder / f"flower{len(list(made.folder.glob('flower*')))}.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "celery", "-A", APP, "flower", "--port=0", "--address=127.0.0.1", *options],
            cwd=ROOT,
            env=environment(made.url, made.folder, PYTHONPATH=WITH_FLOWER, **made.env, **env),
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    try:
        yield FlowerProcess(process, log)
    finally:
        process.kill()
        process.wait()


class Page(HTMLParser):
    """The parts of a page.

    Attributes:
        rows: the texts of the cells of each row of its tables.
        forms: each with the row in which it is (-1: in none), its address, the label of its button, and its fields.
        links: the addresses of its links, by their texts.
        alerts: the texts that tell something, such as an error.
    """

    def __init__(self, text: str) -> None:
        super().__init__()
        self.rows: list[list[str]] = []
        self.forms: list[dict[str, Any]] = []
        self.links: dict[str, str] = {}
        self.alerts: list[str] = []
        self._open: list[tuple[str, dict[str, str], list[str]]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attributes}
        if tag == "tr":
            self.rows.append([])
        elif tag == "form":
            in_row = any(each[0] == "td" for each in self._open)
            self.forms.append(
                {"row": len(self.rows) - 1 if in_row else -1, "action": given.get("action", ""), "fields": {}}
            )
        elif tag == "input" and self.forms and "name" in given and given.get("type") != "checkbox":
            self.forms[-1]["fields"][given["name"]] = given.get("value", "")
        if tag in ("td", "a", "p", "button", "textarea"):
            self._open.append((tag, given, []))

    def handle_data(self, data: str) -> None:
        for _, _, texts in self._open:
            texts.append(data)

    def handle_endtag(self, tag: str) -> None:
        if not self._open or self._open[-1][0] != tag:
            return
        _, given, texts = self._open.pop()
        text = " ".join("".join(texts).split())
        if tag == "td" and "data-title" in given:
            self.rows[-1].append(text)
        elif tag == "a":
            self.links[text] = given.get("href", "")
        elif tag == "p" and "alert" in given.get("class", ""):
            self.alerts.append(text)
        elif tag == "button" and self.forms:
            self.forms[-1]["label"] = text
        elif tag == "textarea" and self.forms:
            self.forms[-1]["fields"][given["name"]] = "".join(texts)


class Visitor:
    """A browser of Flower's pages. ``user``: its name and password."""

    def __init__(self, address: str, user: tuple[str, str] | None = None) -> None:
        self.address = address.rstrip("/")
        self.session = requests.Session()
        self.session.auth = user

    def ask(self, path: str, method: str = "GET", **more: Any) -> requests.Response:
        """Sends a request. ``more``: for :func:`requests.request`."""
        return self.session.request(method, self.address + path, timeout=PATIENCE, **more)

    def page(self, path: str, status: int = 200) -> Page:
        """A page, which must have this status."""
        answer = self.ask(path)
        assert answer.status_code == status, answer.text
        return Page(answer.text)

    def act(self, path: str, label: str, cell: str | None = None, status: int = 200, **filled: str) -> Page:
        """Fills the form with a label and sends it; the page that comes of it.

        Args:
            cell: the form is in the row with such a cell; None: it is in no row.
        """
        page = self.page(path)
        (form,) = (
            each
            for each in page.forms
            if each.get("label") == label and (each["row"] < 0 if cell is None else cell in page.rows[each["row"]])
        )
        address = urljoin(self.address + path, form["action"])
        answer = self.session.post(address, data={**form["fields"], **filled}, timeout=PATIENCE)
        assert answer.status_code == status, answer.text
        return Page(answer.text)
