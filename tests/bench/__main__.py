"""``./dev bench``: our figures and the others', taken in one run on one machine, in interleaved rounds."""

from __future__ import annotations

import argparse
import json
import signal
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

from kafka_exec.broker import BrokerError
from tests.bench import report
from tests.bench.measure import QUICK, STEPS, Figures, Sizes, summary
from tests.bench.servers import EXTRA, PEERS, NoPeer, Peer, kafka_exec

Step = Callable[[Peer, Sizes], Figures]

KNOWN = {**PEERS, **EXTRA}

NAMES: dict[str, Step] = {step.__name__: step for step in STEPS}


def main(argv: list[str]) -> int:
    """Returns 1 when ours could not be measured; a peer that is missing or fails is named and left out."""
    options = _options(argv)
    # Leaves the blocks below, and with them ends the servers.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    sizes = QUICK if options.quick else Sizes()
    with ExitStack() as servers:
        try:
            peers = _start(options.peers, servers, ours=not options.without_ours)
        except BrokerError as error:
            print(f"bench: {error}", file=sys.stderr)
            return 1
        taken = _take(peers, options.steps, options.rounds, sizes)
    medians = {name: summary(figures) for name, figures in taken.items() if figures}
    print(report.table(medians, sizes, options.rounds))
    if options.json:
        options.json.write_text(json.dumps({"medians": medians, "steps": taken}, indent=1))
    return int(not options.without_ours and len(taken[report.OURS]) < options.rounds * len(options.steps))


def _take(peers: list[Peer], steps: list[Step], rounds: int, sizes: Sizes) -> dict[str, list[Figures]]:
    """Takes every step of every round with all peers in turn; a peer that fails is left out from then on."""
    taken: dict[str, list[Figures]] = {peer.name: [] for peer in peers}
    for number in range(rounds):
        for step in steps:
            # There and back again, so that a machine growing slower does not favour the first.
            for peer in peers[:] if number % 2 == 0 else peers[::-1]:
                began = time.monotonic()
                try:
                    taken[peer.name].append(step(peer, sizes))
                except Exception as error:
                    print(f"bench: {peer.name} failed: {error}", file=sys.stderr, flush=True)
                    peers.remove(peer)
                    continue
                seconds = time.monotonic() - began
                print(f"round {number + 1}/{rounds}  {step.__name__:8} {peer.name:10} {seconds:4.0f} s", flush=True)
    return taken


def _start(names: list[str], servers: ExitStack, ours: bool) -> list[Peer]:
    peers = [servers.enter_context(kafka_exec())] if ours else []
    for name in names:
        try:
            peers.append(servers.enter_context(KNOWN[name]()))
            print(f"bench: {name} is up", flush=True)
        except NoPeer as reason:
            print(f"no peer: {reason}", flush=True)
    return peers


def _options(argv: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="./dev bench", description=__doc__)
    parser.add_argument("--peers", type=_names, default=list(PEERS), help=f"comma-separated, of {','.join(KNOWN)}")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every figure of every round")
    parser.add_argument("--steps", type=_steps, default=list(STEPS), help=f"comma-separated, of {','.join(NAMES)}")
    parser.add_argument("--quick", action="store_true", help="few tasks: to see that it works, not how fast it is")
    parser.add_argument("--without-ours", action="store_true", help="the peers only")
    options = parser.parse_args(argv)
    if options.rounds < 1:
        parser.error("--rounds must be at least 1")
    return options


def _steps(text: str) -> list[Step]:
    for name in text.split(","):
        if name not in NAMES:
            raise argparse.ArgumentTypeError(f"there is no step {name!r}; known: {', '.join(NAMES)}")
    return [NAMES[name] for name in text.split(",")]


def _names(text: str) -> list[str]:
    names = [name for name in text.split(",") if name]
    for name in names:
        if name not in KNOWN:
            raise argparse.ArgumentTypeError(f"there is no peer {name!r}; known: {', '.join(KNOWN)}")
    return names


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
