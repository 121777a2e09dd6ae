"""The client of Redis: what is wrong is said to who must act, nothing shows a password, and nobody waits twice."""

from __future__ import annotations

import logging
import socket
import sys
import threading
import time
import traceback
from collections.abc import Iterator

import pytest

from kafka_exec.backend.cache.link import REST, Link, Silent
from kafka_exec.errors import ConfigurationError
from kafka_exec.kafka.client import native

SECRET = "correct-horse"


def link(url: str, timeout: float = 0.2) -> Link:
    return Link(url, "testing", timeout)


@pytest.fixture
def mute() -> Iterator[str]:
    """The URL of a server that accepts connections and never answers."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        yield f"redis://:{SECRET}@127.0.0.1:{listener.getsockname()[1]}"


@pytest.mark.parametrize(
    "url",
    [
        f"http://:{SECRET}@h",
        f"redis://:{SECRET}/x@h:6379",
        f"redis://:{SECRET}@h:port/0",
        f"redis://:{SECRET}@h/0?colour=blue",
        f"redis://:{SECRET}@h/0?socket_timeout=soon",
    ],
)
def test_a_wrong_url_is_refused_and_not_shown(url: str) -> None:
    with pytest.raises(ConfigurationError, match=r"kafka_exec_cache_url is no URL .* must correct it") as caught:
        link(url)
    assert SECRET not in "".join(traceback.format_exception(caught.value))


def test_a_missing_package_is_said_to_who_deploys(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "redis", None)
    with pytest.raises(ConfigurationError, match=r"needs the package redis: whoever deploys .* 'kafka_exec\[redis\]'"):
        link("redis://h")


@pytest.mark.parametrize(
    ("url", "where"),
    [
        (f"redis://ann:{SECRET}@h1:7000/3", "h1:7000"),
        (f"rediss://:{SECRET}@h2", "h2:6379"),
        (f"unix://:{SECRET}@/run/redis.sock", "/run/redis.sock"),
        (f"redis://h3?password={SECRET}", "h3:6379"),
    ],
)
def test_a_link_shows_where_and_not_the_password(url: str, where: str) -> None:
    assert repr(link(url)) == f"<Link {where}>"


def test_a_silent_redis_costs_its_timeout_once_in_a_while(mute: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    made = link(mute)

    def asked() -> float:
        began = time.monotonic()
        with pytest.raises(Silent):
            made.ask(lambda redis: redis.get("key"))
        return time.monotonic() - began

    assert 0.2 <= asked() < REST
    assert max(asked() for _ in range(100)) < 0.1
    deadline = time.monotonic() + 30
    while not caplog.messages and time.monotonic() < deadline:
        asked()
    (line,) = caplog.messages
    assert line.startswith("Redis (testing) at 127.0.0.1:")
    assert "does not answer" in line
    assert SECRET not in line


def test_a_host_that_cannot_be_one_is_an_outage() -> None:
    with pytest.raises(Silent):
        link(f"redis://{'x' * 70}.invalid").ask(lambda redis: redis.get("key"))


def test_a_native_thread_under_a_green_scheduler_asks_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    made, asked = link("redis://127.0.0.1:1"), []

    def ask() -> None:
        try:
            made.ask(asked.append)
        except Silent:
            done.set()

    monkeypatch.setattr(native, "is_green", lambda: True)
    done = threading.Event()
    native.Thread(ask, "asking")
    assert done.wait(10)
    assert asked == []
    made.ask(asked.append)
    assert len(asked) == 1
