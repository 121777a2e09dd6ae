"""Errors of kafka_exec. The docstring of each is its default message, and says who must act.

Errors that reach users of Celery and Kombu have Kombu's exception types too: see :mod:`kafka_exec.app.kinds_of_errors`.
"""

from __future__ import annotations


class KafkaExecError(Exception):
    """Something in kafka_exec failed."""

    def __init__(self, message: str | None = None) -> None:
        text = message or type(self).__doc__ or ""
        super().__init__(text)
        self.args = (text,)  # without AMQP's numbers, which Kombu's errors put before the text

    def __str__(self) -> str:
        return str(self.args[0])


class ConfigurationError(KafkaExecError, ValueError):
    """A setting is wrong: the application's operator must correct it."""


class NotInKafka(ConfigurationError):
    """Data that was asked for is not in Kafka: the application's operator must set a kafka-exec broker or back end."""


class NotFound(KafkaExecError):
    """There is no such thing: the caller must name another one."""


class ConnectionFailed(KafkaExecError):
    """No broker of the cluster answers: its operator must act; the client tries again by itself."""


class AccessRefused(ConnectionFailed):
    """The cluster refuses the credentials, the certificate or the operation: its administrator must act."""


class Forbidden(KafkaExecError):
    """The cluster's access rules forbid this user an operation: its administrator must add a rule."""


class NotConfirmed(KafkaExecError):
    """The broker has not acknowledged the message in time: the caller must decide to send it again or not."""


class ChannelFailed(KafkaExecError):
    """The cluster refuses an operation on a queue or exchange: the caller must correct it."""


class NoSuchQueue(ChannelFailed):
    """The queue does not exist: declare it first."""


class InvalidName(ChannelFailed):
    """The name cannot be used for a Kafka topic: choose a shorter one."""


class MessageTooLarge(ChannelFailed):
    """The message is larger than the topic accepts: send less, or raise message.max.bytes on client and topic."""


class ResultTooLarge(KafkaExecError):
    """A task's result is larger than the state topic accepts: return less, or raise its message.max.bytes."""


class Unwritable(KafkaExecError):
    """A header or property of a message would be read as another value: send a JSON value, or its text."""


class TooManyDeliveries(KafkaExecError):
    """A task's runs were lost again and again: the task's author must find out why its workers die."""


class LostRecord(KafkaExecError):
    """A task's message was deleted before the task had ended: administrators must not delete unfinished records."""


class TopicMismatch(ChannelFailed):
    """A topic exists with other settings than declared: its administrator must change the topic or the declaration."""


class Undecodable(KafkaExecError):
    """A record is no message of kafka_exec: it goes to the dead-letter topic. ``reason`` is the short reason there."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


class NoSuchLetter(NotFound):
    """No dead letter is at this place: look for it with celery kafka dead list."""


class NoSuchEntry(NotFound, ConfigurationError):
    """No periodic entry has this name: look for it with celery kafka schedule list."""


class WrongState(KafkaExecError):
    """The task is not in a state for this act: the caller must look at what it does now."""


class NotReplayable(KafkaExecError):
    """A dead letter or a task cannot be replayed in this way: the caller must choose another one, or other arguments."""


class RunStopped(KafkaExecError):
    """The node stops this run of a periodic task: the task must end at once, or its process is killed."""


class Recoverable(Exception):
    """A task raises this error, or a subclass, to be retried by its policy, whatever the policy's ``on`` says."""


class Unrecoverable(Exception):
    """A task raises this error, or a subclass, to fail at once, whatever its policy says: a retry would fail as well."""


class NonDeterministic(Unrecoverable):
    """A durable task made other calls than in an earlier run: its author must give the new code another name or version."""


class SuspensionTimedOut(Unrecoverable):
    """Nobody has resumed the task before its deadline: the task's author decides what follows from it."""


class NotDurable(KafkaExecError):
    """The task cannot be suspended here: it must run in a worker, with a kafka-exec broker and result back end."""


class CorrelationInUse(Unrecoverable):
    """Another task waits with the same correlation id: the task's author must choose ids that differ."""
