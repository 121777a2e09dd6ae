"""The health of the cluster, or of another server: one log line when it stops answering, one when it answers again."""

from __future__ import annotations

from dataclasses import dataclass

#: An outage is logged after so many seconds: a broker that is stopped closes connections before it stops answering.
NEWS_AFTER = 1.0


@dataclass
class Health:
    """A fold of a server's errors, which come again and again, and of its answers.

    Attributes:
        servers: the addresses, for the log line.
        down_since: when the outage began; None: the server answers.
        told: the outage was logged.
        name: the server's name, for the log line.
    """

    servers: str
    down_since: float | None = None
    told: bool = False
    name: str = "Kafka"

    def failed(self, reason: str, now: float) -> str | None:
        """Notes that the server does not answer. Returns the line to log, if the outage was not logged before."""
        if self.down_since is None:
            self.down_since = now
        if self.told or now - self.down_since < NEWS_AFTER:
            return None
        self.told = True
        return f"{self.name} at {self.servers} does not answer ({reason}); trying until it does"

    def answered(self, now: float) -> str | None:
        """Notes that the server answers. Returns the line to log, if the outage was logged."""
        if self.down_since is None:
            return None
        away, self.down_since = now - self.down_since, None
        if not self.told:
            return None
        self.told = False
        return f"{self.name} at {self.servers} answers again after {away:.1f} s"
