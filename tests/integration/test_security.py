"""A cluster with passwords, TLS and access rules: what works, what is said when it does not, and what is never said."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
import trustme
from celery import Celery, chord
from kombu.exceptions import OperationalError

import kafka_exec
from kafka_exec.broker import EmbeddedKafka
from kafka_exec.core.message.routing import Binding
from kafka_exec.errors import ConfigurationError, Forbidden
from kafka_exec.settings.appconf import broker_home
from kafka_exec.transport.namespace import Namespace
from kafka_exec.transport.revoked import Revoked
from tests.integration.app import make_app
from tests.integration.workers import PATIENCE, Crew, Worker, crew, until

Rule = tuple[str, str, str]

#: Every character that a URL could get wrong; no output may hold it, plain or quoted.
PASSWORD = "hunter2/@:s3cret"

#: How long an app waits for a connection, seconds.
CONF = {"broker_connection_timeout": 3}

#: How soon delay() must say what is wrong, seconds.
SOON = 15.0

#: All that workers and publishers need, on names that begin with the topic prefix and a dot. Deleting and purging
#: queues needs DELETE on topics (and groups) too.
NEEDED: list[Rule] = [
    ("create", "topic", "."),
    ("write", "topic", "."),
    ("read", "topic", "."),
    ("describe_configs", "topic", "."),
    ("read", "group", "."),
]


#: A line of ``celery kafka acls``, and its operations as the embedded Kafka names them.
ACL = re.compile(r"--operation (\w+) --resource-pattern-type prefixed --(\S+) (\S+)")
OPERATIONS = {
    "DescribeConfigs": "describe_configs",
    **{each: each.lower() for each in ("Create", "Read", "Write", "Delete", "Alter")},
}

#: What doctor says to a user who has these but the one on groups.
LACKING = {"READ on groups": "wrong", "WRITE on transactional ids": "wrong", "DELETE on topics": "warning"}


@pytest.fixture(scope="module")
def secured() -> Iterator[EmbeddedKafka]:
    with EmbeddedKafka(security="sasl") as kafka:
        yield kafka


@pytest.fixture
def ssl(secured: EmbeddedKafka) -> dict[str, str]:
    return {"ca_certs": str(secured.ca_file)}


@pytest.fixture
def user(prefix: str) -> str:
    return f"user-{prefix}"


@pytest.fixture
def made(secured: EmbeddedKafka, user: str, prefix: str, ssl: dict[str, str], tmp_path: Path) -> Iterator[Crew]:
    """A crew of the user."""
    with crew(secured, tmp_path, url=url_of(secured, user, prefix), broker_use_ssl=ssl, **CONF) as found:
        yield found


def url_of(kafka: EmbeddedKafka, user: str, prefix: str, password: str = PASSWORD) -> str:
    return f"kafka-execs://{user}:{quote(password, safe='')}@127.0.0.1:{kafka.port}/{prefix}"


def grant(kafka: EmbeddedKafka, user: str, prefix: str, rules: list[Rule]) -> None:
    kafka.add_user(user, PASSWORD)
    for operation, resource, name in rules:
        kafka.allow(user, operation, resource, prefix + name, prefix=True)


def without(*operations: str, resource: str = "topic") -> list[Rule]:
    return [rule for rule in NEEDED if not (rule[0] in operations and rule[1] == resource)]


def refusal(app: Celery, **options: str) -> str:
    """The error that publishing raises, within a short time."""
    began = time.monotonic()
    with pytest.raises(OperationalError) as caught:
        app.tasks["work"].apply_async(**options)
    took = time.monotonic() - began
    print(f"after {took:.1f} s: {caught.value}")
    assert took < SOON
    return str(caught.value)


def assert_secret(*outputs: str) -> None:
    for output in outputs:
        assert PASSWORD not in output
        assert quote(PASSWORD, safe="") not in output
        assert "s3cret" not in output


def test_right_credentials_and_the_least_rights_run_tasks(secured: EmbeddedKafka, user: str, made: Crew) -> None:
    grant(secured, user, made.prefix, NEEDED)
    worker = made.start("trusted", "-c", "2", "-l", "DEBUG")
    worker.wait_for_line(" ready.")
    app = made.app
    app.conf.update(result_backend="rpc://", kafka_exec_publish_timeout=5)
    made.effects.wait_for(made.send("work", number=10))
    assert until(lambda: app.control.ping(timeout=2)) == [{"trusted@test": {"ok": "pong"}}]
    worker.stop()
    print("\n".join(worker.lines("WARNING") + worker.lines("ERROR")))
    assert worker.lines("refuses access") == []
    assert "authorization failed" not in worker.output
    assert_secret(worker.output)


def test_doctor_tells_each_right_that_lacks(secured: EmbeddedKafka, user: str, made: Crew) -> None:
    grant(secured, user, made.prefix, [rule for rule in NEEDED if rule != ("read", "group", ".")])
    done = made.run("kafka", "doctor", "--json")
    assert done.returncode == 3, done.stderr
    assert_secret(done.stdout)
    found = [json.loads(line) for line in done.stdout.splitlines()]
    lacks = {each["text"].partition(":")[0]: each for each in found if "lacks" in each["text"]}
    what = {f"this user lacks {right} that begin with {made.prefix}.": severity for right, severity in LACKING.items()}
    assert {text: each["severity"] for text, each in lacks.items()} == what
    assert all(f" {made.prefix}." in each["command"] for each in lacks.values())


def test_the_rights_that_acls_prints_suffice_for_each_role(
    secured: EmbeddedKafka, prefix: str, ssl: dict[str, str], tmp_path: Path
) -> None:
    def url(role: str) -> str:
        return url_of(secured, f"{role}-{prefix}", prefix)

    more: dict[str, Any] = {**CONF, "broker_use_ssl": ssl, "kafka_exec_publish_timeout": 5}
    with crew(secured, tmp_path, url=url("worker"), backend="same", **more) as made:
        for role in ("worker", "publisher"):
            secured.add_user(f"{role}-{prefix}", PASSWORD)
            told = made.command("kafka", "acls", "--role", role, "--principal", f"User:{role}-{prefix}")
            for operation, resource, name in ACL.findall(told):
                secured.allow(f"{role}-{prefix}", OPERATIONS[operation], resource.replace("-", "_"), name, prefix=True)
        worker = made.start("trusted", "-c", "2", "-P", "threads")
        worker.wait_for_line(" ready.")
        app = make_app(url("publisher"), url("publisher"), **more)
        try:
            add, flow = app.tasks["add"], app.tasks["wait"].delay("approval")
            assert chord([add.s(n, n) for n in range(3)], app.tasks["total"].s()).delay().get(timeout=PATIENCE) == 6
            keyed = [add.apply_async((n, 1), ordering_key="k", countdown=2.5 * (n == 0)) for n in range(2)]
            assert [result.get(timeout=PATIENCE) for result in keyed] == [1, 2]
            assert kafka_exec.resume(app, "approval", "yes").outcome in ("kept", "continued")
            assert flow.get(timeout=PATIENCE) == "yes"
            assert app.control.ping(timeout=5, limit=1) == [{"trusted@test": {"ok": "pong"}}]
        finally:
            app.close()
        worker.stop()
        assert worker.lines("refuses access") == worker.lines("authorization failed") == []


def test_a_wrong_password(secured: EmbeddedKafka, user: str, prefix: str, ssl: dict[str, str], tmp_path: Path) -> None:
    grant(secured, user, prefix, NEEDED)
    url = url_of(secured, user, prefix, "wrong-s3cret")
    with crew(secured, tmp_path, url=url, broker_use_ssl=ssl, **CONF) as made:
        worker = made.start("stranger", "-c", "1")
        for _ in range(2):
            text = refusal(made.app)
            assert "Authentication failed" in text
            assert "check user name, password" in text
            assert_secret(text)
        worker.wait_for_line("refuses access")
        until(lambda: len(worker.lines("Cannot connect to")) >= 2, what="the worker tries again")
        line = one_line(worker, "refuses access")
        assert "Authentication failed" in line
        assert_secret(worker.output)
        assert worker.is_alive
        asked = made.run("kafka", "nodes")
    assert (asked.returncode, asked.stdout, len(asked.stderr.splitlines())) == (1, "", 1), asked.stderr
    assert "Authentication failed" in asked.stderr
    assert_secret(asked.stderr)


def one_line(worker: Worker, text: str) -> str:
    """The one line of ours with a text; Celery's own of each try to connect are not counted."""
    found = [line for line in worker.lines(text) if "Cannot connect" not in line]
    assert len(found) == 1, worker.output
    return found[0]


def test_a_wrong_certificate_authority(secured: EmbeddedKafka, user: str, prefix: str, tmp_path: Path) -> None:
    grant(secured, user, prefix, NEEDED)
    other = tmp_path / "other.pem"
    trustme.CA().cert_pem.write_to_path(other)
    ssl = {"ca_certs": str(other)}
    with crew(secured, tmp_path, url=url_of(secured, user, prefix), broker_use_ssl=ssl, **CONF) as made:
        worker = made.start("misled", "-c", "1")
        text = refusal(made.app)
        assert "certificate verify failed" in text
        worker.wait_for_line("refuses access")
        until(lambda: len(worker.lines("Cannot connect to")) >= 2, what="the worker tries again")
        assert "certificate verify failed" in one_line(worker, "refuses access")
        assert_secret(worker.output, text)


def test_a_certificate_file_that_is_missing(secured: EmbeddedKafka, user: str, prefix: str) -> None:
    app = make_app(url_of(secured, user, prefix), broker_use_ssl={"ca_certs": "/nowhere/ca.pem"}, **CONF)
    with pytest.raises(ConfigurationError, match=r"cannot read /nowhere/ca.pem") as caught:
        app.tasks["work"].delay()
    assert_secret(str(caught.value))


@pytest.mark.parametrize(
    ("missing", "wording"),
    [
        (without("write"), "publishing to {p}."),
        ([*without("write"), ("write", "topic", ".bindings")], "publishing to {p}.queue.celery"),
        (without("create"), "creating topic {p}."),
    ],
    ids=["write", "write-this", "create"],
)
def test_a_publisher_without_a_right(
    secured: EmbeddedKafka, user: str, prefix: str, ssl: dict[str, str], missing: list[Rule], wording: str
) -> None:
    grant(secured, user, prefix, missing)
    app = make_app(url_of(secured, user, prefix), broker_use_ssl=ssl, kafka_exec_publish_timeout=3, **CONF)
    for _ in range(2):
        text = refusal(app)
        assert wording.format(p=prefix) in text
        assert "uthorization failed" in text
        assert_secret(text)


def test_who_sends_keys_must_be_allowed_to_read_over_how_many_partitions_they_are_spread(
    secured: EmbeddedKafka, user: str, prefix: str, ssl: dict[str, str]
) -> None:
    grant(secured, user, prefix, without("read"))
    app = make_app(url_of(secured, user, prefix), broker_use_ssl=ssl, kafka_exec_publish_timeout=3, **CONF)
    app.tasks["work"].delay()
    text = refusal(app, ordering_key="k")
    assert f"{prefix}.bindings" in text
    assert "uthorization failed" in text


@pytest.mark.parametrize(
    ("missing", "wording"),
    [
        (without("read", resource="group"), "consuming {p}.queue.celery"),
        (without("create"), "creating topic {p}."),
        (without("write"), "{p}."),
        (without("read"), "{p}."),
    ],
    ids=["group-read", "create", "write", "read"],
)
def test_a_worker_without_a_right(
    secured: EmbeddedKafka, user: str, made: Crew, missing: list[Rule], wording: str
) -> None:
    grant(secured, user, made.prefix, missing)
    worker = made.start("limited", "-c", "1")
    worker.wait_for_line("uthorization failed")
    time.sleep(3)  # in which an endless repetition would show
    lines = [line for line in worker.lines("uthorization failed") if wording.format(p=made.prefix) in line]
    print("\n".join(lines))
    assert 1 <= len(lines) <= 8, worker.output  # one for each topic that a worker reads
    assert_secret(worker.output)


def test_a_worker_works_once_it_gets_the_right(secured: EmbeddedKafka, user: str, made: Crew) -> None:
    grant(secured, user, made.prefix, without("read", resource="group"))
    worker = made.start("patient", "-c", "1")
    worker.wait_for_line("uthorization failed")
    [task] = made.send("work")
    secured.allow(user, "read", "group", f"{made.prefix}.", prefix=True)
    made.effects.wait_for([task])
    assert worker.is_alive


def home(secured: EmbeddedKafka, user: str, prefix: str, ssl: dict[str, str]) -> Namespace:
    return broker_home(make_app(url_of(secured, user, prefix), broker_use_ssl=ssl))


def test_a_table_that_may_not_be_read_keeps_no_other_one_from_being_loaded(
    secured: EmbeddedKafka, user: str, prefix: str, ssl: dict[str, str]
) -> None:
    grant(secured, user, prefix, [*without("read"), ("read", "topic", ".revoked")])
    space = home(secured, user, prefix, ssl)
    space.bindings.bind(Binding("q", "news", ""))
    with pytest.raises(Forbidden, match=rf"{prefix}.bindings"):
        space.bindings.all()
    revoked = Revoked(space)
    revoked.load()
    revoked.add(["a-task"])
    assert "a-task" in revoked
    secured.allow(user, "read", "topic", f"{prefix}.", prefix=True)
    assert until(lambda: bindings_if_allowed(space), SOON) == [Binding("q", "news", "")]


def bindings_if_allowed(space: Namespace) -> list[Binding]:
    """All bindings; none while the right to read them has not come to the broker."""
    try:
        return space.bindings.all()
    except Forbidden:
        return []


def test_a_topic_that_may_not_be_made_keeps_no_other_one_from_being_made(
    secured: EmbeddedKafka, user: str, prefix: str, ssl: dict[str, str]
) -> None:
    allowed = [("create", "topic", name) for name in (".bindings", ".nodes", ".revoked", ".queue", ".exchange.amq")]
    grant(secured, user, prefix, [*without("create"), *allowed])
    space = home(secured, user, prefix, ssl)
    space.make_worker_topics(["q"], ["", "news"])
    space.exchange_log("")
    Revoked(space).load()
    with pytest.raises(Forbidden, match=rf"creating topic {prefix}.exchange.news"):
        space.exchange_log("news")


def test_nothing_shows_the_password(
    secured: EmbeddedKafka, user: str, prefix: str, ssl: dict[str, str], tmp_path: Path
) -> None:
    grant(secured, user, prefix, NEEDED)
    conf: dict[str, Any] = {
        **CONF,
        "broker_use_ssl": ssl,
        "broker_transport_options": {"kafka": {"sasl.password": PASSWORD, "ssl.key.password": PASSWORD}},
    }
    with crew(secured, tmp_path, url=url_of(secured, user, prefix), **conf) as made:
        app = made.app
        app.tasks["work"].delay()
        with app.connection_for_write() as connection:
            inner = connection.connection
            channel = connection.default_channel
            shown = [repr(each) for each in (connection, inner, channel, inner.space, inner.space.cluster, app)]
            # `celery inspect stats` shows the latter but for its password.
            shown += [connection.as_uri(), str({**app.connection_for_read().info(), "password": None})]
            shown += [str(inner.space.cluster.publisher), str(vars(inner.space.cluster.health))]
        shown += [app.bugreport(), app.conf.humanize(with_defaults=False)]
        for arguments in (["report"], ["inspect", "conf", "--timeout", "1"], ["list", "bindings"]):
            done = made.run(*arguments)
            shown += [done.stdout, done.stderr]
    assert_secret(*shown)
