"""``./dev conformance SUITE [options] [pytest arguments]``: runs a third-party suite against an embedded Kafka."""

from __future__ import annotations

import sys
from collections.abc import Callable

from tests.conformance import beat_run, celery_run, kombu_run, smoke_run

SUITES: dict[str, Callable[[list[str]], int]] = {
    "kombu": kombu_run.run,
    "celery": celery_run.run,
    "beat": beat_run.run,
    "smoke": smoke_run.run,
}


def main(argv: list[str]) -> int:
    """Runs the suite named by the first argument and returns its exit status."""
    known = ", ".join(SUITES)
    if not argv or argv[0] in ("-h", "--help"):
        print(f"usage: ./dev conformance SUITE [options] [pytest arguments]    (suites: {known})")
        print("    kombu: --url BROKER_URL judges another broker; celery: --peer redis or --peer rabbitmq does")
        return 0 if argv else 2
    if argv[0] not in SUITES:
        print(f"conformance: there is no suite {argv[0]!r}; known suites: {known}", file=sys.stderr)
        return 2
    return SUITES[argv[0]](argv[1:])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
