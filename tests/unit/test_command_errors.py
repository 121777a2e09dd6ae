"""Errors of `celery kafka …`: one line on stderr and the right status, whatever the command and whatever the error."""

from __future__ import annotations

import json
import logging
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import pytest
from celery import _state
from celery.bin.celery import celery
from celery.exceptions import ImproperlyConfigured
from click.testing import CliRunner, Result
from hypothesis import given
from hypothesis import strategies as st
from kombu.exceptions import OperationalError

from kafka_exec import errors
from kafka_exec.cli import kafka
from kafka_exec.cli.common import Guarded


def caused(error: Exception, cause: Exception) -> Exception:
    error.__cause__ = cause
    return error


def at_a_question() -> None:
    """As Click does when the user presses Ctrl-C at a question."""
    try:
        raise KeyboardInterrupt
    except KeyboardInterrupt:
        raise click.Abort from None


#: An error, its status, and what its line says.
KINDS: dict[str, tuple[BaseException, int, str]] = {
    "our setting": (errors.ConfigurationError("kafka_exec_x must be y"), 1, "kafka_exec_x must be y"),
    "Celery's setting": (ImproperlyConfigured("no such\n\nsetting"), 1, "no such setting"),
    "cluster away": (errors.ConnectionFailed("nobody answers"), 69, "nobody answers"),
    "cluster away, by Kombu": (caused(OperationalError("away"), errors.ConnectionFailed("away")), 69, "away"),
    "another transport's broker away": (OperationalError("redis is away"), 69, "redis is away"),
    "not confirmed": (errors.NotConfirmed("not in time"), 69, "not in time"),
    "access refused": (errors.AccessRefused("wrong password"), 1, "wrong password"),
    "access refused, by Kombu": (caused(OperationalError("no"), errors.AccessRefused("no")), 1, "no"),
    "forbidden": (errors.Forbidden("no right"), 1, "no right"),
    "no queue": (errors.NoSuchQueue("no queue q"), 1, "no queue q"),
    "wrong usage": (click.UsageError("choose one"), 2, "choose one"),
    "nothing found": (click.ClickException("nothing is known"), 1, "nothing is known"),
    "a file": (FileNotFoundError(2, "No such file", "secrets"), 1, "No such file"),
    "a module": (ModuleNotFoundError("No module named 'shop'"), 1, "No module named 'shop'"),
    "a fault of ours": (KeyError("x"), 1, "KeyError: 'x' (--verbose shows where)"),
    "an error without a text": (RuntimeError(), 1, "RuntimeError"),
}


def walk(group: click.Group, *names: str) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    """All commands of a group that do something, with the words that name them."""
    for name, command in sorted(group.commands.items()):
        if isinstance(command, click.Group):
            yield from walk(command, *names, name)
        else:
            yield (*names, name), command


COMMANDS = dict(walk(kafka))

#: What a command wants beside its arguments.
MORE = {
    ("dead", "replay"): ["--all"],
    ("revoke",): ["--name", "x"],
    ("plan",): ["--rate", "1/s", "--run", "1s"],
    ("replay",): ["--from", "1h", "--to-queue", "y"],
}

#: Those that need no application.
ALONE = {("broker",)}


@pytest.fixture(autouse=True)
def _all_as_before() -> Iterator[None]:
    """A command is a process of its own: in this one the log, the current app and the modules are for other tests too."""
    logger, modules = logging.getLogger("kafka_exec"), set(sys.modules)
    level, current = logger.level, _state._tls.current_app
    yield
    logger.setLevel(level)
    _state._set_current_app(current)
    for name in [name for name in sys.modules.keys() - modules if name.startswith("app_")]:
        del sys.modules[name]


def run(group: click.Group, *words: str) -> Result:
    return CliRunner().invoke(group, [*words], prog_name="celery")


def assert_one_line(result: Result, status: int, text: str) -> None:
    told = f"{result.stdout!r} {result.stderr!r}"
    assert result.exit_code == status, told
    assert result.stdout == "", told
    assert result.stderr.splitlines(keepends=True) == [result.stderr.rstrip("\n") + "\n"], told
    assert text in result.stderr, told


def raising(monkeypatch: pytest.MonkeyPatch, command: click.Command, act: Any) -> None:
    """Has a command do nothing but that, whatever its arguments."""
    monkeypatch.setattr(command, "callback", act)
    monkeypatch.setattr(command, "params", [each for each in command.params if each.name == "verbose"])


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_every_error_of_every_command_is_one_line(words: tuple[str, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    for error, status, text in KINDS.values():

        def fail(error: BaseException = error, **given: Any) -> None:
            raise error

        raising(monkeypatch, COMMANDS[words], fail)
        assert_one_line(run(kafka, *words), status, text)


@pytest.mark.parametrize(
    ("words", "kind"), [*((words, "a fault of ours") for words in COMMANDS), *((("nodes",), kind) for kind in KINDS)]
)
def test_verbose_shows_where_wherever_it_stands(
    words: tuple[str, ...], kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    error, status, _ = KINDS[kind]

    def fail(**given: Any) -> None:
        raise error

    raising(monkeypatch, COMMANDS[words], fail)
    for detailed in (run(kafka, *words, "--verbose"), run(kafka, "--verbose", *words)):
        assert detailed.exit_code == status
        assert "Traceback" in detailed.stderr


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_every_command_can_be_interrupted(words: tuple[str, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(**given: Any) -> None:
        raise KeyboardInterrupt

    for act in (interrupt, at_a_question):
        raising(monkeypatch, COMMANDS[words], act)
        assert_one_line(run(kafka, *words), 130, "Interrupted")


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_a_wrong_usage_of_every_command_is_one_line_that_says_where_help_is(words: tuple[str, ...]) -> None:
    assert_one_line(run(kafka, *words, "--nosuch"), 2, f"(see celery {' '.join(words)} --help)")
    assert_one_line(run(kafka, *words, "-A", "shop"), 2, "celery -A … kafka")


@pytest.mark.parametrize(
    ("options", "text"),
    [
        (("--from", "1h", "--to-queue", "x"), "--in-place allows it"),
        (("--to-queue", "y"), "--from"),
        (("--from", "1h"), "--to-queue"),
        (("--from", "soon", "--to-queue", "y"), "'soon' is no age"),
        (("--from", "1h", "--to-queue", "y", "--where", "result == 1"), "result"),
        (("--from", "1h", "--to-queue", "y", "--rate", "fast"), "'fast' is no rate"),
    ],
)
def test_a_replay_is_told_what_and_where_to(options: tuple[str, ...], text: str) -> None:
    assert_one_line(run(kafka, "replay", "x", *options), 2, text)


def test_a_command_that_is_added_later_is_guarded_too() -> None:
    @click.group(cls=Guarded)
    def late() -> None: ...

    @click.group()
    def nested() -> None: ...

    @nested.command()
    def fail() -> None:
        raise ValueError("later")

    late.add_command(nested)
    assert_one_line(run(late, "nested", "fail"), 1, "ValueError: later")
    assert "Traceback" in run(late, "nested", "fail", "--verbose").stderr


@given(st.text())
def test_a_text_of_whatever_characters_is_one_line(text: str) -> None:
    @click.group(cls=Guarded)
    def group() -> None: ...

    @group.command()
    def fail() -> None:
        raise errors.KafkaExecError(text)

    assert_one_line(run(group, "fail"), 1, "")


def test_help_and_versions_are_no_errors() -> None:
    for words in ((), ("dead",), ("schedule",)):
        assert "Commands:" in run(kafka, *words).output
    for command in COMMANDS:
        shown = run(kafka, *command, "--help")
        assert (shown.exit_code, "--verbose" in shown.output) == (0, True)
    shown = run(kafka, "--version")
    assert shown.exit_code == 0
    assert {pair.partition(":")[0] for pair in shown.output.split()} >= {"kafka_exec", "celery", "kombu", "librdkafka"}


def test_the_former_name_of_keys_still_works_and_is_not_listed() -> None:
    listed = [line.split()[0] for line in run(kafka, "--help").output.partition("Commands:")[2].splitlines() if line]
    assert "keys" in listed
    assert "groups" not in listed
    shown, former = run(kafka, "keys", "--help"), run(kafka, "groups", "--help")
    assert (shown.exit_code, former.exit_code) == (0, 0)
    assert former.output == shown.output.replace("celery keys", "celery groups")


# -- applications ------------------------------------------------------------------------------------------------------

#: A module with an application, and what is said of it.
APPS = {
    "raises": ("raise RuntimeError('the settings\\nare missing')", "RuntimeError: the settings are missing"),
    "imports": ("import nosuch_library", "No module named 'nosuch_library'"),
    "broken": ("def", "SyntaxError"),
    "no application": ("app = 42", "not a Celery application"),
    "another broker": ("app = Celery(broker='redis://')", "has no kafka-exec:// broker"),
    "a wrong setting": (
        "app = Celery(broker='kafka-exec://', backend='kafka-exec://'); app.conf.kafka_exec_heartbeat = 'soon'",
        "kafka_exec_heartbeat must be a number of seconds",
    ),
    "an unknown setting": (
        "app = Celery(broker='kafka-exec://', backend='kafka-exec://'); app.conf.kafka_exec_hartbeat = 1",
        "did you mean kafka_exec_heartbeat?",
    ),
    "no configuration": ("app = Celery(); app.config_from_object('nosuch_settings')", "nosuch_settings"),
}


def words_of(words: tuple[str, ...]) -> list[str]:
    """A command with something for each of its arguments."""
    wanted = [param for param in COMMANDS[words].params if isinstance(param, click.Argument) and param.required]
    return [*words, *("0:0" if param.name == "address" else "x" for param in wanted), *MORE.get(words, [])]


@pytest.mark.parametrize("kind", APPS)
def test_an_application_of_no_use_is_told_in_one_line(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, text = APPS[kind]
    name = f"app_{kind.replace(' ', '_')}"
    (tmp_path / f"{name}.py").write_text(f"from celery import Celery\nimport kafka_exec\n{source}\n")
    monkeypatch.syspath_prepend(tmp_path)
    for words in COMMANDS.keys() - ALONE:
        sys.modules.pop(name, None)
        told = run(celery, "-A", f"{name}:app" if "app =" in source else name, "kafka", *words_of(words))
        if kind == "another broker" and words in (
            ("show",),
            ("remark",),
            ("executions",),
            ("control-plane",),
            ("resume",),
            ("revoke",),
            ("run",),
            ("retry",),
            ("history",),
            ("suspended",),
        ):
            text = "has no kafka-exec:// result backend"
        else:
            text = APPS[kind][1]
        assert_one_line(told, 1, text)


@pytest.fixture
def app_away(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The name of an application whose cluster is not there."""
    (tmp_path / "app_away.py").write_text(
        "from celery import Celery\nimport kafka_exec\n"
        "app = Celery(broker='kafka-exec://127.0.0.1:1/shop', backend='kafka-exec://127.0.0.1:1/shop')\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    return "app_away"


def test_a_cluster_that_is_away_is_one_line(app_away: str) -> None:
    for words in (("nodes",), ("show",)):  # one that asks the broker, one that asks for results
        assert_one_line(run(celery, "-A", app_away, "kafka", *words_of(words)), 69, "127.0.0.1:1")


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ((), "name a queue to measure, or give --rate and --run"),
        (("--rate", "1/s"), "--run"),
        (("--rate", "1/s", "--run", "1s", "--from", "2h"), "--from needs a queue"),
        (("--rate", "1/s", "--run", "soon"), "'soon' is no duration"),
        (("mail", "--size", "2"), "'2' is no size"),
    ],
)
def test_a_plan_is_told_of_what(options: tuple[str, ...], text: str, app_away: str) -> None:
    assert_one_line(run(celery, "-A", app_away, "kafka", "plan", *options), 2, text)


def test_a_plan_of_given_figures_connects_to_nothing(app_away: str) -> None:
    words = ("kafka", "plan", "--rate", "2/s", "--run", "1s", "--keys")
    told = run(celery, "-A", app_away, *words, "2", "--json")
    assert (told.exit_code, json.loads(told.stdout)["figures"]["running"]["value"]) == (0, 2)
    told = run(celery, "-A", app_away, *words, "1")
    assert (told.exit_code, "not possible: 1 ordering keys" in told.stdout) == (3, True)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("nosuch_shop", "No module named 'nosuch_shop'"),
        ("os:nosuch", "module 'os' has no attribute 'nosuch'"),
        ("os.nosuch", "No module named 'os.nosuch'"),
    ],
)
def test_an_application_that_is_not_there_is_named(name: str, text: str) -> None:
    for words in COMMANDS.keys() - ALONE:
        assert_one_line(run(celery, "-A", name, "kafka", *words_of(words)), 1, text)
    assert "Traceback" in run(celery, "-A", name, "kafka", "nodes", "--verbose").stderr


def test_what_needs_no_application_does_without() -> None:
    assert run(celery, "-A", "nosuch_shop", "kafka", "--version").exit_code == 0
    assert run(celery, "-A", "nosuch_shop", "kafka", "claims", "--table").stdout.startswith("# The claim")


def test_celerys_other_commands_tell_of_an_application_as_ever() -> None:
    told = run(celery, "-A", "nosuch_shop", "report")
    assert told.exit_code == 2
    assert "Unable to load celery application" in told.stderr


@pytest.mark.parametrize(
    ("backend", "text"),
    [
        ("django-db", "the results are in django-db, not in Kafka"),
        ("redis://:hunter2@127.0.0.1:1/0", "the results are in redis, not in Kafka"),
        ("cache+memory://", "the results are in cache+memory, not in Kafka"),
        ("disabled", "the application has no kafka-exec:// result backend"),
    ],
)
def test_results_that_are_elsewhere_are_told_of(
    backend: str, text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = f"app_of_{''.join(filter(str.isalpha, backend))}"
    (tmp_path / f"{name}.py").write_text(
        f"from celery import Celery\napp = Celery(broker='redis://', backend={backend!r})"
    )
    monkeypatch.syspath_prepend(tmp_path)
    for words in (("show",), ("remark",), ("executions",)):
        told = run(celery, "-A", name, "kafka", *words_of(words))
        assert_one_line(told, 1, text)
        assert "hunter2" not in told.stderr


def test_an_api_that_cannot_listen_as_it_is_told_to_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "app_served.py").write_text(
        "from celery import Celery\napp = Celery(broker='kafka-exec://127.0.0.1:1')"
    )
    monkeypatch.syspath_prepend(tmp_path)
    api = ("-A", "app_served", "kafka", "api")
    open_to_all = run(celery, *api, "--host", "0.0.0.0")
    assert_one_line(open_to_all, 1, "0.0.0.0 is not of this machine alone: set kafka_exec_api_tokens to listen there")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        told = run(celery, *api, "--port", str(port)).stderr.splitlines()
    assert told[1:] == [f"Error: cannot listen on 127.0.0.1, port {port}: Address already in use"]


def test_who_waits_for_a_broker_that_says_nothing_can_interrupt() -> None:
    with socket.create_server(("127.0.0.1", 0)) as mute:
        url = f"kafka-exec://127.0.0.1:{mute.getsockname()[1]}/shop"
        waiting = subprocess.Popen(
            [sys.executable, "-m", "celery", "-b", url, "kafka", "nodes"],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            # Whoever runs the tests in the background has it ignored, which children inherit.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
        )
        mute.settimeout(60)
        connected, _ = mute.accept()
        with connected:
            waiting.send_signal(signal.SIGINT)
            told = waiting.communicate(timeout=60)
    assert (waiting.returncode, *told) == (130, "", "Interrupted\n")


def test_the_group_is_there_whichever_is_imported_first() -> None:
    code = "from kafka_exec.cli import kafka; from celery.bin.celery import celery; print(celery.commands['kafka'] is kafka)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.stdout == "True\n", done.stderr
