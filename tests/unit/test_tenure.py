"""A member of a group must ask before it goes on after a pause: it never begins a task of another owner."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from kafka_exec.core.nodes.liveness import TrustWindow, membership

SESSION = 9.0


def joined(now: float) -> TrustWindow:
    window = membership(SESSION)
    window.open(now)
    return window


def test_who_looks_often_is_sure() -> None:
    tenure = joined(0.0)
    assert all(tenure.renew(now * 4.0) and tenure.is_open(now * 4.0 + 4.0) for now in range(20))


def test_who_was_stopped_is_not_sure_until_it_has_asked_however_often_it_looks() -> None:
    tenure = joined(0.0)
    assert not tenure.is_open(5.0)
    assert not any(tenure.renew(5.0 + now) for now in range(3))
    tenure.open(8.0)
    assert tenure.is_open(8.0)
    assert tenure.renew(12.0)


@given(
    st.lists(st.floats(0.01, 20.0), min_size=1, max_size=30),
    st.floats(0.0, SESSION / 3),
    st.sampled_from([True, False]),
)
def test_it_is_never_sure_when_its_partitions_may_be_anothers(
    pauses: list[float], since_sign: float, confirms: bool
) -> None:
    """The dumb twin: Kafka heard of it at most a third of a session before it looked."""
    tenure, now, heard, is_member = joined(0.0), 0.0, -since_sign, True
    for pause in pauses:
        now += pause
        if now - heard > SESSION:
            is_member = False
        assert is_member or not tenure.is_open(now)
        if not tenure.renew(now) and confirms and is_member:
            tenure.open(now)
        if is_member:
            heard = now - since_sign
