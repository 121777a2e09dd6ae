"""Apache Kafka as a first-class home for Celery tasks.

Importing this package registers the URL schemes ``kafka-exec://`` and ``kafka-execs://`` (TLS) with Kombu, and makes
every Celery app created afterwards ready for them. For an app that exists already there is :func:`install`.
"""

from __future__ import annotations

import sys

#: With those of the modules api, beat, broker, errors, executors, health, signals, testing and tracing all that programs
#: import: all other names may move.
__all__ = (
    "INBOX_TABLE",
    "DeadLetters",
    "Delay",
    "Done",
    "Error",
    "Executor",
    "Job",
    "Phase",
    "Recoverable",
    "Resumed",
    "RetryPolicy",
    "Stop",
    "Suspend",
    "Task",
    "TimedOut",
    "Unrecoverable",
    "Wait",
    "__version__",
    "create",
    "dead_letters",
    "install",
    "once",
    "pause_queue",
    "remark",
    "resume",
    "resume_queue",
    "use_executor",
)

# Python imports this package also before it runs ``python -m kafka_exec.health``, a probe that needs nothing of it, and that
# must be fast. The first argument is ``-m`` only as long as that module is looked for.
if not (sys.argv[:1] == ["-m"] and "kafka_exec.health" in sys.orig_argv):
    from celery.app.base import BUILTIN_FIXUPS
    from kombu import connection as _kombus
    from kombu.transport import TRANSPORT_ALIASES

    from kafka_exec.about import __version__
    from kafka_exec.app.durable.calls import TimedOut
    from kafka_exec.app.durable.inbox import INBOX_TABLE, once
    from kafka_exec.app.durable.resuming import Resumed, resume
    from kafka_exec.app.executors.registry import Executor, use_executor
    from kafka_exec.app.fixup import install, prepare_default_app
    from kafka_exec.app.job import Delay, Done, Error, Job, Stop, Suspend, Wait, create
    from kafka_exec.app.kinds_of_errors import join_kombus
    from kafka_exec.app.letters import dead_letters
    from kafka_exec.app.pausing import pause_queue, resume_queue
    from kafka_exec.app.task import Task, remark
    from kafka_exec.core.worker.retry import Phase, RetryPolicy
    from kafka_exec.errors import Recoverable, Unrecoverable
    from kafka_exec.kafka.queue.dead import DeadLetters
    from kafka_exec.settings.url import parse_url

    TRANSPORT_ALIASES["kafka-exec"] = "kafka_exec.transport:Transport"
    TRANSPORT_ALIASES["kafka-execs"] = "kafka_exec.transport:SSLTransport"
    BUILTIN_FIXUPS.add("kafka_exec.app.fixup:Fixup")
    _kombus.parse_url = parse_url
    join_kombus()
    prepare_default_app()
