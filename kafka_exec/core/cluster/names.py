"""Names of topics, and the reversible escaping of queue and exchange names into them."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

from kafka_exec.errors import ConfigurationError, InvalidName

#: Kafka's limit on the length of a topic name, in characters.
LONGEST = 249

#: The name under which AMQP's nameless default exchange stands in a topic name.
DEFAULT_EXCHANGE = "amq.default"

TEMPLATES: Mapping[str, str] = {
    "queue": "{prefix}.queue.{name}",
    "journal": "{prefix}.journal.{name}",
    "exchange": "{prefix}.exchange.{name}",
    "dead": "{prefix}.dead.{name}",
    "bindings": "{prefix}.bindings",
    "nodes": "{prefix}.nodes",
    "state": "{prefix}.state",
    "notes": "{prefix}.notes",
    "steps": "{prefix}.steps",
    "control": "{prefix}.control",
    "control-state": "{prefix}.control-state",
    "delay": "{prefix}.delay",
    "delay-state": "{prefix}.delay-state",
    "revoked": "{prefix}.revoked",
    "sync": "{prefix}.sync",
    "schedule": "{prefix}.schedule",
}

_MOST_REMEMBERED = 10_000

_LEGAL = re.compile(r"[a-zA-Z0-9._-]")
_LOOKS_ESCAPED = re.compile(r"_x(?=[0-9a-f]{2})")
_STEP = re.compile(r"[1-9][0-9]?")
_LOOKS_LIKE_STEP = re.compile(r"\.(?=p[0-9]+\Z)")
_ESCAPED = re.compile(r"((?:_x[0-9a-f]{2})+)")


def escape(name: str) -> str:
    """Turns any name into legal characters of a topic name. Other characters become ``_xHH`` for each byte of their UTF-8.

    A part that looks like an escape is escaped itself, and so is an ending that looks like a priority step (``.p1``), so
    that two names never share a topic.
    """
    name = _LOOKS_ESCAPED.sub("_x5fx", name)
    name = "".join(
        c if _LEGAL.match(c) else "".join(f"_x{byte:02x}" for byte in c.encode("utf-8", "surrogatepass")) for c in name
    )
    return _LOOKS_LIKE_STEP.sub("_x2e", name)


def unescape(name: str) -> str:
    """The inverse of :func:`escape`."""
    return _ESCAPED.sub(lambda run: bytes.fromhex(run[0].replace("_x", "")).decode("utf-8", "surrogatepass"), name)


@dataclass(frozen=True)
class Topics:
    """The names of all topics of one prefix. ``overrides`` replaces single templates of :data:`TEMPLATES`.

    Raises:
        ConfigurationError: an override has an unknown key, is no template of a topic name, lacks ``{name}`` where it is
            needed, or is the same as the template of another kind.
    """

    prefix: str
    overrides: Mapping[str, str] = field(default_factory=dict)
    _made: dict[tuple[str, str], str] = field(default_factory=dict, compare=False, repr=False)

    def __post_init__(self) -> None:
        for kind, template in self.overrides.items():
            if kind not in TEMPLATES:
                raise ConfigurationError(f"topics: unknown kind {kind!r}, choose from {', '.join(TEMPLATES)}")
            if not isinstance(template, str):
                raise ConfigurationError(f"topics: the template of {kind!r} must be a text, not {template!r}")
            if "{name}" in TEMPLATES[kind] and "{name}" not in template:
                raise ConfigurationError(f"topics: the template of {kind!r} needs {{name}}: {template!r}")
            if not _is_template(template):
                raise ConfigurationError(f"topics: the template of {kind!r} makes no topic name: {template!r}")
        templates = Counter({**TEMPLATES, **self.overrides}.values())
        if len(templates) < len(TEMPLATES):
            raise ConfigurationError(f"topics: two kinds have the same template: {templates.most_common(1)[0][0]!r}")

    def queue(self, name: str, step: int = 0) -> str:
        """The topic of a work queue; each priority step above 0 has a topic of its own."""
        topic = self._topic("queue", name)
        return _checked(f"{topic}.p{step}", "queue", name) if step else topic

    def journal(self, name: str, step: int = 0) -> str:
        """The topic of a work queue's journal."""
        topic = self._topic("journal", name)
        return _checked(f"{topic}.p{step}", "journal", name) if step else topic

    def exchange(self, name: str) -> str:
        """The topic of an exchange's broadcasts."""
        return self._topic("exchange", name or DEFAULT_EXCHANGE)

    def dead(self, name: str) -> str:
        """The topic of a work queue's dead letters."""
        return self._topic("dead", name)

    def queue_of_dead(self, topic: str) -> str | None:
        """The name of the work queue whose dead letters a topic holds; None for other topics."""
        return self._name_in("dead", topic)

    def queue_of(self, topic: str) -> tuple[str, int] | None:
        """The name and the priority step of the work queue whose messages a topic holds; None for other topics."""
        return self._step_in("queue", topic)

    def queue_of_journal(self, topic: str) -> tuple[str, int] | None:
        """The name and the priority step of the work queue whose journal a topic is; None for other topics."""
        return self._step_in("journal", topic)

    def exchange_of(self, topic: str) -> str | None:
        """The name of the exchange whose broadcasts a topic holds; None for other topics."""
        return self._name_in("exchange", topic)

    def _step_in(self, kind: str, topic: str) -> tuple[str, int] | None:
        base, _, step = topic.rpartition(".p")
        if _STEP.fullmatch(step) and (name := self._name_in(kind, base)) is not None:
            return name, int(step)
        name = self._name_in(kind, topic)
        return None if name is None else (name, 0)

    def _name_in(self, kind: str, topic: str) -> str | None:
        template = self.overrides.get(kind, TEMPLATES[kind])
        before, _, after = template.partition("{name}")
        before, after = (part.format(prefix=escape(self.prefix), name="") for part in (before, after))
        if not (topic.startswith(before) and topic.endswith(after) and len(topic) >= len(before) + len(after)):
            return None
        try:
            name = unescape(topic[len(before) : len(topic) - len(after)])
        except UnicodeDecodeError:
            return None
        return name if self._make(kind, name) == topic else None

    @property
    def bindings(self) -> str:
        """The topic of the declarations and bindings of work queues."""
        return self._topic("bindings", "")

    @property
    def nodes(self) -> str:
        """The topic of heartbeats."""
        return self._topic("nodes", "")

    @property
    def state(self) -> str:
        """The topic of the state records of all tasks."""
        return self._topic("state", "")

    @property
    def notes(self) -> str:
        """The topic of the errors and remarks of all tasks."""
        return self._topic("notes", "")

    @property
    def steps(self) -> str:
        """The topic of the steps of durable tasks."""
        return self._topic("steps", "")

    @property
    def control(self) -> str:
        """The topic of the control plane's commands."""
        return self._topic("control", "")

    @property
    def control_state(self) -> str:
        """The topic of the control plane's changelog."""
        return self._topic("control-state", "")

    @property
    def delay(self) -> str:
        """The topic of delayed messages."""
        return self._topic("delay", "")

    @property
    def delay_state(self) -> str:
        """The topic of the offsets up to which delayed messages were moved."""
        return self._topic("delay-state", "")

    @property
    def revoked(self) -> str:
        """The topic of the ids of revoked tasks."""
        return self._topic("revoked", "")

    @property
    def sync(self) -> str:
        """The topic of the claims and firings of periodic entries."""
        return self._topic("sync", "")

    @property
    def schedule(self) -> str:
        """The topic of the periodic entries."""
        return self._topic("schedule", "")

    def _topic(self, kind: str, name: str) -> str:
        made = self._made.get((kind, name))
        if made is None:
            made = self._make(kind, name)
            if len(self._made) < _MOST_REMEMBERED:
                self._made[kind, name] = made
        return made

    def _make(self, kind: str, name: str) -> str:
        template = self.overrides.get(kind, TEMPLATES[kind])
        topic = template.format(prefix=escape(self.prefix), name=escape(name))
        return _checked(topic, kind, name)


def _checked(topic: str, kind: str, name: str) -> str:
    if len(topic) > LONGEST:
        raise InvalidName(f"{kind} {name!r} makes a topic name of {len(topic)} characters, Kafka allows {LONGEST}")
    return topic


def _is_template(text: str) -> bool:
    try:
        made = text.format(prefix="p", name="n")
    except (AttributeError, LookupError, ValueError):
        return False
    return bool(made) and all(_LEGAL.match(c) for c in made)
