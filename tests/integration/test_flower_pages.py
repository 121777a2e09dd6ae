"""Our pages in Flower: they show what the commands print, and their acts do what they say, for whom Flower lets in."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Iterator
from functools import partial
from types import SimpleNamespace
from typing import Any, NamedTuple

import pytest
from click.testing import CliRunner

from kafka_exec.broker import EmbeddedKafka
from kafka_exec.cli import kafka as commands
from tests.integration.api_tools import Site, serving
from tests.integration.flower_tools import FlowerProcess, Page, Visitor, flower
from tests.integration.suspensions import suspended
from tests.integration.workers import Crew, crew, until

USER = ("anna", "secret/words")
BASIC = f"--basic_auth={':'.join(USER)}"

#: A name that a page must not take for its own text.
HOSTILE = "<script>alert('<b>&amp;')</script>"

#: The pages with the commands that print the same.
SAME = {
    "queues": ("queues",),
    "executions": ("executions",),
    "keys": ("keys",),
    "suspended": ("suspended",),
    "periodic": ("schedule", "list"),
    "dead": ("dead", "list"),
    "nodes": ("nodes",),
}


class Served(NamedTuple):
    """A Flower below a path, with a user who visits it."""

    anna: Visitor
    process: FlowerProcess

    def audit(self) -> list[str]:
        """The acts that it has told."""
        return re.findall(r"asgi:\d+\] (\S+ \S+ \S+ \d+)", self.process.log.read_text())


@pytest.fixture(scope="module")
def made(kafka: EmbeddedKafka, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Crew]:
    with crew(kafka, tmp_path_factory.mktemp("flower"), backend="same") as found:
        yield found


@pytest.fixture(scope="module")
def served(made: Crew) -> Iterator[Served]:
    with flower(made, BASIC, "--url_prefix=flo") as process:
        made.ready(made.start("only", "-c", "2", "-P", "threads"))
        yield Served(Visitor(process.address, USER), process)


@pytest.fixture(scope="module")
def tasks(made: Crew, served: Served) -> dict[str, Any]:
    """Tasks in all states: their results, by names of these tests."""
    known = made.app.tasks
    found = {
        "done": known["add"].delay(1, 2),
        "waits": known["add"].apply_async((1, 2), queue="other"),  # no worker reads it
        "suspended": known["wait"].delay(HOSTILE),
        "dead": known["picky"].delay(HOSTILE),
        "stops": known["break_lane"].apply_async(ordering_key=HOSTILE),
    }
    suspended(found["suspended"])
    until(lambda: found["stops"].state == "FAILURE" and found["dead"].state == "FAILURE", what="the failures")
    found["behind"] = known["work"].apply_async(ordering_key=HOSTILE)
    assert found["done"].get(timeout=60) == 3
    with serving(made.app) as site:
        site.post("/periodic", {"name": f"weekly/{HOSTILE}", "task": "add", "schedule": "0 4 * * mon"}, 201)
        until(lambda: site.get("/keys", blocked="true")["items"], what="the key that was stopped")
    return found


def printed(made: Crew, *words: str) -> str:
    """What a command prints. It runs in this process: one of its own would take a second to start."""
    logger = logging.getLogger("kafka_exec")
    level = logger.level
    try:
        done = CliRunner().invoke(commands, [*words], obj=SimpleNamespace(app=made.app))
    finally:
        logger.setLevel(level)  # a command says less than other programs
    assert done.exit_code == 0, done.output
    return done.stdout


def words(text: str) -> str:
    """A row without its spaces, nor the ages in it, which grow."""
    return re.sub(r"\s+", "", re.sub(r"\b[\d.]+ (?:s|min|h|d)\b", "", text))


def lines(page: Page) -> list[str]:
    return sorted(words("  ".join(row)) for row in page.rows if row)


@pytest.mark.parametrize("name", SAME)
def test_a_page_shows_what_its_command_prints(made: Crew, served: Served, tasks: dict[str, Any], name: str) -> None:
    def is_same() -> bool:
        """True if nothing has changed between the two."""
        expected = sorted(words(line) for line in printed(made, *SAME[name]).splitlines()[1:])
        return len(expected) > 0 and lines(served.anna.page(f"/kafka/{name}")) == expected

    until(is_same, what=f"the same as {' '.join(SAME[name])} prints")


def test_flowers_own_pages_lead_to_ours(served: Served) -> None:
    for path in ("/workers", "/tasks", "/broker", "/kafka/keys"):
        assert served.anna.page(path).links["Kafka"] == "/flo/kafka/queues", path
    assert served.anna.ask("/kafka").url.endswith("/flo/kafka/queues")
    assert served.anna.ask("/kafka/nothing").status_code == 404


def test_the_page_of_a_task_has_its_history_and_says_why_it_does_not_run(
    made: Crew, served: Served, tasks: dict[str, Any]
) -> None:
    def is_same(task_id: str, *, has_history: bool) -> bool:
        """True if nothing has changed between the page and the commands, of which one says ages."""
        page = served.anna.page(f"/kafka/executions/{task_id}")
        if [words(each) for each in page.alerts] != [words(printed(made, "why", task_id).splitlines()[0])]:
            return False
        if not has_history:
            return True
        events = [json.loads(line) for line in printed(made, "history", task_id, "--json").splitlines()]
        shown = [row[1] for row in page.rows if len(row) == 6]
        return shown == [each["what"] for each in events] and [r[2] for r in page.rows if len(r) == 3] == [task_id]

    # The worker of the last one would tell its first state.
    for name, has_history in (("suspended", True), ("dead", True), ("waits", False)):
        shown = partial(is_same, tasks[name].id, has_history=has_history)
        until(shown, what=f"the page of {name}")
    assert served.anna.page("/kafka/executions/nothing", 404).alerts[0] == "nothing is known of task nothing"


def test_no_name_becomes_a_part_of_a_page(served: Served, tasks: dict[str, Any]) -> None:
    paths = [*SAME, f"executions/{tasks['suspended'].id}", f"executions?name={HOSTILE}", f"executions?where={HOSTILE}"]
    for path in paths:
        text = served.anna.ask(f"/kafka/{path}").text
        assert "alert(" not in text or "&lt;script&gt;alert(" in text
        assert "<script>alert(" not in text, path
    assert "&lt;script&gt;" in served.anna.ask("/kafka/suspended").text


def test_tasks_are_chosen_as_by_the_command_and_shown_in_parts(
    made: Crew, served: Served, tasks: dict[str, Any]
) -> None:
    for number in range(5):
        made.app.tasks["total"].delay([number]).get(timeout=60)
    chosen, seen = "/kafka/executions?name=tot*&state=DONE&where=result+%3E+0&since=1+h&limit=2", []
    while chosen:
        page = served.anna.page(chosen)
        seen.append([row[0] for row in page.rows if row])
        chosen = page.links.get("Earlier ones", "") and f"/kafka/executions{page.links['Earlier ones']}"
    assert [len(each) for each in seen] == [2, 2]
    expected = [
        json.loads(line)["id"] for line in printed(made, "executions", "--name", "total", "--json").splitlines()
    ]
    assert [each for part in seen for each in part] == expected[:4]
    assert served.anna.page("/kafka/executions?limit=2&offset=2").links["Later ones"].endswith("offset=0")
    assert served.anna.page("/kafka/executions?limit=2&offset=1000").links["Later ones"].endswith("offset=998")
    for wrong in ("limit=0", f"offset={'9' * 5000}", "name=%ff%00", "offset=1.5"):
        served.anna.page(f"/kafka/executions?{wrong}", 200 if wrong.startswith("name") else 400)
    refused = served.anna.page("/kafka/executions?where=nothing", 400)
    assert "expected one of args" in refused.alerts[0]
    assert "'colour'" in served.anna.page("/kafka/executions?colour=red", 400).alerts[0]


def test_a_queue_is_paused_and_resumed_in_the_name_of_the_user(
    made: Crew, served: Served, tasks: dict[str, Any]
) -> None:
    told = served.anna.act("/kafka/queues", "Pause", "celery", reason="the <server> moves", until="2 h")
    assert "queue celery" in told.alerts[0]
    (line,) = (row[-1] for row in told.rows if row and row[0] == "celery")
    assert re.fullmatch(r"paused by anna until .*: the <server> moves", line)
    assert "paused by anna" in printed(made, "queues")
    told = served.anna.act("/kafka/queues", "Resume", "celery")
    assert "paused by" not in printed(made, "queues")
    assert "queue celery" in told.alerts[0]
    assert told.alerts[0] not in served.anna.page("/kafka/queues").alerts  # it is told once
    told = served.anna.act("/kafka/queues", "Pause", "celery", key="k/<1>")
    assert ", paused keys: 1" in next(row[-1] for row in told.rows if row and row[0] == "celery")
    assert "key k/<1>" in served.anna.act("/kafka/queues", "Resume key", "celery").alerts[0]
    audit = [f"anna: POST /flo/api/kafka/queues/celery/{act}: 200" for act in ("pause", "resume")]
    assert [each for each in served.audit() if "/queues/" in each][:2] == audit


def test_a_suspended_task_goes_on_with_the_value_of_the_form(served: Served, tasks: dict[str, Any]) -> None:
    wrong = served.anna.act("/kafka/suspended", "Resume", HOSTILE, 400, data="yes")
    assert wrong.alerts == ["data: it is no JSON value; a text needs double quotes"]
    told = served.anna.act("/kafka/suspended", "Resume", HOSTILE, data='{"yes": [1, "<b>"]}')
    assert "outcome continued, got 1, expected 1" in told.alerts[0]
    assert tasks["suspended"].get(timeout=60) == {"yes": [1, "<b>"]}


def test_a_letter_is_corrected_and_replayed_and_a_key_goes_on(
    made: Crew, served: Served, tasks: dict[str, Any]
) -> None:
    task = f"/kafka/executions/{tasks['dead'].id}"
    (edited,) = (form for form in served.anna.page(task).forms if form["label"] == "Edit and replay")
    assert json.loads(edited["fields"]["args"]) == [HOSTILE]
    links = served.anna.page("/kafka/dead").links.values()
    (letter,) = (link.removeprefix("/flo") for link in links if re.search(r"/dead/celery/\d+:\d+$", link))
    (edited,) = (form for form in served.anna.page(letter).forms if form["label"] == "Edit and replay")
    assert json.loads(edited["fields"]["args"]) == [HOSTILE]
    assert "args" in served.anna.act(letter, "Edit and replay", status=400, args='{"no": "list"}').alerts[0]
    assert "replayed 1" in served.anna.act(letter, "Edit and replay", args='["please"]').alerts[0]
    made.effects.wait_for([tasks["dead"].id])
    other = made.app.tasks["picky"].delay("no")
    until(lambda: other.state == "FAILURE", what="another letter")
    chosen = "/kafka/dead?queue=celery&task=picky"
    until(lambda: [row for row in served.anna.page(chosen).rows if other.id in row], what="its row")
    assert "replayed 1" in served.anna.act(chosen, "Replay all of these").alerts[0]
    assert "Unblock" in {form["label"] for form in served.anna.page("/kafka/keys").forms}
    served.anna.act("/kafka/keys", "Unblock", HOSTILE)
    made.effects.wait_for([tasks["behind"].id])


def test_an_entry_is_paused_resumed_and_asked_for_a_run(made: Crew, served: Served, tasks: dict[str, Any]) -> None:
    name = f"weekly/{HOSTILE}"
    for act, state in (("Pause", "paused"), ("Resume", "lost"), ("Run now", "lost")):
        page = served.anna.act("/kafka/periodic", act, name)
        assert [row[4] for row in page.rows if row] in ([state], ["free"]), act


def test_a_task_is_run_again_gets_a_remark_and_is_revoked(made: Crew, served: Served, tasks: dict[str, Any]) -> None:
    page = f"/kafka/executions/{tasks['done'].id}"
    told = served.anna.act(page, "Add a remark", text="nobody reads <it>")
    assert any("nobody reads <it>" in row[-1] for row in told.rows if row)
    assert "by anna: nobody reads <it>" in printed(made, "show", tasks["done"].id)
    assert tasks["waits"].id in served.anna.act(f"/kafka/executions/{tasks['waits'].id}", "Revoke").alerts[0]
    told = served.anna.act(page, "Run again as a new task", args="[20, 22]")
    (new,) = re.findall(r"id (\S+)", told.alerts[0])
    assert made.app.AsyncResult(new).get(timeout=60) == 42
    later = made.app.tasks["add"].apply_async((1, 2), countdown=3600)
    assert later.id in served.anna.act(f"/kafka/executions/{later.id}", "Run now").alerts[0]
    assert later.get(timeout=60) == 3


def test_nobody_acts_where_flower_is_read_only_or_knows_no_users(
    made: Crew, served: Served, tasks: dict[str, Any]
) -> None:
    def refusal(visitor: Visitor, path: str, **more: Any) -> int:
        visitor.page("/kafka/queues")  # which gives the cookie
        if "data" in more:
            more["data"] = {"path.queue": "celery", "_xsrf": visitor.session.cookies["_xsrf"]}
        return visitor.ask(path, "POST", **more).status_code

    with flower(made, BASIC, "--read_only") as reading, flower(made) as closed:
        reader, stranger = Visitor(reading.address, USER), Visitor(closed.address)
        for visitor, status in ((reader, 403), (stranger, 401)):
            assert [row for row in visitor.page("/kafka/queues").rows if row]
            assert visitor.page("/kafka/queues").forms == []
            assert refusal(visitor, "/kafka/acts/pause_queue", data={}) == status
            assert refusal(visitor, "/api/kafka/queues/celery/pause", json={}) == status
        assert reader.ask("/api/kafka/queues").status_code == 200
        assert stranger.ask("/api/kafka/queues").status_code == 401
    wrong = Visitor(served.anna.address, ("anna", "wrong"))
    assert [wrong.ask(path).status_code for path in ("/kafka/queues", "/api/kafka/queues")] == [401, 401]
    assert "paused" not in printed(made, "queues").partition("celery")[2].splitlines()[0]


def test_a_form_of_another_site_is_refused(made: Crew, served: Served, tasks: dict[str, Any]) -> None:
    anna = served.anna
    anna.page("/kafka/queues")
    fields = {"path.queue": "celery"}
    assert anna.ask("/kafka/acts/pause_queue", "POST", data=fields).status_code == 403
    assert anna.ask("/kafka/acts/pause_queue", "POST", data={**fields, "_xsrf": "wrong"}).status_code == 403
    evil = {"Origin": "http://evil.example"}
    assert anna.ask("/api/kafka/queues/celery/pause", "POST", json={}, headers=evil).status_code == 403
    right = {**fields, "_xsrf": anna.session.cookies["_xsrf"], "back": "//evil.example/kafka/"}
    done = anna.ask("/kafka/acts/resume_queue", "POST", data=right)
    assert (done.status_code, Page(done.text).alerts) == (409, ["queue celery is not paused"])
    assert Page(done.text).links["Go back"] == "/flo/kafka/"
    assert anna.ask("/kafka/acts/queues", "POST", data=right).status_code == 404
    assert "X-Content-Type-Options" in done.headers
    assert "Access-Control-Allow-Origin" not in anna.ask("/api/kafka/queues", "OPTIONS").headers


def test_flower_serves_the_api_for_its_users_and_our_metrics(made: Crew, served: Served, tasks: dict[str, Any]) -> None:
    through = Site(served.anna.address)
    login = {"auth": USER}
    with serving(made.app) as site:
        for path in (f"/executions/{tasks['done'].id}", "/periodic", "/dead?limit=1", "/executions?colour=red"):
            direct, flowers = (each.ask("GET", f"/api/kafka{path}", **login) for each in (site, through))
            assert (flowers.status_code, flowers.json()) == (direct.status_code, direct.json()), path
    sent = through.ask("POST", "/jobs", {"name": "add", "args": [2, 3], "ordering_key": "customer/7"}, **login)
    assert sent.status_code == 201
    assert made.app.AsyncResult(sent.json()["id"]).get(timeout=60) == 5
    assert through.ask("GET", f"/executions/{sent.json()['id']}", **login).json()["ordering_key"] == "customer/7"
    key = through.ask("POST", "/api/kafka/keys/customer%2F7/unblock", **login)
    assert (key.status_code, key.json()["error"].partition(" that")[0]) == (404, "no worker has tasks")
    assert through.ask("GET", "/api/kafka/openapi.json", **login).json()["servers"] == [{"url": "/flo"}]
    assert through.ask("PUT", "/api/kafka/queues", **login).status_code == 405
    text = served.anna.ask("/metrics").text
    assert 'kafka_exec_queue_workers{queue="celery"} 1.0' in text
    assert "flower_events" in text
    made.app.tasks["add"].delay(1, 1).get(timeout=60)
    until(lambda: "kafka_exec_task_transitions_total{" in served.anna.ask("/metrics").text, what="the counter of tasks")
