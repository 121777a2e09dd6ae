"""The decision if a request is answered: who asks, what may be done, and if a page of another site has sent it."""

from __future__ import annotations

import hmac
from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import ip_address
from urllib.parse import urlsplit

#: The name of a user of this machine, if no tokens are set.
ANYBODY = "anybody"

_SCHEME = "bearer"
_JSON = "application/json"


@dataclass(frozen=True)
class RequestHead:
    """The parts of a request by which it is admitted.

    Attributes:
        client: the address that has sent it; None: it is not known.
        headers: by their names in lower case.
        user: the name of the user that the application around this one has authenticated.
    """

    method: str
    client: str | None
    headers: Mapping[str, str]
    user: str | None = None

    @property
    def is_act(self) -> bool:
        """True if it is to change something."""
        return self.method not in ("GET", "HEAD")


class Refusal(Exception):
    """A request is refused, with a status of HTTP. ``user``: the name of the user, if that is known."""

    def __init__(self, status: int, text: str, user: str | None = None) -> None:
        super().__init__(text)
        self.status = status
        self.user = user


class Access:
    """The rules of one API.

    Args:
        tokens: the tokens of its users, by their names; without any, it answers only this machine.
        read_only: it refuses all acts.
    """

    def __init__(self, tokens: Mapping[str, str], read_only: bool) -> None:
        self._is_open = not tokens
        self._read_only = read_only
        self._tokens = {user: token.encode() for user, token in tokens.items()}

    def admit(self, asked: RequestHead) -> str:
        """The name of the user whose request it is.

        Raises:
            Refusal: the request is not to be answered.
        """
        user = asked.user or (self._local(asked) if self._is_open else self._known(asked))
        if asked.is_act:
            self._check_act(asked, user)
        return user

    def _known(self, asked: RequestHead) -> str:
        scheme, _, given = asked.headers.get("authorization", "").partition(" ")
        found = None
        if scheme.lower() == _SCHEME:
            token = given.strip().encode()
            # All tokens are compared, each in a time that does not depend on its characters.
            for user, right in self._tokens.items():
                if hmac.compare_digest(token, right):
                    found = user
        if found is None:
            raise Refusal(401, "send the header Authorization: Bearer TOKEN, with a token of kafka_exec_api_tokens")
        return found

    def _local(self, asked: RequestHead) -> str:
        # A page whose name leads to this machine would send its own name as the host.
        if not (is_local(asked.client) and is_local(_name_of(asked.headers.get("host", "")))):
            raise Refusal(
                401, "without kafka_exec_api_tokens only this machine is answered: its operator must set them"
            )
        return ANYBODY

    def _check_act(self, asked: RequestHead, user: str) -> None:
        if self._read_only:
            raise Refusal(403, "this API is read-only: its operator allows no acts", user)
        origin = asked.headers.get("origin")
        if origin is not None and _place_of(origin) != (asked.headers.get("host") or "no host").lower():
            raise Refusal(
                403, "a page of another site has sent this: acts are allowed to pages of this host only", user
            )
        kind = asked.headers.get("content-type", "").partition(";")[0].strip().lower()
        if asked.method == "POST" and kind != _JSON:
            raise Refusal(415, f"send the header Content-Type: {_JSON}, and a JSON object", user)


def _place_of(origin: str) -> str:
    """The host and port of an origin, in lower case; empty if it has none."""
    try:
        return urlsplit(origin).netloc.lower()
    except ValueError:
        return ""


def _name_of(host: str) -> str:
    """The name in a header ``Host``, without its port."""
    name, closing, _ = host.partition("]")
    return name.removeprefix("[") if closing else host.partition(":")[0]


def is_local(address: str | None) -> bool:
    """True if an address is one of this machine alone."""
    if address == "localhost":
        return True
    try:
        return address is not None and ip_address(address).is_loopback
    except ValueError:
        return False
