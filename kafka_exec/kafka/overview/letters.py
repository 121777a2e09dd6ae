"""Reading the dead letters of all queues, to find those of single tasks."""

from __future__ import annotations

from kafka_exec.core.cluster.names import Topics
from kafka_exec.core.overview.why import Buried
from kafka_exec.kafka.cluster.cluster import Cluster
from kafka_exec.kafka.overview.reading import Layout
from kafka_exec.kafka.overview.unfinished import MOST
from kafka_exec.kafka.queue.dead import DeadLetters, queues_with_letters


def buried(cluster: Cluster, topics: Topics, layout: Layout) -> tuple[dict[str, Buried], bool]:
    """The latest dead letter of each task that was not replayed, by task id; and True if there are more than were read.

    Raises:
        ConnectionFailed: the cluster does not answer.
    """
    found: dict[str, Buried] = {}
    is_cut = False
    for queue in queues_with_letters(topics, layout.counts):
        letters, more = DeadLetters(cluster, topics, queue).latest(MOST)
        is_cut |= more
        for letter in letters:
            before = found.get(letter.id)
            if not letter.replayed and (before is None or before.letter.at <= letter.at):
                found[letter.id] = Buried(queue, letter)
    return found, is_cut
