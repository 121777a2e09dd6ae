"""An effect in PostgreSQL once, and late writes refused by their fence, while two runs are in it at the same time."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import pytest
from sqlalchemy import Connection, Engine, create_engine, text
from sqlalchemy.exc import OperationalError

import kafka_exec
from tests.integration.workers import PATIENCE, until

REQUEST = SimpleNamespace(id="task-1")

#: PostgreSQL refuses to run as root.
USER = "postgres" if os.getuid() == 0 else None


@pytest.fixture(scope="module")
def engine() -> Iterator[Engine]:
    """The database of a PostgreSQL server that listens on a socket in a folder."""
    server = Path(shutil.which("postgres") or "postgres").resolve()
    if not server.with_name("initdb").exists():
        pytest.skip("PostgreSQL is not installed")
    folder = Path(tempfile.mkdtemp(prefix="kafka-exec-postgresql-"))
    if USER:
        shutil.chown(folder, USER)
    data = folder / "data"
    initdb = [server.with_name("initdb"), "--no-sync", "-U", "shop", "-A", "trust", "-D", data]
    subprocess.run(initdb, user=USER, cwd=folder, stdout=subprocess.DEVNULL, check=True)
    options = ["-k", str(folder), "-c", "listen_addresses=", "-c", "fsync=off"]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen([server, "-D", data, *options], user=USER, cwd=folder, stderr=log)
    made = create_engine(f"postgresql+psycopg://shop@/postgres?host={folder}")
    try:
        until(lambda: answers(made), what="PostgreSQL")
        with made.begin() as connection:
            connection.execute(text(kafka_exec.INBOX_TABLE))
            connection.execute(text("CREATE TABLE account (balance INTEGER, fence INTEGER)"))
        yield made
    finally:
        made.dispose()
        process.terminate()
        process.wait(PATIENCE)
        shutil.rmtree(folder)


@pytest.fixture
def account(engine: Engine) -> Engine:
    """The same with an empty account and inbox."""
    with engine.begin() as connection:
        connection.execute(text("TRUNCATE kafka_exec_inbox, account"))
        connection.execute(text("INSERT INTO account VALUES (0, 0)"))
    return engine


def answers(engine: Engine) -> bool:
    try:
        engine.connect().close()
    except OperationalError:
        return False
    return True


def waits(engine: Engine) -> bool:
    """True if a transaction waits for another one's end."""
    with engine.begin() as connection:
        waiting = text("SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'")
        return bool(connection.execute(waiting).scalar_one())


def balance(engine: Engine) -> int:
    with engine.begin() as connection:
        found: int = connection.execute(text("SELECT balance FROM account")).scalar_one()
        return found


def pay(connection: Connection) -> bool:
    """A run's effect."""
    if not kafka_exec.once(connection, REQUEST):
        return False
    connection.execute(text("UPDATE account SET balance = balance + 10"))
    return True


def pay_beside(engine: Engine, threads: ThreadPoolExecutor) -> Future[bool]:
    """Begins a second run in a thread; it waits for the transaction of the first one."""

    def run() -> bool:
        with engine.begin() as connection:
            return pay(connection)

    second = threads.submit(run)
    until(lambda: waits(engine), what="a transaction that waits")
    return second


@pytest.mark.parametrize("is_committed", [True, False])
def test_a_second_run_waits_for_the_first_and_makes_the_effect_only_if_that_did_not(
    account: Engine, is_committed: bool
) -> None:
    with ThreadPoolExecutor() as threads, account.connect() as connection:
        first = connection.begin()
        assert pay(connection)
        second = pay_beside(account, threads)
        first.commit() if is_committed else first.rollback()
        assert second.result(PATIENCE) is not is_committed
    assert balance(account) == 10


def test_a_late_write_is_refused_by_its_fence_although_it_began_before_the_other_was_committed(account: Engine) -> None:
    def book(connection: Connection, fence: int) -> bool:
        statement = "UPDATE account SET balance = balance + 10, fence = :fence WHERE fence < :fence"
        return bool(connection.execute(text(statement), {"fence": fence}).rowcount)

    def late() -> bool:
        with account.begin() as connection:
            return book(connection, fence=5)

    with ThreadPoolExecutor() as threads, account.connect() as connection:
        newer = connection.begin()
        assert book(connection, fence=7)  # the run of the new owner
        older = threads.submit(late)  # the run of the worker that was paused goes on
        until(lambda: waits(account), what="a transaction that waits")
        newer.commit()
        assert not older.result(PATIENCE)
    assert balance(account) == 10
