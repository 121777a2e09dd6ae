"""`celery amqp`, Celery's shell for a person at the broker: every command of it."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

from kafka_exec.broker import EmbeddedKafka
from tests.integration.workers import APP, PATIENCE, ROOT, crew, environment

#: Lines for the shell, and what it answers to each beside OK: in the order in which they come.
SESSION = [
    ("exchange.declare news topic False True False", ""),
    ("queue.declare headlines False True False", "queue:headlines messages:0 consumers:0"),
    ("queue.bind headlines news news.#", ""),
    ("basic.publish hello news news.one", ""),
    ("basic.publish 'two words' '' headlines", ""),
    ("queue.declare headlines True", "queue:headlines messages:2 consumers:0"),
    ("basic.get headlines", "'body': b'"),
    ("basic.ack 1", ""),
    ("basic.get headlines True", "'body': b'"),
    ("basic.get headlines", "No messages in queue"),
    ("basic.publish again '' headlines", ""),
    ("queue.purge headlines", "1 messages deleted."),
    ("queue.delete headlines", "0 messages deleted."),
    ("exchange.delete news False", ""),
]

#: Lines that are refused, and why.
REFUSED = [
    ("exchange.declare bad headers", "Kafka has no exchanges of type 'headers'"),
    ("queue.declare nosuch True", "declare the queue first"),
    ("basic.get nosuch", "declare it first"),
    ("basic.publish hello '' nosuch True", "no work queue takes messages"),
]


def test_every_command_of_the_shell_works_and_errors_leave_it_usable(kafka: EmbeddedKafka, tmp_path: Path) -> None:
    with crew(kafka, tmp_path) as made:
        lines = [*(line for line, _ in SESSION), *(line for line, _ in REFUSED), "exchange.declare last fanout"]
        shell = subprocess.run(
            [sys.executable, "-m", "celery", "-A", APP, "amqp", "repl"],
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            input="\n".join(lines) + "\n",
            env=environment(made.url, tmp_path),
        )
    answers = iter(shell.stdout.split("-> connected.\n", 1)[1].splitlines())
    for line, expected in SESSION:
        answer = "\n".join(iter(lambda: next(answers, "OK"), "OK"))
        assert expected in answer, f"{line}: {answer!r} {shell.stderr}"
    assert sorted(re.findall(r"'body': b'(.*)'", shell.stdout)) == ["hello", "two words"]
    assert "'delivery_tag': 1" in shell.stdout
    errors = shell.stderr.splitlines()
    assert len(errors) == len(REFUSED)
    for (_, reason), told in zip(REFUSED, errors, strict=True):
        assert told.startswith("ERROR: ")
        assert reason in told
    assert list(answers)[-1] == "OK", "after an error the shell goes on"
