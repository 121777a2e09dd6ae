"""An effect in the user's own SQL database exactly once: an inbox table, written in the transaction of the effect.

The pattern is Chris Richardson's idempotent consumer, https://microservices.io/patterns/communication-style/idempotent-consumer.html
"""

from __future__ import annotations

from typing import Any

from kafka_exec.core.record.fields import LONGEST_ID, an_id
from kafka_exec.errors import ConfigurationError

#: The statement that makes the inbox table, for a migration. Delete rows of tasks that cannot run again any more.
INBOX_TABLE = f"""
CREATE TABLE kafka_exec_inbox (
    id VARCHAR({LONGEST_ID}) NOT NULL PRIMARY KEY,
    at TIMESTAMP DEFAULT CURRENT_TIMESTAMP NOT NULL
)
"""

_INSERT = {
    "mysql": "INSERT IGNORE INTO kafka_exec_inbox (id) VALUES ({})",
    "postgresql": "INSERT INTO kafka_exec_inbox (id) VALUES ({}) ON CONFLICT DO NOTHING",
    "sqlite": "INSERT INTO kafka_exec_inbox (id) VALUES ({}) ON CONFLICT DO NOTHING",
}
_INSERT["mariadb"] = _INSERT["mysql"]


def once(connection: Any, request: Any, name: str = "") -> bool:
    """True if the effect that follows was not made before by this task, in any of its runs.

    The caller makes the effect in the same transaction: it counts if, and only if, the transaction is committed. A second
    run at the same time waits for the end of the first one's transaction.

        with Session.begin() as session:
            if kafka_exec.once(session, self.request):
                session.execute(...)

    Args:
        connection: SQLAlchemy's session or connection, or Django's connection within ``transaction.atomic()``. The database
            is SQLite, PostgreSQL, MySQL or MariaDB, with the table of :data:`INBOX_TABLE`.
        request: the task's request.
        name: tells the effects of one task apart.

    Raises:
        ConfigurationError: the connection is none of these, no transaction is open, or the id is too long.
    """
    key = an_id(f"{request.id}/{name}" if name else str(request.id), "the id for once()")
    if hasattr(connection, "in_atomic_block"):
        return _with_django(connection, key)
    if hasattr(connection, "get_bind") or hasattr(connection, "dialect"):
        return _with_sqlalchemy(connection, key)
    raise ConfigurationError(f"once() takes a connection of SQLAlchemy or Django, not {type(connection).__name__}")


def _with_django(connection: Any, key: str) -> bool:
    if not connection.in_atomic_block:
        raise ConfigurationError("once() must be called within transaction.atomic(), with what it guards")
    with connection.cursor() as cursor:
        cursor.execute(_insert(connection.vendor).format("%s"), [key])
        return bool(cursor.rowcount == 1)


def _with_sqlalchemy(connection: Any, key: str) -> bool:
    from sqlalchemy import text

    dialect = connection.get_bind().dialect if hasattr(connection, "get_bind") else connection.dialect
    statement = text(_insert(dialect.name).format(":id"))
    return bool(connection.execute(statement, {"id": key}).rowcount == 1)


def _insert(database: str) -> str:
    if database not in _INSERT:
        raise ConfigurationError(f"once() knows {', '.join(sorted(_INSERT))}, not {database}")
    return _INSERT[database]
