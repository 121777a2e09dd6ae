"""Reading the tasks that wait for callbacks, from the changelog of the control plane."""

from __future__ import annotations

from kafka_exec.core.cluster.names import Topics
from kafka_exec.core.control.waiting import Suspension, WaitingReducer
from kafka_exec.errors import Undecodable
from kafka_exec.kafka.cluster.cluster import Cluster
from kafka_exec.kafka.overview.reading import Layout, everything

#: The name of the reducer of suspensions before the keys of the control plane's changelog.
_WAITS = "wait:"


def suspensions(cluster: Cluster, topics: Topics, layout: Layout) -> list[Suspension]:
    """The tasks that are suspended now, in no order.

    Raises:
        ConnectionFailed: the cluster does not answer.
    """
    reducers: dict[int, WaitingReducer] = {}
    for record in everything(cluster, layout, topics.control_state):
        key = (record.key() or b"").decode(errors="replace")
        if key.startswith(_WAITS):
            reducer = reducers.setdefault(record.partition(), WaitingReducer(early=0.0, remembered=0.0))
            try:
                reducer.restore(key.removeprefix(_WAITS), record.value())
            except Undecodable:
                continue  # the process that drives the partition says so
    return [each for reducer in reducers.values() for each in reducer.suspensions()]
