"""Errors of kafka_exec. Each says who must act.

Those that reach users of Celery and Kombu are also of Kombu's exception types: see :mod:`kafka_exec.app.kinds_of_errors`.
"""

from __future__ import annotations


class KafkaExecError(Exception):
    """Something in kafka_exec failed."""

    def __init__(self, message: str | None = None) -> None:
        text = message or type(self).__doc__ or ""
        super().__init__(text)
        self.args = (text,)  # Kombu's errors put AMQP's numbers before the text

    def __str__(self) -> str:
        return str(self.args[0])


class ConfigurationError(KafkaExecError, ValueError):
    """A setting is wrong: whoever deploys the application must correct it."""


class ConnectionFailed(KafkaExecError):
    """No broker of the cluster answers: whoever runs the cluster must look, the client tries again by itself."""


class AccessRefused(ConnectionFailed):
    """The cluster refuses these credentials, certificates or this operation: its administrator must act."""


class Forbidden(KafkaExecError):
    """The cluster's access rules do not allow this user an operation: its administrator must add a rule."""


class NotConfirmed(KafkaExecError):
    """The broker has not acknowledged the message in time: the caller must decide whether to send it again."""


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
    """A header or property of a message cannot be written so that it is read as it was: send another one, or its text."""


class TooManyDeliveries(KafkaExecError):
    """A task's runs were lost again and again: whoever wrote it must see why its workers die."""


class LostRecord(KafkaExecError):
    """A task's message was deleted before the task had ended: whoever deletes records must spare unfinished ones."""


class TopicMismatch(ChannelFailed):
    """A topic exists with other settings than declared: its administrator must change one of the two."""


class Undecodable(KafkaExecError):
    """A record is not a message of ours: it goes to the dead-letter topic. ``reason`` is its short name there."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


class NoSuchLetter(KafkaExecError):
    """There is no dead letter at this place: look for it with celery kafka dead list."""


class NotReplayable(KafkaExecError):
    """A dead letter cannot be replayed as it was asked for: whoever asks must choose otherwise."""


class RunStopped(KafkaExecError):
    """The run of a periodic task on its node is stopped: the task must end at once, or its process is killed."""


class Recoverable(Exception):
    """A task raises it, or a subclass, to be retried by its policy, whatever the policy's ``on`` says."""


class Unrecoverable(Exception):
    """A task raises it, or a subclass, to fail at once, whatever its policy says: another try would fail as well."""
