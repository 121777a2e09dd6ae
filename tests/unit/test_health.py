"""One line when the cluster goes away and one when it is back."""

from __future__ import annotations

from kafka_exec.core.cluster.health import Health


def test_one_line_each_way() -> None:
    health = Health("h1:9092,h2:9092")
    assert health.answered(100.0) is None
    assert health.failed("refused", 101.0) is None
    assert health.failed("refused", 102.0) == "Kafka at h1:9092,h2:9092 does not answer (refused); trying until it does"
    assert health.failed("timed out", 103.0) is None
    assert health.answered(103.5) == "Kafka at h1:9092,h2:9092 answers again after 2.5 s"
    assert health.answered(104.0) is None
    assert health.failed("refused", 110.0) is None
    assert health.failed("refused", 115.0) is not None
    assert health.answered(116.0) == "Kafka at h1:9092,h2:9092 answers again after 6.0 s"


def test_a_connection_closed_and_opened_again_is_no_news() -> None:
    health = Health("h")
    for now in (1.0, 2.0, 3.0):
        assert health.failed("closed", now) is None
        assert health.answered(now + 0.9) is None


def test_the_beginning_of_time_is_a_time() -> None:
    health = Health("h")
    assert health.failed("refused", 0.0) is None
    assert health.failed("refused", 1.0)
    assert health.answered(2.0)


def test_another_server_is_told_by_its_name() -> None:
    health = Health("h:6379", name="Redis")
    assert health.failed("refused", 0.0) is None
    assert health.failed("refused", 1.0) == "Redis at h:6379 does not answer (refused); trying until it does"
    assert health.answered(2.0) == "Redis at h:6379 answers again after 2.0 s"
