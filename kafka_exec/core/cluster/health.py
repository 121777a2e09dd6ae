"""Whether the cluster, or another server, answers, and the one line each way that says so."""

from __future__ import annotations

from dataclasses import dataclass

#: An outage is news after this time, seconds: a broker that stops closes connections before it stops answering.
NEWS_AFTER = 1.0


@dataclass
class Health:
    """A fold of errors, which are told again and again, and signs of life."""

    servers: str
    down_since: float | None = None
    told: bool = False
    name: str = "Kafka"

    def failed(self, reason: str, now: float) -> str | None:
        """Notes that nobody answers; the line to log, if this is news."""
        if self.down_since is None:
            self.down_since = now
        if self.told or now - self.down_since < NEWS_AFTER:
            return None
        self.told = True
        return f"{self.name} at {self.servers} does not answer ({reason}); trying until it does"

    def answered(self, now: float) -> str | None:
        """Notes a sign of life; the line to log, if this is news."""
        if self.down_since is None:
            return None
        away, self.down_since = now - self.down_since, None
        if not self.told:
            return None
        self.told = False
        return f"{self.name} at {self.servers} answers again after {away:.1f} s"
