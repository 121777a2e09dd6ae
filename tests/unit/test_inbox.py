"""An effect in the user's own database once, with the transaction in which it is made; late writes refused by a fence."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from sqlalchemy import Connection, Engine, create_engine, text
from sqlalchemy.orm import Session

import kafka_exec
from kafka_exec.errors import ConfigurationError

REQUEST = SimpleNamespace(id="task-1")


@pytest.fixture
def engine(tmp_path: Path) -> Engine:
    made = create_engine(f"sqlite:///{tmp_path}/shop.db")
    with made.begin() as connection:
        connection.execute(text(kafka_exec.INBOX_TABLE))
        connection.execute(text("CREATE TABLE payments (id INTEGER PRIMARY KEY, task TEXT)"))
        connection.execute(text("CREATE TABLE account (balance INTEGER, fence INTEGER)"))
        connection.execute(text("INSERT INTO account VALUES (0, 0)"))
    return made


def pay(connection: Session | Connection, request: SimpleNamespace, name: str = "") -> bool:
    """A run's effect."""
    if not kafka_exec.once(connection, request, name):
        return False
    connection.execute(text("INSERT INTO payments (task) VALUES (:id)"), {"id": request.id})
    return True


def payments(engine: Engine) -> int:
    with engine.begin() as connection:
        found: int = connection.execute(text("SELECT count(*) FROM payments")).scalar_one()
        return found


def test_an_effect_is_made_once_whichever_run_comes_first(engine: Engine) -> None:
    with Session(engine) as session, session.begin():
        assert pay(session, REQUEST)
    with Session(engine) as session, session.begin():
        assert not pay(session, REQUEST)
    with engine.begin() as connection:
        assert not pay(connection, REQUEST)
        assert pay(connection, REQUEST, "another")
        assert pay(connection, SimpleNamespace(id="task-2"))
    assert payments(engine) == 3


def test_an_effect_whose_transaction_was_rolled_back_is_made_by_the_next_run(engine: Engine) -> None:
    with Session(engine) as session:
        assert pay(session, REQUEST)
        session.rollback()
    assert payments(engine) == 0
    with Session(engine) as session, session.begin():
        assert pay(session, REQUEST)
    assert payments(engine) == 1


def test_a_late_write_of_a_paused_run_is_refused_by_its_fence(engine: Engine) -> None:
    def book(amount: int, fence: int) -> bool:
        with engine.begin() as connection:
            statement = "UPDATE account SET balance = balance + :amount, fence = :fence WHERE fence < :fence"
            return bool(connection.execute(text(statement), {"amount": amount, "fence": fence}).rowcount)

    assert book(10, fence=7)  # the run of the new owner
    assert not book(10, fence=5)  # the run of the worker that was paused goes on
    with engine.begin() as connection:
        assert connection.execute(text("SELECT balance FROM account")).scalar_one() == 10


def test_who_cannot_be_in_a_transaction_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="takes a connection of SQLAlchemy or Django, not object"):
        kafka_exec.once(object(), REQUEST)
    oracle = SimpleNamespace(dialect=SimpleNamespace(name="oracle"))
    with pytest.raises(ConfigurationError, match="knows mariadb, mysql, postgresql, sqlite, not oracle"):
        kafka_exec.once(oracle, REQUEST)


DJANGO = """
import sys, types
import django
from django.conf import settings
settings.configure(DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": sys.argv[1]}})
django.setup()
from django.db import connection, transaction
import kafka_exec
request = types.SimpleNamespace(id="task-1")
with connection.cursor() as cursor:
    cursor.execute(kafka_exec.INBOX_TABLE)
try:
    kafka_exec.once(connection, request)
except kafka_exec.errors.ConfigurationError as error:
    print(error)
for _ in range(2):
    with transaction.atomic():
        print(kafka_exec.once(connection, request))
"""


def test_it_takes_djangos_connection_within_a_transaction(tmp_path: Path) -> None:
    told = subprocess.run(
        [sys.executable, "-c", DJANGO, str(tmp_path / "django.db")], capture_output=True, text=True, check=True
    ).stdout.splitlines()
    assert told == ["once() must be called within transaction.atomic(), with what it guards", "True", "False"]
