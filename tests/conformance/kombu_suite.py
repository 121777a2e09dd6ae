"""Kombu's integration tests with our connections, subclassed as its own ``t/integration/test_py_amqp.py`` does.

Not named ``test_*``: the default test run must not collect it. ``./dev conformance kombu`` does.
"""

from __future__ import annotations

import uuid

import kombu
import pytest
from t.integration import common

from tests.conformance.kombu_run import BROKER, SCHEME


@pytest.fixture
def base_url(request: pytest.FixtureRequest) -> str:
    """The broker's URL without a path."""
    return request.config.stash[BROKER]


@pytest.fixture
def url(base_url: str) -> str:
    """The broker, with a topic prefix of its own for each test."""
    return f"{base_url}/c{uuid.uuid4().hex[:12]}" if base_url.startswith(SCHEME) else base_url


@pytest.fixture
def nowhere(base_url: str) -> str:
    """A URL of the same scheme where nothing listens."""
    return f"{base_url.partition('://')[0]}://localhost:12345"


@pytest.fixture
def connection(url: str) -> kombu.Connection:
    return kombu.Connection(url)


@pytest.fixture
def failover_connection(url: str, nowhere: str) -> kombu.Connection:
    return kombu.Connection(f"{nowhere};{url}")


@pytest.fixture
def invalid_connection(nowhere: str) -> kombu.Connection:
    return kombu.Connection(nowhere)


class TestBasicFunctionality(common.BasicFunctionality):
    pass


class TestBaseExchangeTypes(common.BaseExchangeTypes):
    pass


class TestBaseTimeToLive(common.BaseTimeToLive):
    pass


class TestBasePriority(common.BasePriority):
    pass


class TestBaseMessage(common.BaseMessage):
    pass


class TestBaseEventLoop(common.BaseEventLoop):
    pass


class TestBaseFailover(common.BaseFailover):
    pass
