"""Whether the cluster answers, and the one line each way that says so."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass
class Health:
    """A fold of errors and signs of life."""

    servers: str
    down_since: float | None = None

    def failed(self, reason: str, now: float) -> str | None:
        """Notes that no broker answers; the line to log, if this is news."""
        if self.down_since is not None:
            return None
        self.down_since = now
        return f"Kafka at {self.servers} does not answer ({reason}); trying until it does"

    def answered(self, now: float) -> str | None:
        """Notes a sign of life; the line to log, if this is news."""
        if self.down_since is None:
            return None
        away, self.down_since = now - self.down_since, None
        return f"Kafka at {self.servers} answers again after {away:.1f} s"
