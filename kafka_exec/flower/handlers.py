"""The handlers of our pages, their acts and the API in Flower's server, which lets users in."""

from __future__ import annotations

import asyncio
import json
import time
from base64 import b64decode
from collections.abc import Callable, Mapping, Sequence
from typing import Any
from urllib.parse import quote, urlencode

from flower.api import BaseApiHandler
from flower.views import BaseHandler
from flower.views.monitor import Metrics
from tornado import web

from kafka_exec.api.access import ANYBODY
from kafka_exec.api.openapi import BASE
from kafka_exec.api.operation import Operation
from kafka_exec.core.overview.why import Reason
from kafka_exec.errors import ConfigurationError
from kafka_exec.flower.asking import ApiAnswer, Asking
from kafka_exec.flower.forms import BY_NAME, body_of, fields, path_of
from kafka_exec.flower.pages import BRANCHES, EVENTS, LETTER_ACTS, PAGES, TASK_ACTS
from kafka_exec.flower.tables import Column, Facts, TableRow, forms, shown, table

#: The cookie that tells the next page what an act has come to, and the number of its characters.
_TOLD, _LONGEST = "kafka_told", 500

#: The fields of a task that its history has, or its page in another place.
_TOLD_ELSEWHERE = frozenset({"schema", "errors", "remarks", "traceback"})

_CLOSED = (
    "Flower does not know its users, so that nobody may act: its operator must give it --basic_auth or --auth, or set "
    "FLOWER_UNAUTHENTICATED_API"
)


class Ours(web.RequestHandler):
    """A handler that asks the API. ``root``: the path below which Flower is served."""

    def initialize(self, api: Callable[..., Any], root: str) -> None:
        self.api = api
        self.root = root

    @property
    def ask(self) -> Asking:
        """Asks the API in the name of the user."""
        return Asking(self.api, self.root, self._name())

    @property
    def flowers_options(self) -> Any:
        """The options with which Flower was started."""
        return self.application.options  # type: ignore[attr-defined]

    def _name(self) -> str:
        if isinstance(self.current_user, str):
            return self.current_user
        if not self.flowers_options.basic_auth:
            return ANYBODY
        credentials = self.request.headers["Authorization"].partition(" ")[2]  # which Flower has checked
        return b64decode(credentials).decode().partition(":")[0]

    def set_default_headers(self) -> None:
        self.set_header("X-Content-Type-Options", "nosniff")
        self.set_header("Cache-Control", "no-store")


class ApiHandler(Ours, BaseApiHandler):
    """The HTTP API, for the users of Flower."""

    @web.authenticated
    async def get(self) -> None:
        request = self.request
        path = request.path.removeprefix(self.root)
        answer = await self.ask(request.method or "", path, request.query, request.body, request.headers.get_all())
        self.set_status(answer.status)
        for name, value in answer.headers:
            self.set_header(name, value)
        self.finish(answer.body)

    head = post = put = patch = delete = get

    def write_error(self, status_code: int, **kwargs: Any) -> None:
        error = kwargs.get("exc_info", (None, None))[1]
        self.finish({"error": (error.log_message if isinstance(error, web.HTTPError) else None) or self._reason})


class PageHandler(Ours, BaseHandler):
    """A page."""

    def check_xsrf_cookie(self) -> None:
        """Refuses a form of another site, also where Flower itself has no session to protect."""
        web.RequestHandler.check_xsrf_cookie(self)

    def set_default_headers(self) -> None:
        super().set_default_headers()
        self.set_header("Content-Security-Policy", "frame-ancestors 'none'")

    @property
    def may_act(self) -> bool:
        """True if Flower lets users act."""
        return not self.flowers_options.read_only and self.is_open

    @property
    def is_open(self) -> bool:
        """True if Flower knows its users, or was told that everybody may act."""
        options = self.flowers_options
        return bool(options.basic_auth or options.auth or self.unauthenticated_api)

    def show(self, template: str, title: str, *answers: ApiAnswer, **more: Any) -> None:
        """Shows a page, and on it the error of an answer, or what an act has come to."""
        wrong = next((answer for answer in answers if answer.status >= 400), None)
        if wrong is not None:
            self.set_status(wrong.status)
        told = self.get_secure_cookie(_TOLD)
        if told is not None:
            self.clear_cookie(_TOLD)
        self.render(
            template,
            title=title,
            error="" if wrong is None else wrong.found["error"],
            told="" if told is None else told.decode(),
            pages=PAGES,
            here=f"{self.root}/kafka/",
            back=self.request.uri,
            may_act=self.may_act,
            **more,
        )


def _texts(given: Mapping[str, list[bytes]]) -> dict[str, str]:
    """The last values of the parameters of a request."""
    return {name: values[-1].decode(errors="replace") for name, values in given.items()}


class FirstPage(PageHandler):
    """The address of no page leads to the first one."""

    def get(self) -> None:
        self.redirect(f"{self.root}/kafka/queues")


class ListHandler(PageHandler):
    """A page that lists things."""

    @web.authenticated
    async def get(self, name: str) -> None:
        page, now = PAGES[name], time.time()
        operation = BY_NAME[page.operation]
        query = {name: text for name, text in _texts(self.request.query_arguments).items() if text}
        answer = await self.ask("GET", BASE + operation.path, urlencode(query))
        found = answer.found if answer.status == 200 else {page.rows: []}
        rows = found[page.rows]
        self.show(
            "kafka_list.html",
            page.title,
            answer,
            name=name,
            columns=[column.title for column in page.columns],
            rows=table(page.columns, page.acts, rows, now),
            forms=forms(page.acts_on_all, query) if rows else [],
            filter=[each for each in fields(operation.query, query) if each.name != "offset"],
            is_filtered=bool(query.keys() - {"limit", "offset"}),
            problems=found.get("problems", []),
            part=_part(operation, query, len(rows), found["more"]) if "more" in found else None,
        )


def _part(operation: Operation, query: Mapping[str, str], number: int, more: int) -> dict[str, Any]:
    """The part of a list that the API has answered, and the addresses of the parts before and behind it."""
    offset, limit = (int(query.get(name, operation.query[name]["default"])) for name in ("offset", "limit"))

    def address(offset: int) -> str:
        return f"?{urlencode({**query, 'limit': limit, 'offset': offset})}"

    return {
        "first": offset + 1,
        "last": offset + number,
        "total": offset + number + more,
        "before": address(max(0, offset - limit)) if offset else "",
        "behind": address(offset + number) if more else "",
    }


class TaskHandler(PageHandler):
    """The page of one task: what is known of it, why it does not run, and what has happened to it."""

    @web.authenticated
    async def get(self, task_id: str) -> None:
        one, now = f"{BASE}/executions/{quote(task_id, safe='')}", time.time()
        answers = await asyncio.gather(*(self.ask("GET", f"{one}{part}") for part in ("", "/why", "/history", "/tree")))
        task, why, history, tree = (answer.found if answer.status == 200 else {} for answer in answers)
        is_unknown = why.get("reason") == Reason.UNKNOWN.value
        facts = {"id": task_id, "state": "", **task, "reason": why.get("reason")}
        if "letter" in why:  # which has the arguments
            letter = await self.ask("GET", f"{BASE}/dead/{quote(why['queue'], safe='')}/{why['letter']}")
            facts["body"] = letter.found.get("body")
        self.show(
            "kafka_task.html",
            f"{task.get('name') or 'Task'} {task_id}",
            # A task that waits may have no state record yet.
            *(answer for answer in answers[:2] if answer.status != 404 or is_unknown),
            name="executions",
            why=why.get("sentence", ""),
            facts=[(name, shown(name, value)) for name, value in task.items() if name not in _TOLD_ELSEWHERE],
            text=task.get("traceback", ""),
            tables=[
                _table("History", EVENTS, history, now),
                _table("The task, and those that it has sent", BRANCHES, tree, now),
            ],
            forms=[] if is_unknown else forms(TASK_ACTS, facts),
        )


def _table(caption: str, columns: Sequence[Column], found: Facts, now: float) -> tuple[str, list[str], list[TableRow]]:
    return caption, [each.title for each in columns], table(columns, (), found.get("items", ()), now)


class LetterHandler(PageHandler):
    """The page of one dead letter."""

    @web.authenticated
    async def get(self, queue: str, address: str) -> None:
        answer = await self.ask("GET", f"{BASE}/dead/{quote(queue, safe='')}/{address}")
        letter = answer.found if answer.status == 200 else {}
        facts = [(name, shown(name, value)) for name, value in letter.items() if name not in ("headers", "body")]
        headers = [(f"header {name}", value or "") for name, value in letter.get("headers", ())]
        self.show(
            "kafka_task.html",
            f"Dead letter {address} of {queue}",
            answer,
            name="dead",
            why="",
            facts=facts + headers,
            text=json.dumps(letter["body"], indent=2, ensure_ascii=False) if "body" in letter else "",
            tables=[],
            forms=forms(LETTER_ACTS, letter) if letter else [],
        )


class ActHandler(PageHandler):
    """An act: what a form asks the API to do."""

    @web.authenticated
    async def post(self, name: str) -> None:
        operation = BY_NAME.get(name)
        if operation is None or operation.method != "POST":
            raise web.HTTPError(404, f"there is no act {name}")
        filled = _texts(self.request.body_arguments)
        if not self.is_open:
            answer = ApiAnswer.refused(401, _CLOSED)
        else:
            try:
                path, body = path_of(operation, filled), body_of(operation, filled)
                answer = await self.ask("POST", path, body=json.dumps(body).encode())
            except ConfigurationError as error:
                answer = ApiAnswer.refused(400, str(error))
        back = filled.get("back", "")
        back = back if back.startswith(f"{self.root}/kafka/") else f"{self.root}/kafka/"
        if answer.status < 400:
            facts = [f"{each} {shown(each, value)}" for each, value in answer.found.items() if shown(each, value)]
            told = f"{name.replace('_', ' ')}: {', '.join(facts)}"
            self.set_secure_cookie(_TOLD, told[:_LONGEST], expires_days=None)
            self.redirect(back, status=303)
        else:
            self.show("kafka_refused.html", "Not done", answer, name="", link=back)


class MetricsHandler(Metrics):
    """Flower's metrics, and ours behind them. ``text``: makes ours; it blocks."""

    def initialize(self, text: Callable[[], bytes]) -> None:
        self.text = text

    async def get(self) -> None:
        await super().get()
        self.write(await asyncio.get_running_loop().run_in_executor(None, self.text))
