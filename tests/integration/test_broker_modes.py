"""The embedded broker as three nodes, secured, and as the command `celery kafka broker`."""

from __future__ import annotations

import os
import re
import signal
import socket
import stat
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
import trustme
from confluent_kafka import Consumer, KafkaError, Producer
from confluent_kafka.admin import AdminClient, NewTopic

from kafka_exec.broker import BrokerError, EmbeddedKafka

COMMAND = [sys.executable, "-m", "celery", "kafka", "broker"]
START_TIMEOUT = 120


def create_topic(admin: AdminClient, name: str, replication: int = 1) -> None:
    for future in admin.create_topics([NewTopic(name, 3, replication)]).values():
        future.result(30)


def produce(config: dict[str, str], topic: str, count: int = 1) -> list[Any]:
    """The error of each record, None where it was acknowledged."""
    errors: list[Any] = []
    producer = Producer({**config, "acks": "all", "log_level": 0, "message.timeout.ms": 30_000})
    for number in range(count):
        producer.produce(topic, b"%d" % number, on_delivery=lambda error, message: errors.append(error))
    assert producer.flush(40) == 0
    return errors


def first_error(config: dict[str, str], *codes: int) -> KafkaError:
    """The first error with one of these codes that a client reports while it connects."""
    found: list[KafkaError] = []
    seen = threading.Event()

    def note(error: KafkaError) -> None:
        if error.code() in codes:
            found.append(error)
            seen.set()

    client = AdminClient({**config, "log_level": 0, "error_cb": note})
    for _ in range(60):
        if client.poll(0.5) and seen.is_set():
            return found[0]
    raise AssertionError(f"no error of {codes}")


@pytest.mark.slow
def test_three_nodes_go_on_without_any_one_of_them() -> None:
    with EmbeddedKafka(nodes=3) as kafka:
        assert kafka.url == f"kafka-exec://127.0.0.1,127.0.0.2,127.0.0.3:{kafka.port}"
        create_topic(kafka.admin(), "replicated", replication=3)
        for victim in (0, 1):
            kafka.kill(victim)
            assert produce(kafka.client_config(), "replicated", 30) == [None] * 30
            kafka.start(victim)
        assert set(kafka.admin().list_topics(timeout=30).brokers) == {0, 1, 2}
        assert produce(kafka.client_config(), "replicated", 30) == [None] * 30


@pytest.fixture(scope="module")
def secured() -> Iterator[EmbeddedKafka]:
    with EmbeddedKafka(security="sasl") as kafka:
        kafka.add_user("ann", "right")
        create_topic(kafka.admin(), "open")
        create_topic(kafka.admin(), "closed")
        kafka.allow("ann", "write", "topic", "op", prefix=True)
        yield kafka


@pytest.mark.parametrize("mechanism", ["SCRAM-SHA-512", "SCRAM-SHA-256"])
def test_the_right_password_may_do_what_is_allowed(secured: EmbeddedKafka, mechanism: str) -> None:
    assert secured.url.startswith("kafka-execs://")
    assert produce(secured.client_config("ann", "right", mechanism), "open") == [None]


def test_a_wrong_password_is_refused(secured: EmbeddedKafka) -> None:
    error = first_error(secured.client_config("ann", "wrong"), KafkaError._AUTHENTICATION)
    assert "invalid credentials" in error.str()


def test_a_wrong_authority_is_refused(secured: EmbeddedKafka, tmp_path: Path) -> None:
    other = tmp_path / "other.pem"
    trustme.CA().cert_pem.write_to_path(other)
    config = {**secured.client_config("ann", "right"), "ssl.ca.location": str(other)}
    assert "certificate verify failed" in first_error(config, KafkaError._SSL).str()


def test_what_is_not_allowed_is_refused(secured: EmbeddedKafka) -> None:
    config = secured.client_config("ann", "right")
    [error] = produce(config, "closed")
    assert error.code() == KafkaError.TOPIC_AUTHORIZATION_FAILED
    consumer = Consumer({**config, "group.id": "any", "log_level": 0})
    consumer.subscribe(["open"])
    try:
        message = consumer.poll(30)
        assert message.error().code() == KafkaError.GROUP_AUTHORIZATION_FAILED
    finally:
        consumer.close()


def test_a_later_password_replaces_the_earlier(secured: EmbeddedKafka) -> None:
    secured.add_user("bob", "early")
    secured.add_user("bob", "late")
    secured.allow("bob", "write", name="open")
    assert produce(secured.client_config("bob", "late"), "open") == [None]
    assert first_error(secured.client_config("bob", "early"), KafkaError._AUTHENTICATION)


def test_files_with_keys_are_their_owners_alone(secured: EmbeddedKafka) -> None:
    folder = secured.ca_file.parent
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    for name in ("server.pem", "internal.pem"):
        assert stat.S_IMODE((folder / name).stat().st_mode) == 0o600


def test_an_unsecured_broker_has_no_users(kafka: EmbeddedKafka) -> None:
    with pytest.raises(BrokerError, match="not secured"):
        kafka.add_user("ann", "right")


def started_command(*arguments: str) -> tuple[subprocess.Popen[str], list[str]]:
    """The running command and the lines it wrote, up to the one that tells how to stop it."""
    process = subprocess.Popen([*COMMAND, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout
    lines: list[str] = []
    for line in process.stdout:
        lines.append(line.rstrip())
        if line.startswith("Stop it"):
            return process, lines
    raise AssertionError(process.communicate()[1])


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_the_command_runs_until_it_is_told_to_end(tmp_path: Path, number: signal.Signals) -> None:
    port = free_port()
    process, lines = started_command("--port", str(port), "--data", str(tmp_path))
    with process:
        assert f"Broker URL: kafka-exec://127.0.0.1:{port}" in lines
        assert AdminClient({"bootstrap.servers": f"127.0.0.1:{port}"}).list_topics(timeout=30).brokers
        children = psutil.Process(process.pid).children(recursive=True)
        process.send_signal(number)
        _, errors = process.communicate(timeout=60)
    assert (process.returncode, errors) == (0, "")
    assert not any(child.is_running() for child in children)
    assert (tmp_path / "node-0" / "data" / ".kafka_cleanshutdown").exists()
    assert "shut down completed" in (tmp_path / "node-0" / "broker.log").read_text()


def test_the_command_can_be_ended_while_it_starts(tmp_path: Path) -> None:
    process = subprocess.Popen(
        [*COMMAND, "--port", str(free_port()), "--data", str(tmp_path)], stdout=subprocess.PIPE, text=True
    )
    with process:
        assert process.stdout
        assert any(line.startswith("Starting Kafka") for line in process.stdout)
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0


def test_the_secured_command_hides_the_password(tmp_path: Path) -> None:
    port = free_port()
    process, lines = started_command("--port", str(port), "--data", str(tmp_path), "--secure")
    with process:
        text = "\n".join(lines)
        found = re.search(r"User: (\S+), password in (\S+)\nCertificate to trust: (\S+)", text)
        assert found
        user, path, authority = found.groups()
        assert stat.S_IMODE(os.stat(path).st_mode) == 0o600
        password = Path(path).read_text()
        assert password not in text
        config = {
            "bootstrap.servers": f"127.0.0.1:{port}",
            "security.protocol": "SASL_SSL",
            "sasl.mechanism": "SCRAM-SHA-512",
            "sasl.username": user,
            "sasl.password": password,
            "ssl.ca.location": authority,
        }
        create_topic(AdminClient(config), "demo")
        assert produce(config, "demo") == [None]
        process.terminate()
        assert process.wait(60) == 0


def test_the_command_says_why_it_cannot_start() -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        ended = subprocess.run([*COMMAND, "--port", str(port)], capture_output=True, text=True, timeout=START_TIMEOUT)
        assert ended.returncode == 1
        [line] = ended.stderr.splitlines()
        assert line.startswith(f"Error: port {port} of 127.0.0.1 cannot be used (in use)")
        verbose = subprocess.run(
            [*COMMAND, "--port", str(port), "--verbose"], capture_output=True, text=True, timeout=START_TIMEOUT
        )
        assert "Traceback" in verbose.stderr


def test_a_terminals_ctrl_c_reaches_the_command_only(tmp_path: Path) -> None:
    process, _ = started_command("--port", str(free_port()), "--data", str(tmp_path))
    with process:
        groups = {os.getpgid(child.pid) for child in psutil.Process(process.pid).children(recursive=True)}
        assert os.getpgid(process.pid) not in groups
        process.terminate()
        assert process.wait(60) == 0
