"""Tests of applications that start brokers of their own: with our fixtures, and in the containers of pytest-celery."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.integration.pytest_projects import TIMEOUT, WITH_CONTAINERS, names_in, passed, run

pytestmark = pytest.mark.timeout(TIMEOUT)


def test_without_a_url_each_process_has_a_broker_of_its_own(tmp_path: Path) -> None:
    output = run("fixtures", tmp_path, "-n", "2", "test_brokers.py")
    brokers = re.findall(r"^the broker of (gw\d) is (\S+)$", output, re.M)
    assert {process for process, _ in brokers} == {"gw0", "gw1"}
    assert len({url for _, url in brokers}) == 2


def test_the_example_of_pytest_celery(tmp_path: Path) -> None:
    output = run("containers", tmp_path, "-n", "2", pythonpath=WITH_CONTAINERS)
    assert passed(output) == names_in("containers/test_shop_in_containers.py")
