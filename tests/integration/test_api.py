"""The HTTP API: what a client does with it, over a real Kafka and a real worker."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import datetime
from typing import Any

import pytest
from kombu import Queue
from starlette.applications import Starlette
from starlette.authentication import AuthCredentials, AuthenticationBackend, SimpleUser
from starlette.middleware import Middleware
from starlette.middleware.authentication import AuthenticationMiddleware
from starlette.requests import HTTPConnection
from starlette.routing import Mount

from kafka_exec.broker import EmbeddedKafka
from tests.integration.api_tools import Site, serving
from tests.integration.app import make_app
from tests.integration.workers import APP, PATIENCE, ROOT, Crew, crew, environment, until


@pytest.fixture(scope="module")
def made(kafka: EmbeddedKafka, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Crew]:
    with crew(kafka, tmp_path_factory.mktemp("api"), backend="same") as found:
        found.ready(found.start("one", "-c", "2", "-P", "threads"))
        yield found


@pytest.fixture(scope="module")
def site(made: Crew) -> Iterator[Site]:
    with serving(made.app) as found:
        yield found


def printed(made: Crew, *command: str) -> list[Any]:
    """The objects that a command prints."""
    return [json.loads(line) for line in made.command("kafka", *command, "--json").splitlines()]


def wait_for(site: Site, task_id: str, state: str) -> dict[str, Any]:
    """The task as soon as it has a state."""

    def found() -> Any:
        told = site.get(f"/executions/{task_id}")
        return told["state"] == state and told

    task: dict[str, Any] = until(found, what=f"{task_id} as {state}")
    return task


def test_a_task_is_sent_runs_and_is_found_with_all_that_has_happened(made: Crew, site: Site) -> None:
    sent = site.post("/executions", {"name": "add", "args": [2], "kwargs": {"y": 3}, "ordering_key": "customer/7"}, 201)
    found = wait_for(site, sent["id"], "DONE")
    assert found.items() >= {"name": "add", "result": 5, "worker": "one@test", "ordering_key": "customer/7"}.items()
    events = site.get(f"/executions/{sent['id']}/history")["items"]
    assert [each["what"] for each in events][:1] == ["sent"]
    assert printed(made, "history", sent["id"]) == events


def test_a_task_is_known_before_a_worker_has_seen_it(kafka: EmbeddedKafka, made: Crew) -> None:
    with crew(kafka, made.folder, backend="same") as alone, serving(alone.app) as site:
        sent = [site.post("/executions", {"name": "add", "args": [1, 2]}, 201)["id"]]
        again = {"name": "add", "args": [3, 4], "deduplication_id": "once", "eta": "2060-01-31T14:00:00+02:00"}
        sent += [site.post("/executions", again, 201)["id"] for _ in range(2)]
        assert len(set(sent)) == 2
        for task_id in sent:
            found = site.get(f"/executions/{task_id}")
            assert (found["state"], found["status"], found["name"]) == ("SCHEDULED", "PENDING", "add")
        assert {each["id"] for each in site.get("/executions/active")["items"]} == set(sent)
        why = site.get(f"/executions/{sent[0]}/why")
        assert why["reason"] == "no worker reads its queue"
        assert why["sentence"] == f"{sent[0]} waits in queue celery, which no living worker reads"
        assert site.get("/queues/celery").items() >= {"ready": 1, "delayed": 2, "state": "no workers"}.items()
        assert site.get("/status")["problems"] != []
        assert site.get("/nodes") == {"items": []}


def test_tasks_are_chosen_by_the_filter_of_the_commands(made: Crew, site: Site) -> None:
    ids = [site.post("/executions", {"name": "add", "args": [number, 1000]}, 201)["id"] for number in range(3)]
    for task_id in ids:
        wait_for(site, task_id, "DONE")
    chosen = {"name": "ad?", "state": "done,failed", "since": "1 h", "where": "result >= 1000"}
    found = site.get("/executions", **chosen, limit=2)
    assert [len(found["items"]), found["more"]] == [2, 1]
    options = [word for name, value in chosen.items() for word in (f"--{name}", value)]
    assert printed(made, "executions", *options, "--limit", "2") == found["items"]
    rest = site.get("/executions", **chosen, limit=2, offset=2)
    assert [len(rest["items"]), rest["more"]] == [1, 0]
    assert rest["items"][0] not in found["items"]
    assert site.get("/executions", **chosen, offset=1000) == {"items": [], "more": 0}
    assert site.get("/executions/counts", **chosen, by="queue") == {"items": [{"queue": "celery", "number": 3}]}
    assert site.get("/executions", until="1 h") == {"items": [], "more": 0}
    assert site.get("/executions", since=f"{'9' * 400} d")["more"] == 0
    for wrong in ({"where": "nme == 1"}, {"state": "FINE"}, {"since": "soon"}, {"limit": "0"}, {"colour": "red"}):
        assert len(site.get("/executions", 400, **wrong)["error"].splitlines()) == 1


def test_a_suspended_task_is_completed_once(site: Site) -> None:
    sent = site.post("/executions", {"name": "wait", "args": ["approve/7"]}, 201)["id"]
    wait_for(site, sent, "SUSPENDED")
    (found,) = until(lambda: [each for each in site.get("/suspended")["items"] if each["task"] == sent])
    assert [found[name] for name in ("correlation_id", "got", "expected")] == ["approve/7", 0, 1]
    answered = site.ask("POST", f"/executions/{sent}/complete", {"data": {"yes": True}})
    assert (answered.status_code, answered.json()["outcome"]) == (200, "continued")
    assert wait_for(site, sent, "DONE")["result"] == {"yes": True}
    again = site.post("/suspended/approve%2F7/resume", {"data": False})
    assert again["outcome"] == "already"
    assert site.post(f"/executions/{sent}/resume", {}, 409) == {"error": f"task {sent} is not suspended: it is DONE"}
    assert site.get(f"/executions/{sent}")["result"] == {"yes": True}


def test_a_dead_letter_is_retried_once_with_other_arguments(made: Crew, site: Site) -> None:
    sent = site.post("/executions", {"name": "picky", "args": ["no"]}, 201)["id"]
    (letter,) = until(lambda: [each for each in site.get("/dead")["items"] if each["id"] == sent])
    address = f"/dead/{letter['queue']}/{letter['partition']}:{letter['offset']}"
    assert site.get(address)["body"][0] == ["no"]
    assert site.get("/dead", offset=1000) == {"items": [], "more": 0}
    assert site.get(f"/executions/{sent}/why")["reason"] == "dead letter"
    assert site.post(f"/executions/{sent}/retry", {"args": ["please"]}) == {"replayed": 1}
    made.effects.wait_for([sent])
    assert "no dead letter" in site.post(f"/executions/{sent}/retry", {}, 409)["error"]
    assert site.post(f"{address}/replay") == {"replayed": 0}
    assert [each["replayed"] for each in site.get("/dead", replayed="true")["items"] if each["id"] == sent] == [True]
    assert site.get("/dead/celery/0:999999", 404)["error"] == "queue celery has no dead letter at 0:999999"
    assert site.post("/dead/celery/replay", {}, 400) == {"error": "choose the letters by reason, task or all"}


def test_a_task_is_cancelled_unless_it_has_ended(site: Site) -> None:
    sent = site.post("/executions", {"name": "wait", "args": ["never"]}, 201)["id"]
    wait_for(site, sent, "SUSPENDED")
    until(lambda: any(each["task"] == sent for each in site.get("/suspended")["items"]))
    answered = site.ask("POST", f"/executions/{sent}/cancel", {"terminate": False})
    assert (answered.status_code, answered.json()) == (202, {"id": sent})
    wait_for(site, sent, "REVOKED")
    assert site.post(f"/executions/{sent}/revoke", {}, 409) == {"error": f"task {sent} has ended: it is REVOKED"}
    site.post(f"/executions/{sent}/remark", {"text": "nobody has approved"})
    (remark,) = site.get(f"/executions/{sent}")["remarks"]
    assert (remark["text"], remark["by"]) == ("nobody has approved", "anybody")


def test_a_key_that_a_failure_has_stopped_goes_on(made: Crew, site: Site) -> None:
    key = {"ordering_key": "broken/1"}
    failed = site.post("/executions", {"name": "break_lane", **key}, 201)["id"]
    wait_for(site, failed, "FAILED")
    behind = site.post("/executions", {"name": "work", **key}, 201)["id"]
    (found,) = until(lambda: site.get("/keys", blocked="true")["items"])
    assert [found[name] for name in ("key", "queue", "state", "node")] == ["broken/1", "celery", "stopped", "one@test"]
    assert site.post("/keys/broken%2F1/unblock") == {"queues": ["celery (one@test)"]}
    made.effects.wait_for([behind])
    assert "'broken/1'" in site.post("/keys/broken%2F1/skip", {}, 404)["error"]


def test_a_queue_is_paused_in_the_name_of_the_user_and_resumed(made: Crew, site: Site) -> None:
    paused = site.post("/queues/celery/pause", {"reason": "the server moves", "until": "2 h"})
    assert (paused["by"], paused["reason"]) == ("anybody", "the server moves")
    found = site.get("/queues/celery")
    assert (found["state"], found["paused"]["until"]) == ("paused", paused["until"])
    assert site.post("/queues/celery/pause", {"key": "k/1"})["key"] == "k/1"
    site.post("/queues/celery/resume")
    site.post("/queues/celery/resume", {"key": "k/1"})
    assert site.get("/queues/celery")["paused_keys"] == {}
    assert site.post("/queues/celery/resume", {}, 409) == {"error": "queue celery is not paused"}
    assert "there is no queue 'nowhere'" in site.post("/queues/nowhere/pause", {}, 404)["error"]
    assert "still to come" in site.post("/queues/celery/pause", {"until": "2001-01-01"}, 400)["error"]


def test_topics_and_rates_are_those_that_the_commands_print(made: Crew, site: Site) -> None:
    made.effects.wait_for(made.send("work", number=2))
    until(lambda: made.backlog() == 0, what="the commits of all ends")
    found = {each["topic"]: each for each in site.get("/topics")["items"]}
    assert (found[f"{made.prefix}.queue.celery"]["purpose"], found.keys()) == (
        "messages of queue celery",
        {each["topic"] for each in printed(made, "topics")},
    )
    rates = {each["task"]: each for each in site.get("/top", queue="celery", seconds=3600)["items"]}
    assert rates["work"]["sent"] >= 2
    assert rates[None]["sent"] == sum(each["sent"] for task, each in rates.items() if task is not None)
    assert rates.keys() == {each["task"] for each in printed(made, "top", "celery", "--seconds", "3600")}
    assert "there is no queue 'nobody'" in site.ask("GET", "/api/kafka/top", params={"queue": "nobody"}).json()["error"]
    assert site.get("/top", 400, seconds=0)


def copied(chosen: int, sent: int) -> dict[str, Any]:
    return {"schema": 1, "queue": "shadow", "chosen": chosen, "refused": 0, "sent": sent}


def test_the_tasks_of_a_time_are_copied_once_to_another_queue(made: Crew, site: Site) -> None:
    begin = time.time()
    ids = made.send("work", number=3, queue="origin")
    made.send("total", [1, 2], queue="origin")
    with made.app.connection_for_write() as connection:
        Queue("shadow", no_declare=False)(connection.default_channel).declare()
    wanted = {"since": datetime.fromtimestamp(begin - 1).isoformat(), "to_queue": "shadow", "name": "work"}
    listed = site.post("/queues/origin/replay", {**wanted, "dry_run": True})
    assert {each["id"] for each in listed["items"]} == set(ids)
    assert {name: value for name, value in listed.items() if name != "items"} == copied(3, 0)
    assert site.post("/queues/origin/replay", wanted) == {**copied(3, 3), "items": []}
    assert site.post("/queues/origin/replay", wanted) == {**copied(0, 0), "items": []}
    assert site.get("/queues/shadow")["ready"] == 3
    assert "beside the tasks" in site.post("/queues/origin/replay", {**wanted, "to_queue": "origin"}, 400)["error"]
    assert "there is no queue" in site.post("/queues/origin/replay", {**wanted, "to_queue": "nobody"}, 404)["error"]
    assert "to_queue" in site.post("/queues/origin/replay", {"since": "1 h"}, 400)["error"]


def test_a_schedule_expression_makes_a_periodic_entry(site: Site) -> None:
    body = {
        "name": "add",
        "args": [1, 2],
        "scheduleExpression": "0 4 * * mon",
        "entry": "weekly/add",
        "queue": "celery",
    }
    assert site.post("/executions", body, 201) == {"entry": "weekly/add"}
    found = site.get("/periodic/weekly%2Fadd")
    assert (found["task"], found["given"]["args"], found["given"]["options"]) == ("add", [1, 2], {"queue": "celery"})
    assert site.get("/periodic")["items"] == [found]
    for act, paused in (("pause", True), ("resume", False), ("run-now", False)):
        site.post(f"/periodic/weekly%2Fadd/{act}")
        assert site.get("/periodic/weekly%2Fadd")["paused"] is paused
    assert "already" in site.post("/periodic", {"name": "weekly/add", "task": "add", "schedule": 5}, 400)["error"]
    assert site.ask("DELETE", "/api/kafka/periodic/weekly%2Fadd").status_code == 200
    assert "no periodic entry" in site.get("/periodic/weekly%2Fadd", 404)["error"]
    for wrong in ({"scheduleExpression": "now and then"}, {"scheduleExpression": "5", "eta": "2060-01-01T00:00:00Z"}):
        assert site.post("/executions", {"name": "add", **wrong}, 400)["error"]


@pytest.mark.parametrize(
    ("body", "status", "told"),
    [
        ({"name": "nothing"}, 404, "neither the application nor a worker that lives knows a task nothing"),
        ({"name": "nothing", "scheduleExpression": "5"}, 404, "neither the application nor"),
        ({"name": "add", "queue": "nowhere"}, 404, "there is no queue 'nowhere'; there are "),
        (
            {"name": "add", "args": [1, 2, 3]},
            400,
            "add does not take these arguments: add() takes 2 positional arguments",
        ),
        ({"name": "keyed"}, 400, "keyed does not take these arguments: "),
        ({"name": "add", "args": [1, 2], "ordering_key": "k" * 600}, 400, "add: an ordering key"),
        ({"name": "add", "eta": "tomorrow"}, 400, "eta: 'tomorrow' is no date"),
        ({"name": "add", "eta": "2060-01-01T00:00:00"}, 400, "eta: '2060-01-01T00:00:00' must say its time zone"),
        ({"name": "add", "entry": "x"}, 400, "entry: only a task with a scheduleExpression has one"),
        ({"name": "add", "args": ["x" * 1_500_000, ""]}, 413, ""),
    ],
)
def test_a_task_that_cannot_be_sent_is_refused_in_one_line(site: Site, body: Any, status: int, told: str) -> None:
    error = site.post("/executions", body, status)["error"]
    assert error.startswith(told)
    assert len(error.splitlines()) == 1


def test_the_other_names_give_the_same_answers(site: Site) -> None:
    sent = site.ask("POST", "/jobs", {"name": "add", "args": [1, 1]})
    assert sent.status_code == 201
    task_id = sent.json()["id"]
    wait_for(site, task_id, "DONE")
    for alias, path in (
        ("/jobs", "/executions"),
        (f"/jobs/{task_id}", f"/executions/{task_id}"),
        ("/executions", "/executions"),
        ("/executions/active", "/executions/active"),
        (f"/executions/{task_id}", f"/executions/{task_id}"),
    ):
        until(lambda names=(alias, path): site.ask("GET", names[0]).json() == site.get(names[1]), what=alias)
    names = [
        [each["name"] for each in found["items"]] for found in (site.ask("GET", "/runners").json(), site.get("/nodes"))
    ]
    assert names == [["one@test"], ["one@test"]]
    assert site.ask("POST", f"/executions/{task_id}/cancel").status_code == 409
    assert site.ask("POST", f"/executions/{task_id}/retry").status_code == 409


def test_it_is_mounted_in_an_application_that_knows_its_users(made: Crew, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "kafka_exec.api")

    class Users(AuthenticationBackend):
        async def authenticate(self, connection: HTTPConnection) -> Any:
            name = connection.headers.get("x-user")
            return name and (AuthCredentials(), SimpleUser(name))

    def around(api: Any) -> Any:
        return Starlette(
            routes=[Mount("/tasks", api)], middleware=[Middleware(AuthenticationMiddleware, backend=Users())]
        )

    with serving(made.app, around=around) as site:
        sent = site.ask(
            "POST", "/tasks/jobs", {"name": "add", "args": [1, 1]}, {"X-User": "carl", "Host": "shop.example"}
        )
        assert sent.status_code == 201
        assert site.ask("GET", "/tasks/jobs", headers={"Host": "shop.example"}).status_code == 401
        file = site.ask("GET", "/tasks/api/kafka/openapi.json").json()
        assert file["servers"] == [{"url": "/tasks"}]
        assert site.ask("GET", "/jobs").status_code == 404
    assert "carl: POST /tasks/jobs: 201" in [record.getMessage() for record in caplog.records]


def test_a_proxy_that_names_another_machine_and_a_name_of_others_are_not_this_machine(site: Site) -> None:
    for headers in ({"X-Forwarded-For": "10.0.0.7"}, {"Host": "evil.example"}):
        assert site.ask("GET", "/executions", headers=headers).status_code == 401
    assert site.ask("POST", "/executions", {"name": "add"}, {"Origin": "http://evil.example"}).status_code == 403


def test_a_kafka_that_is_away_is_told_and_not_waited_for_long() -> None:
    app = make_app("kafka-exec://127.0.0.1:1/away", "kafka-exec://127.0.0.1:1/away", broker_connection_timeout=1)
    with serving(app) as site:
        for path in ("/status", "/executions", "/executions/x"):
            assert "127.0.0.1:1" in site.get(path, 503)["error"]
        assert site.get("/openapi.json")["openapi"] == "3.1.0"
    app.close()


def test_results_that_are_elsewhere_are_told_of(made: Crew) -> None:
    app = make_app(made.url, "redis://:hunter2@127.0.0.1:1/0")
    with serving(app) as site:
        answers = [
            site.get("/executions", 501),
            site.get("/executions/x", 501),
            site.post("/executions/x/retry", {}, 501),
        ]
        assert {each["error"] for each in answers} == {
            "the results are in redis, not in Kafka: only those in Kafka are read here"
        }
        assert site.get("/queues")["items"] != []
    app.close()


def test_the_command_serves_users_with_tokens_and_tells_what_they_do(made: Crew) -> None:
    token = "anna-" + "7" * 16
    env = environment(made.url, made.folder, KAFKA_EXEC_API_TOKENS=json.dumps([f"anna:{token}"]), **made.env)
    command = [sys.executable, "-m", "celery", "-A", APP, "kafka", "api", "--port", "0", "--host", "0.0.0.0"]
    process = subprocess.Popen(command, cwd=ROOT, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        port = process.stdout.readline().split()[4].rpartition(":")[2].partition("/")[0]
        site = Site(f"http://127.0.0.1:{port}")
        assert site.ask("GET", "/executions").status_code == 401
        site.token = token
        sent = site.post("/executions", {"name": "add", "args": [3, 4]}, 201)["id"]
        assert wait_for(site, sent, "DONE")["result"] == 7
        process.terminate()
        _, told = process.communicate(timeout=PATIENCE)
        assert process.returncode == 0
    finally:
        process.kill()
        process.wait()
    assert [line for line in told.splitlines() if line.endswith(" INFO anna: POST /api/kafka/executions: 201")]
    assert token not in told
