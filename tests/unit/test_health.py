"""One line when the cluster goes away and one when it is back."""

from __future__ import annotations

from kafka_exec.core.health import Health


def test_one_line_each_way() -> None:
    health = Health("h1:9092,h2:9092")
    assert health.answered(100.0) is None
    assert health.failed("refused", 101.0) == "Kafka at h1:9092,h2:9092 does not answer (refused); trying until it does"
    assert health.failed("refused", 102.0) is None
    assert health.failed("timed out", 103.0) is None
    assert health.answered(103.5) == "Kafka at h1:9092,h2:9092 answers again after 2.5 s"
    assert health.answered(104.0) is None
    assert health.failed("refused", 110.0) is not None
    assert health.answered(110.0) == "Kafka at h1:9092,h2:9092 answers again after 0.0 s"


def test_the_beginning_of_time_is_a_time() -> None:
    health = Health("h")
    assert health.failed("refused", 0.0)
    assert health.failed("refused", 1.0) is None
    assert health.answered(2.0)
