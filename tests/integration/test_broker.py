"""The embedded broker with one node: its life, and every way in which it says that it cannot start."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest
from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import NewTopic

from kafka_exec.broker import (
    BrokerNotRunning,
    BrokerStartFailed,
    DataInUse,
    DataMismatch,
    EmbeddedKafka,
    FolderNotWritable,
    PortUnavailable,
    RegistryUnreachable,
)
from kafka_exec.broker.install import distribution

PARENT = """
import json, os, sys
from kafka_exec.broker import EmbeddedKafka
kafka = EmbeddedKafka()
kafka.start()
print(json.dumps({"java": kafka.pid(), "folder": str(kafka.data_dir)}), flush=True)
sys.stdin.read()
"""


def create_topic(kafka: EmbeddedKafka, name: str) -> None:
    admin = kafka.admin()
    for future in admin.create_topics([NewTopic(name, 1)]).values():
        future.result(15)


def produce(kafka: EmbeddedKafka, topic: str, values: list[bytes]) -> list[int]:
    """The offsets of the records, each acknowledged."""
    offsets: list[int] = []

    def delivered(error: object, message: object) -> None:
        assert error is None
        offsets.append(message.offset())  # type: ignore[attr-defined]

    producer = Producer({"bootstrap.servers": kafka.bootstrap_servers, "acks": "all"})
    for value in values:
        producer.produce(topic, value, on_delivery=delivered)
    assert producer.flush(30) == 0
    return offsets


def consume(kafka: EmbeddedKafka, topic: str, count: int) -> list[bytes]:
    consumer = Consumer({"bootstrap.servers": kafka.bootstrap_servers, "group.id": topic})
    consumer.assign([TopicPartition(topic, 0, 0)])
    try:
        return [message.value() for message in consumer.consume(count, 30)]
    finally:
        consumer.close()


def test_answers_until_it_is_stopped(kafka: EmbeddedKafka, prefix: str) -> None:
    create_topic(kafka, prefix)
    assert produce(kafka, prefix, [b"one", b"two"]) == [0, 1]
    assert consume(kafka, prefix, 2) == [b"one", b"two"]
    assert kafka.url == f"kafka-exec://127.0.0.1:{kafka.port}"


def test_a_topic_nobody_created_is_not_made(kafka: EmbeddedKafka, prefix: str) -> None:
    assert kafka.admin().list_topics(prefix, timeout=15).topics[prefix].error is not None
    assert prefix not in kafka.admin().list_topics(timeout=15).topics


def test_records_survive_a_kill_and_a_clean_stop(tmp_path: Path) -> None:
    with EmbeddedKafka(tmp_path) as kafka:
        create_topic(kafka, "kept")
        produce(kafka, "kept", [b"before the kill"])
        java, port = psutil.Process(kafka.pid()), kafka.port
        kafka.kill()
        assert not java.is_running()
        assert not kafka.running()
        kafka.start()
        assert kafka.port == port
        produce(kafka, "kept", [b"before the stop"])
        kafka.stop()
        assert not kafka.running()
    with EmbeddedKafka(tmp_path) as kafka:
        assert consume(kafka, "kept", 2) == [b"before the kill", b"before the stop"]


def test_pause_holds_and_resume_goes_on(tmp_path: Path) -> None:
    with EmbeddedKafka(tmp_path) as kafka:
        kafka.pause()
        assert psutil.Process(kafka.pid()).status() == psutil.STATUS_STOPPED
        kafka.resume()
        assert psutil.Process(kafka.pid()).status() != psutil.STATUS_STOPPED
        kafka.pause()
        kafka.stop()  # a paused process ends too
        assert not kafka.running()


def test_a_temporary_folder_goes_with_the_broker() -> None:
    with EmbeddedKafka() as kafka:
        folder = kafka.data_dir
        assert folder.is_dir()
    assert not folder.exists()
    with pytest.raises(BrokerNotRunning):
        kafka.pid()


def test_two_at_once_do_not_meet() -> None:
    def life(number: int) -> tuple[int, list[bytes]]:
        with EmbeddedKafka() as kafka:
            create_topic(kafka, "same-name")
            produce(kafka, "same-name", [b"%d" % number])
            return kafka.port, consume(kafka, "same-name", 1)

    with ThreadPoolExecutor(2) as pool:
        (first_port, first), (second_port, second) = pool.map(life, (1, 2))
    assert first_port != second_port
    assert (first, second) == ([b"1"], [b"2"])


def test_it_outlives_the_thread_that_started_it() -> None:
    kafka = EmbeddedKafka()
    starter = threading.Thread(target=kafka.start)
    starter.start()
    starter.join()
    try:
        assert kafka.admin().list_topics(timeout=15).brokers
        assert kafka.running()
    finally:
        kafka.close()


@pytest.mark.parametrize("victim", ["program", "guard"])
def test_java_does_not_outlive_the_program(victim: str) -> None:
    program = subprocess.Popen([sys.executable, "-c", PARENT], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    with program:
        assert program.stdout
        told = json.loads(program.stdout.readline())
        java = psutil.Process(told["java"])
        guard = java.parent()
        assert guard is not None
        os.kill(program.pid if victim == "program" else guard.pid, signal.SIGKILL)
        assert psutil.wait_procs([java], timeout=15)[1] == []
        if victim == "program":
            psutil.wait_procs([guard], timeout=15)
        else:
            program.communicate(timeout=30)
    assert not Path(told["folder"]).exists()


def test_taken_port() -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with pytest.raises(PortUnavailable, match=f"port {port} of 127.0.0.1 .*in use.*choose another"):
            EmbeddedKafka(port=port).start()


def test_folder_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(FolderNotWritable, match="make it writable or choose another"):
        EmbeddedKafka(tmp_path / "file" / "data").start()


def test_data_in_use_or_of_another_shape(tmp_path: Path) -> None:
    with EmbeddedKafka(tmp_path) as kafka:
        with pytest.raises(DataInUse, match=r"stop it or choose another folder"):
            EmbeddedKafka(tmp_path).start()
        assert kafka.admin().list_topics(timeout=15).brokers
    with pytest.raises(DataMismatch, match=r"1 node"):
        EmbeddedKafka(tmp_path, nodes=3).start()


def test_a_broker_that_dies_at_the_start_shows_its_last_words(tmp_path: Path) -> None:
    with pytest.raises(BrokerStartFailed, match=r"(?s)ended while it was starting.*heap") as caught:
        EmbeddedKafka(tmp_path, heap=1).start()
    assert "look at the end of its log" in str(caught.value).splitlines()[0]


def test_registry_out_of_reach(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://somebody:secret@127.0.0.1:9")
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(RegistryUnreachable, match="check this machine's network") as caught:
        EmbeddedKafka().start()
    assert "secret" not in str(caught.value)
    assert "127.0.0.1" not in str(caught.value)


def test_an_interrupted_download_begins_anew_and_is_done_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    downloads: list[bool] = []

    def download(scratch: Path, on_progress: distribution.Progress) -> Path:
        downloads.append((scratch / "jars" / "half").exists())
        (scratch / "jars").mkdir(parents=True, exist_ok=True)
        if len(downloads) == 1:
            (scratch / "jars" / "half").touch()
            raise KeyboardInterrupt
        return scratch / "jars"

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(distribution, "_download", download)
    with pytest.raises(KeyboardInterrupt):
        distribution.libraries(lambda *step: None)
    with ThreadPoolExecutor(4) as pool:
        folders = set(pool.map(lambda _: distribution.libraries(lambda *step: None), range(4)))
    assert len(folders) == 1
    assert folders.pop().is_dir()
    assert downloads == [False, True]
