"""Suspensions the dumb way: three heaps of ids, and plain conditions instead of a table."""

from __future__ import annotations

from typing import Any


class PlainWaits:
    def __init__(self, early: float, remembered: float) -> None:
        self.early_for = early
        self.remembered_for = remembered
        self.early: dict[str, dict[str, str]] = {}
        self.waiting: dict[str, dict[str, Any]] = {}
        self.ended: dict[str, dict[str, Any]] = {}
        self.until: dict[str, float | None] = {}
        # All suspensions of an id that have gone on, or were refused, until it is forgotten.
        self.gone_on: dict[str, list[tuple[Any, ...]]] = {}

    @property
    def ids(self) -> set[str]:
        return {*self.early, *self.waiting, *self.ended}

    def pass_time(self, now: float) -> list[tuple[Any, ...]]:
        done: list[tuple[Any, ...]] = []
        for id in [each for each, until in self.until.items() if until is not None and until <= now]:
            if id in self.waiting:
                done.append(self._end(id, "timed-out", now))
            else:
                done += [("buried", id, callback, data) for callback, data in self.early.pop(id, {}).items()]
                self.ended.pop(id, None)
                self.gone_on.pop(id, None)
                del self.until[id]
        return done

    def take(self, kind: str, body: dict[str, Any], now: float) -> list[tuple[Any, ...]]:
        done = self.pass_time(now)
        if kind == "wait.suspend":
            return done + self._suspend(body, now)
        return done + self._callback(body["id"], body["callback"], body["data"], body["reply"], now)

    def _suspend(self, body: dict[str, Any], now: float) -> list[tuple[Any, ...]]:
        id = body["id"]
        before = [*self.gone_on.get(id, []), *([_place(self.waiting[id])] if id in self.waiting else [])]
        if any(_place(body)[:2] == task[:2] and body["number"] <= task[2] for task in before):
            return []
        if id in self.waiting:
            self.gone_on.setdefault(id, []).append(_place(body))
            return [("refused", body["task"], body["number"], tuple(body["page"]))]
        self.ended.pop(id, None)
        self.waiting[id] = {**body, "answers": {}}
        self.until[id] = body["deadline"]
        done: list[tuple[Any, ...]] = []
        for callback, data in self.early.pop(id, {}).items():
            found = self._callback(id, callback, data, "", now)
            done += [each for each in found if each[0] != "reply"]
            if found[-1][2] in ("unexpected", "already", "too late"):
                done.append(("buried", id, callback, data))
        return done

    def _callback(self, id: str, callback: str, data: str, reply: str, now: float) -> list[tuple[Any, ...]]:
        if id in self.ended:
            how = "too late" if self.ended[id]["how"] == "timed-out" else "already"
            return [("reply", reply, how, 0, _needs(self.ended[id]))]
        if id not in self.waiting:
            kept = self.early.setdefault(id, {})
            self.until.setdefault(id, now + self.early_for)
            how = "already" if callback in kept else "kept"
            kept.setdefault(callback, data)
            return [("reply", reply, how, len(kept), 0)]
        wait = self.waiting[id]
        answers, needs = wait["answers"], _needs(wait)
        if callback in answers:
            return [("reply", reply, "already", len(answers), needs)]
        if needs == 0 or (isinstance(wait["expected"], list) and callback not in wait["expected"]):
            return [("reply", reply, "unexpected", len(answers), needs)]
        answers[callback] = data
        if len(answers) < needs:
            return [("reply", reply, "counted", len(answers), needs)]
        return [self._end(id, "answered", now), ("reply", reply, "continued", needs, needs)]

    def _end(self, id: str, how: str, now: float) -> tuple[Any, ...]:
        wait = self.waiting.pop(id)
        self.ended[id] = {**wait, "how": how}
        self.until[id] = now + self.remembered_for
        self.gone_on.setdefault(id, []).append(_place(wait))
        return (how, wait["task"], wait["number"], tuple(wait["page"]), wait["answers"])


def _place(body: dict[str, Any]) -> tuple[Any, ...]:
    return body["task"], body["created"], body["number"]


def _needs(wait: dict[str, Any]) -> int:
    return wait["expected"] if isinstance(wait["expected"], int) else len(set(wait["expected"]))
