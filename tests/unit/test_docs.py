"""The documentation names only things that exist: links, commands, options, settings, names and tests."""

from __future__ import annotations

import ast
import importlib
import importlib.util
import re
import runpy
import xml.etree.ElementTree as xml
from dataclasses import fields
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

import click
import pytest

from kafka_exec.cli import kafka
from kafka_exec.core.cluster.settings import PREFIX, Settings
from kafka_exec.core.overview.metrics import PREFIX as METRIC
from kafka_exec.core.overview.metrics import gauges
from kafka_exec.core.overview.why import Reason
from kafka_exec.core.results.counters import METRICS as TASK_METRICS
from kafka_exec.kafka.nodes.metrics_port import METRICS as PROCESS_METRICS
from tests.snippets import PAGES, README, ROOT, anchors, links, programs, section, spans

#: What the page for newcomers may have: lines, and characters of a line.
MOST_LINES, LONGEST_LINE = 200, 165

COMMAND = re.compile(r"celery (?:-A \S+ )?kafka((?: [a-z][a-z-]*)+)(.*)")
FUNCTION = re.compile(r"^def (\w+)", re.MULTILINE)
DEV = re.compile(r"\./dev ([a-z-]+)(.*)")
OPTION = re.compile(r"(?<!\S)--[a-z][a-z-]*")

#: A setting, and a name of the package: not a topic, a client's id or a part of either.
SETTING = re.compile(rf"\b{PREFIX}[a-z][a-z_]*")
NAME = re.compile(r"\bkafka_exec(?:\.[A-Za-z_]\w*)+")

pages = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())


def text_of(page: Path) -> str:
    return page.read_text(encoding="utf-8")


def command_of(words: list[str]) -> click.Command:
    """The command of ``celery kafka`` that these words begin with."""
    found: click.Command = kafka
    for word in words:
        if not isinstance(found, click.Group):
            break  # an argument
        assert word in found.commands, f"celery kafka {' '.join(words)}: {found.name} has no command {word}"
        found = found.commands[word]
    assert not isinstance(found, click.Group) or found.invoke_without_command or words[-1] == found.name
    return found


def options_of(command: click.Command) -> set[str]:
    return {option for each in command.params for option in each.opts}


def dev_commands() -> set[str]:
    return set(runpy.run_path(str(ROOT / "dev"))["COMMANDS"])


@cache
def names_of_tests(folder: Path) -> set[str]:
    """The names by which ``pytest -k`` may choose: of files and of the tests in them."""
    found = set()
    for path in folder.rglob("test_*.py"):
        found.add(path.stem)
        found.update(FUNCTION.findall(text_of(path)))
    return found


def test_the_page_for_newcomers_is_short() -> None:
    lines = text_of(README).splitlines()
    assert len(lines) <= MOST_LINES
    assert [line for line in lines if len(line) > LONGEST_LINE] == []


def test_the_first_commands_stand_near_the_top() -> None:
    top = text_of(README).partition("\n## ")[0]
    assert "./dev demo" in top
    assert "./dev test" in top
    assert "celery -A shop worker" in section(text_of(README), "Your first task")


@pages
def test_links_and_anchors_exist(page: Path) -> None:
    for target in links(text_of(page)):
        name, _, anchor = target.partition("#")
        path = (page.parent / name).resolve() if name else page
        assert path.is_file(), f"{target} does not exist"
        assert not anchor or anchor in anchors(text_of(path)), f"{name or page.name} has no heading {anchor}"


@pages
def test_snippets_compile(page: Path) -> None:
    for number, program in enumerate(programs(text_of(page))):
        compile(program, f"{page.name}, program {number}", "exec")


@pages
def test_commands_and_their_options_exist(page: Path) -> None:
    for code in spans(text_of(page)):
        if (found := COMMAND.search(code)) is not None:
            command = command_of(found[1].split())
            assert set(OPTION.findall(found[2])) <= options_of(command), code


@pytest.mark.parametrize("page", [ROOT / "docs" / "cli.md"], ids=lambda page: page.name)
def test_the_page_of_commands_has_all_of_them_with_right_options(page: Path) -> None:
    told: set[str] = set()
    for row in (line for line in text_of(page).splitlines() if line.startswith("| `celery kafka")):
        named = [command_of(found[1].split()) for code in spans(row) if (found := COMMAND.search(code))]
        told |= {id(command) for command in named} & {id(command) for command in leaves(kafka)}
        options = {option for code in spans(row) for option in OPTION.findall(code)}
        assert options <= set().union(*map(options_of, named)), row
    assert [command.name for command in leaves(kafka) if id(command) not in told] == []


def leaves(group: click.Group) -> list[click.Command]:
    """All commands that do something."""
    found = []
    for command in group.commands.values():
        if not isinstance(command, click.Group) or command.invoke_without_command:
            found.append(command)
        if isinstance(command, click.Group):
            found += leaves(command)
    return found


@pages
def test_settings_and_metrics_exist(page: Path) -> None:
    known = {PREFIX + field.name for field in fields(Settings)}
    known |= {
        METRIC + name
        for name in (
            "up",
            "build_info",
            *TASK_METRICS,
            *PROCESS_METRICS,
            *(gauge.name for gauge in gauges((), (), {}, 0.0)),
        )
    }
    # A setting that is refused, by a row of the table of migrations, need not exist.
    told = [line for line in text_of(page).splitlines() if "| refused |" not in line]
    assert set(SETTING.findall("\n".join(told))) <= known


def test_the_page_of_troubles_names_reasons_that_commands_tell() -> None:
    told = section(text_of(ROOT / "docs" / "troubleshooting.md"), "A task does not run")
    named = re.findall(r"^\| `([^`]+)` \|", told, re.MULTILINE)
    assert len(named) > 5
    assert set(named) <= {reason.value for reason in Reason}


@pages
def test_development_commands_exist(page: Path) -> None:
    for code in spans(text_of(page)):
        if (found := DEV.search(code)) is None:
            continue
        assert found[1] in dev_commands(), code
        for chosen in re.findall(r"-k (\w+)", found[2]):
            folder = ROOT / "tests" / ("chaos" if found[1] == "chaos" else "")
            assert any(chosen in name for name in names_of_tests(folder)), f"no test is named {chosen}"
        for path in re.findall(r"tests/\S+\.py", found[2]):
            assert (ROOT / path).is_file(), code


#: The modules that programs import from, beside the package itself.
PUBLIC = ("api", "beat", "broker", "errors", "executors", "health", "signals", "testing", "tracing")


@pages
def test_names_are_public(page: Path) -> None:
    """Those of the package, and of its public modules: what is below may move."""
    for name in NAME.findall(text_of(page)):
        found: Any = importlib.import_module("kafka_exec")
        for depth, part in enumerate(name.split(".")[1:], start=1):
            if hasattr(found, "__path__") and importlib.util.find_spec(f"{found.__name__}.{part}"):
                found = importlib.import_module(f"{found.__name__}.{part}")
                assert depth == 1, f"{name} is an inner module"
                assert part in PUBLIC, f"{name} is an inner module"
            else:
                assert hasattr(found, part), f"there is no {name}"
                found = getattr(found, part)


@pages
def test_imports_of_snippets_are_public(page: Path) -> None:
    for program in programs(text_of(page)):
        for node in ast.walk(ast.parse(program)):
            if isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] == "kafka_exec":
                module: ModuleType = importlib.import_module(node.module or "")
                assert module.__name__ in ("kafka_exec", *(f"kafka_exec.{each}" for each in PUBLIC))
                assert [each.name for each in node.names if each.name not in module.__all__] == []


@pytest.mark.parametrize("picture", sorted((ROOT / "docs").glob("*.svg")), ids=lambda path: path.name)
def test_a_picture_is_valid_and_said_in_words(picture: Path) -> None:
    root = xml.parse(picture).getroot()
    said = {element.tag.rpartition("}")[2]: element.text for element in root}
    assert said["title"]
    assert said["desc"]
    assert "prefers-color-scheme: dark" in text_of(picture)


def test_what_does_not_exist_is_found(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(
        "# A page\n\n[one](none.md) [two](#nowhere) `celery kafka remark-all` `./dev nothing`\n\n```\n"
        "celery -A shop kafka dead list --sorted\n```\n\n`kafka_exec_bufer` `kafka_exec.core.cluster.names`\n\n"
        "```python\nfrom kafka_exec import nothing\nthis is no code\n```\n",
        encoding="utf-8",
    )
    for check in (
        test_links_and_anchors_exist,
        test_commands_and_their_options_exist,
        test_settings_and_metrics_exist,
        test_development_commands_exist,
        test_names_are_public,
    ):
        with pytest.raises(AssertionError):
            check(page)
    with pytest.raises(SyntaxError):
        test_snippets_compile(page)
