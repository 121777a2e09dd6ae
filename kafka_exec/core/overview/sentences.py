"""The sentences that tell an operator why a task does not run: one for each reason."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from kafka_exec.core.overview.why import Answer, Reason

#: Makes a text of a time, epoch seconds.
Say = Callable[[float], str]

Facts = Mapping[str, Any]

#: The longest error in a sentence, characters.
_LONGEST = 200

_DAY = 86400


def sentence(answer: Answer, say: Say) -> str:
    """The sentence of an answer. ``say``: makes a text of a time."""
    return f"{answer.id} {_clause(answer, say)}"


def _clause(answer: Answer, say: Say) -> str:
    """The sentence without its subject."""
    if answer.reason is Reason.BEHIND:
        return _behind(answer, say)
    return _CLAUSES[answer.reason](answer.facts, say)


def _behind(answer: Answer, say: Say) -> str:
    facts, head = answer.facts, answer.head
    ahead, key = facts["ahead"], facts["key"]
    begin = f"is behind {ahead} {'task' if ahead == 1 else 'tasks'} of key {key}"
    if facts.get("stopped"):
        who = "one of them" if head is None else head.id
        then = f"celery kafka keys unblock {key} lets it go on"
        return f"{begin}, which the failure of {who} has stopped{_error(facts)}: {then}"
    if head is None:
        return f"{begin}, the first of which was not read"
    return f"{begin}; the first, {head.id}, {_clause(head, say)}"


def _unknown(facts: Facts, say: Say) -> str:
    states = "it has no state" if facts["results"] else "states of tasks are not kept in Kafka here"
    return (
        f"is unknown under the prefix {facts['prefix']}: no message of it is in {facts['queues']} queues, among those that "
        f"wait for their time, or in the dead letters of the last {facts['kept'] / _DAY:g} days, and {states}{_cut(facts)}"
    )


def _not_found(facts: Facts, say: Say) -> str:
    return f"has the state {facts['state']}, and its message was not found{_cut(facts)}"


def _cut(facts: Facts) -> str:
    return f" (of some topics only {facts['most']} messages were read)" if facts["is_cut"] else ""


def _waits_for_time(facts: Facts, say: Say) -> str:
    what = "waits for its retry" if facts.get("is_retry") else "waits for its time"
    level = facts.get("level")
    where = "" if level is None else f", on level {level} of the delays"
    return f"{what}, {say(facts['due'])}{where}, and goes to queue {facts['queue']} then"


def _paused(facts: Facts, say: Say) -> str:
    queue, key, until, why = facts["queue"], facts["key"], facts["until"], facts["why"]
    what = f"queue {queue}, which" if key is None else f"queue {queue}, whose key {key}"
    end = "" if until is None else f" until {say(until)}"
    option = "" if key is None else f" --key {key}"
    return (
        f"waits in {what} is paused by {facts['by']} since {say(facts['since'])}{end}{f' ({why})' if why else ''}: "
        f"celery kafka queues resume {queue}{option} lets it go on"
    )


def _nobody_knows(facts: Facts, say: Say) -> str:
    node = facts.get("node")
    who = "" if node is None else f"; {node} knew it, last heard {say(facts['heard'])}"
    return f"waits in queue {facts['queue']} for a worker that knows {facts['task']}: none that lives does{who}"


def _no_slot(facts: Facts, say: Say) -> str:
    return (
        f"waits in queue {facts['queue']}: all {facts['slots']} slots of its workers are taken, and about "
        f"{facts['before']} tasks begin before it"
    )


def _next(facts: Facts, say: Say) -> str:
    return (
        f"is about to begin: workers of queue {facts['queue']} have free slots, and about {facts['before']} tasks begin "
        "before it"
    )


def _running(facts: Facts, say: Say) -> str:
    return f"runs at {facts['node']}{_since(facts, say)}"


def _lost(facts: Facts, say: Say) -> str:
    node, heard = facts["node"], facts["heard"]
    who = f"{node or 'a worker'}, which {'is gone' if heard is None else f'was last heard {say(heard)}'}"
    then = "another one begins it again" if facts["workers"] else f"no worker reads queue {facts['queue']} now"
    return f"ran{_since(facts, say)} at {who}: {then}"


def _since(facts: Facts, say: Say) -> str:
    since = facts.get("since")
    return "" if since is None else f" since {say(since)}"


def _revoked(facts: Facts, say: Say) -> str:
    at = facts["at"]
    when = "" if at is None else f" {say(at)}"
    return f"was revoked{when}{': the worker that takes its message ends it' if facts.get('ends') else ''}"


def _dead(facts: Facts, say: Say) -> str:
    where = f"{facts['queue']} {facts['letter']}"
    how = facts["obstacle"]
    then = f"celery kafka dead replay {where} runs it again" if how is None else f"it cannot be replayed: {how}"
    return f"is a dead letter since {say(facts['at'])}, {facts['why']}{_error(facts)}: {then}"


def _suspended(facts: Facts, say: Say) -> str:
    name = facts.get("correlation_id")
    if name is None:
        return "is suspended, and the control plane has not taken that yet"
    deadline = facts["deadline"]
    until = "" if deadline is None else f" until {say(deadline)}"
    if not facts["expected"]:
        return f"is suspended{until}"
    return (
        f"is suspended for {name}{until}, with {facts['got']} of {facts['expected']} callbacks: "
        f"celery kafka resume {name} DATA continues it"
    )


def _ended(facts: Facts, say: Say) -> str:
    at, node = facts["at"], facts["node"]
    when = "" if at is None else f" {say(at)}"
    return f"has ended: {facts['state']}{when}{f' at {node}' if node else ''}{_error(facts)}"


def _error(facts: Facts) -> str:
    error = facts.get("error")
    if not error:
        return ""
    return f" ({error if len(error) <= _LONGEST else error[:_LONGEST] + '…'})"


#: The clause of each reason but :attr:`Reason.BEHIND`, which needs the answer as a whole.
_CLAUSES: Mapping[Reason, Callable[[Facts, Say], str]] = {
    Reason.UNKNOWN: _unknown,
    Reason.NOT_FOUND: _not_found,
    Reason.WAITS_FOR_TIME: _waits_for_time,
    Reason.BEHIND_ITSELF: lambda facts, say: "waits until an earlier message of the same task has ended",
    Reason.PAUSED: _paused,
    Reason.NOBODY_KNOWS: _nobody_knows,
    Reason.NO_WORKER: lambda facts, say: f"waits in queue {facts['queue']}, which no living worker reads",
    Reason.NO_SLOT: _no_slot,
    Reason.NEXT: _next,
    Reason.RUNNING: _running,
    Reason.LOST: _lost,
    Reason.REVOKED: _revoked,
    Reason.DEAD: _dead,
    Reason.SUSPENDED: _suspended,
    Reason.ENDED: _ended,
}
