"""Settings: refused by name, safer only where the user set nothing; and a password that appears nowhere."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from celery import Celery
from celery.exceptions import ImproperlyConfigured

import kafka_exec
from kafka_exec.broker import EmbeddedKafka
from tests.integration.workers import APP, ROOT, Worker, environment, until

URL = "kafka-exec://127.0.0.1:9092"
PASSWORD = "Geh3im-und-lang"
SAFER = ("task_acks_late", "task_reject_on_worker_lost", "task_track_started")


def make(url: str = URL, **conf: Any) -> Celery:
    app = Celery("settings", broker=url, set_as_current=False)
    app.conf.update(conf)
    return app


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"kafka_exec_session_timout": 5}, "kafka_exec_session_timout.*did you mean kafka_exec_session_timeout"),
        ({"kafka_exec_zzz": 1}, "unknown setting kafka_exec_zzz"),
        ({"kafka_exec_session_timeout": 0}, "kafka_exec_session_timeout must be a number.* not 0"),
        ({"kafka_exec_session_timeout": "5"}, "kafka_exec_session_timeout must be a number.* not '5'"),
        ({"kafka_exec_group_protocol": "share"}, "kafka_exec_group_protocol is 'share': choose classic or consumer"),
        ({"kafka_exec_partitions": {"queues": 3}}, "kafka_exec_partitions: unknown kind queues"),
        ({"kafka_exec_topics": {"queue": "all-in-one"}}, "needs {name}"),
    ],
)
def test_a_wrong_setting_is_refused(wrong: dict[str, Any], message: str) -> None:
    app = Celery("settings", broker=URL, set_as_current=False)
    app.config_from_object({**wrong, "broker_url": URL})
    with pytest.raises(ImproperlyConfigured, match=message):
        app.conf.task_acks_late  # noqa: B018 - the first use reads the configuration


def test_a_setting_that_is_wrong_later_is_refused_at_the_first_connection() -> None:
    app = make()
    app.conf.kafka_exec_sesion_timeout = 5
    with pytest.raises((ImproperlyConfigured, ValueError), match="did you mean kafka_exec_session_timeout"):
        app.connection_for_write()


def test_another_brokers_app_is_left_alone() -> None:
    app = make("memory://", kafka_exec_nonsense=1)
    assert [app.conf[key] for key in SAFER] == [False, None, False] or not any(app.conf[key] for key in SAFER)


def test_safer_defaults_where_nothing_is_set() -> None:
    assert all(make().conf[key] for key in SAFER)


USERS = {"broker_url": URL, "task_acks_late": False, "task_track_started": False}


def by_dictionary(app: Celery) -> None:
    app.config_from_object(dict(USERS))


def by_object(app: Celery) -> None:
    app.config_from_object(SimpleNamespace(**USERS))


def by_namespace(app: Celery) -> None:
    app.config_from_object(SimpleNamespace(**{f"CELERY_{k.upper()}": v for k, v in USERS.items()}), namespace="CELERY")


def by_update(app: Celery) -> None:
    app.conf.update(USERS)


@pytest.mark.parametrize("configure", [by_dictionary, by_object, by_namespace, by_update])
def test_what_the_user_set_stays(configure: Any) -> None:
    app = Celery("settings", set_as_current=False)
    configure(app)
    assert app.conf.task_acks_late is False
    assert app.conf.task_track_started is False
    assert app.conf.task_reject_on_worker_lost is True


def test_a_wrong_name_in_a_namespace_is_refused() -> None:
    app = Celery("settings", set_as_current=False)
    conf = SimpleNamespace(CELERY_BROKER_URL=URL, CELERY_KAFKA_EXEC_SESSION_TIMOUT=7)
    app.config_from_object(conf, namespace="CELERY")
    message = "CELERY_KAFKA_EXEC_SESSION_TIMOUT, did you mean CELERY_KAFKA_EXEC_SESSION_TIMEOUT?"
    with pytest.raises(ImproperlyConfigured, match=message):
        app.conf.task_acks_late  # noqa: B018


def test_settings_come_by_namespace_too() -> None:
    app = Celery("settings", set_as_current=False)
    conf = SimpleNamespace(CELERY_BROKER_URL=URL, CELERY_KAFKA_EXEC_SESSION_TIMEOUT=7)
    app.config_from_object(conf, namespace="CELERY")
    assert app.connection_for_write().transport_options["session_timeout"] == 7


def test_settings_reach_the_transport_and_transport_options_win() -> None:
    app = make(kafka_exec_publish_timeout=3, broker_transport_options={"commit_interval": 1, "publish_timeout": 4})
    options = app.connection_for_write().transport_options
    assert (options["publish_timeout"], options["commit_interval"]) == (4, 1)


EXISTING = """
from celery import Celery
app = Celery("old", broker="kafka-exec://127.0.0.1:9092")
import kafka_exec
fixups = len(app._fixups)
kafka_exec.install(app)
kafka_exec.install(app)
assert len(app._fixups) == fixups + 1, app._fixups
assert app.conf.task_acks_late
assert app.connection_for_write().transport_cls == "kafka-exec"
"""


def test_install_readies_an_app_that_exists_and_is_idempotent() -> None:
    done = subprocess.run([sys.executable, "-c", EXISTING], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr


FINALIZED = """
from celery import Celery
app = Celery("old", broker="kafka-exec://127.0.0.1:9092")
app.finalize()
import kafka_exec
kafka_exec.install(app)
"""


def test_install_on_a_finalized_app_is_refused() -> None:
    done = subprocess.run([sys.executable, "-c", FINALIZED], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert "ImproperlyConfigured: kafka_exec.install() comes too late" in done.stderr


def test_install_changes_nothing_on_an_app_made_after_the_import() -> None:
    app = make()
    fixups = list(app._fixups)
    app.finalize()
    kafka_exec.install(app)
    assert app._fixups == fixups


NOT_IMPORTED = """
from celery import Celery
app = Celery("old", broker="kafka-exec://127.0.0.1:9092")
app.send_task("x")
"""


def test_without_the_import_kombu_says_that_it_knows_no_such_transport() -> None:
    done = subprocess.run([sys.executable, "-c", NOT_IMPORTED], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    assert "No such transport: kafka-exec" in done.stderr


def test_the_command_line_needs_no_import(tmp_path: Path) -> None:
    """Celery's own commands load our entry point, so ``-b kafka-exec://`` is known to each of them."""
    done = subprocess.run(
        [sys.executable, "-m", "celery", "-b", "kafka-exec://127.0.0.1:1", "inspect", "ping"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode != 0
    assert "No such transport" not in done.stdout + done.stderr
    assert "does not answer" in done.stdout + done.stderr


def test_the_report_shows_no_password(tmp_path: Path) -> None:
    url = f"kafka-exec://ann:{PASSWORD}@127.0.0.1:9092/x"
    conf = {"broker_transport_options": {"kafka": {"sasl.password": PASSWORD, "ssl.key.password": PASSWORD}}}
    done = subprocess.run(
        [sys.executable, "-m", "celery", "-A", APP, "report"],
        cwd=ROOT,
        env=environment(url, tmp_path, conf),
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert "kafka-exec" in done.stdout
    assert PASSWORD not in done.stdout + done.stderr


def test_a_worker_shows_no_password(kafka: EmbeddedKafka, tmp_path: Path) -> None:
    """Not in its banner, and not in the lines about a broker that refuses it (this one knows no passwords)."""
    url = f"kafka-exec://ann:{PASSWORD}@127.0.0.1:{kafka.port}/x"
    conf = {"broker_transport_options": {"kafka": {"ssl.key.password": PASSWORD}}, "broker_connection_timeout": 2}
    worker = Worker("secret", url, tmp_path, ["-c", "1", "-l", "DEBUG"], {}, conf)
    try:
        until(lambda: worker.output.count("Cannot connect to") >= 2 or worker.process.poll() is not None)
        worker.terminate()
        worker.wait()
    finally:
        worker.kill()
    assert "Cannot connect to kafka-exec://ann:**@127.0.0.1" in worker.output
    assert PASSWORD not in worker.output


def test_no_password_in_any_text_of_a_connection() -> None:
    app = make(f"kafka-exec://ann:{PASSWORD}@127.0.0.1:1/x", broker_transport_options={"kafka": {"linger.ms": 1}})
    connection = app.connection_for_write(connect_timeout=1)
    with pytest.raises(Exception, match=r"127\.0\.0\.1") as caught:
        connection.connect()
    texts = [repr(connection), connection.as_uri(), str(caught.value), repr(caught.value), app.conf.humanize()]
    assert PASSWORD not in "".join(texts)
