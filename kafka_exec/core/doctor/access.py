"""Findings about what this user may do, from trials on a topic of their own, and about this machine's clock."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from enum import Enum

from kafka_exec.core.nodes.clock import is_wrong
from kafka_exec.core.overview.problems import Problem, Severity


class Trial(Enum):
    """An operation that is tried; the value is the right that it takes."""

    CREATE = "CREATE on topics"
    DESCRIBE = "DESCRIBE_CONFIGS on topics"
    WRITE = "WRITE on topics"
    READ = "READ on topics"
    COMMIT = "READ on groups"
    TRANSACT = "WRITE on transactional ids"
    DELETE = "DELETE on topics"


#: Without these rights all goes on: topics can be made beforehand, and old records stay.
_DISPENSABLE = (Trial.CREATE, Trial.DESCRIBE, Trial.DELETE)


def of_access(results: Mapping[Trial, str | None], prefix: str) -> Iterator[Problem]:
    """The findings about the rights of this user.

    Args:
        results: the error of each operation that was tried; None: it has succeeded.
    """
    for trial, error in results.items():
        if error is not None:
            severity = Severity.WARNING if trial in _DISPENSABLE else Severity.WRONG
            yield Problem(
                severity, f"this user lacks {trial.value} that begin with {prefix}.: {error}", acl(trial, prefix)
            )
    if missing := [trial.value for trial in Trial if trial not in results]:
        yield Problem(Severity.WARNING, f"not tried, since no topic could be made: {', '.join(missing)}", "")
    elif not any(results.values()):
        yield Problem(Severity.OK, "this user may do all that publishers, workers and beats do", "")


def acl(trial: Trial, prefix: str) -> str:
    """The command that gives a right to a user."""
    operation, _, kind = trial.value.partition(" on ")
    resource = {"topics": "topic", "groups": "group", "transactional ids": "transactional-id"}[kind]
    return (
        f"kafka-acls --add --allow-principal User:NAME --operation {operation} --resource-pattern-type prefixed "
        f"--{resource} {prefix}."
    )


def of_clock(sent: float, stamped: float, confirmed: float) -> Iterator[Problem]:
    """The finding about this machine's clock.

    Args:
        sent: when a record was sent, by this machine's clock, epoch seconds.
        stamped: the time that Kafka has given to it.
        confirmed: when Kafka's confirmation came, by this machine's clock.
    """
    ahead = sent - stamped if stamped < sent else min(0.0, confirmed - stamped)
    if is_wrong(ahead):
        where = "ahead of" if ahead > 0 else "behind"
        text = (
            f"the clock of this machine is {abs(ahead):.1f} s {where} that of Kafka, by which tasks with a time begin"
        )
        yield Problem(Severity.WARNING, text, "timedatectl")
    else:
        yield Problem(Severity.OK, "the clock of this machine agrees with that of Kafka", "")


def of_brokers(brokers: Sequence[str]) -> Iterator[Problem]:
    """The finding about the brokers that answer, each ``host:port``."""
    yield Problem(Severity.OK, f"{len(brokers)} broker{'s' * (len(brokers) > 1)}: {', '.join(brokers)}", "")
