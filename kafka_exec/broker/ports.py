"""The addresses and ports on which the nodes listen."""

from __future__ import annotations

import errno
import os
import random
import socket
from dataclasses import dataclass

from kafka_exec.broker.errors import PortUnavailable, UnsupportedPlatform

# Below the ports that systems hand out for outgoing connections: one of those could take a stopped broker's port.
FREE_PORTS = range(20_000, 32_000)


@dataclass(frozen=True)
class NodeAddress:
    """The ports of one node: for clients, for its controller and, in a secured cluster, for the other nodes."""

    host: str
    port: int
    controller: int
    internal: int


def host_of(node: int) -> str:
    """The loopback address of a node: each has its own, so that all can listen on one port and share one URL."""
    return f"127.0.0.{node + 1}"


def check(host: str, port: int) -> None:
    """Makes sure that a process can listen on the port now.

    Raises:
        PortUnavailable: it cannot.
        UnsupportedPlatform: this system has not set up the address.
    """
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OverflowError:
            raise PortUnavailable(host, port, "a port is a number from 1 to 65535") from None
        except OSError as error:
            if error.errno == errno.EADDRNOTAVAIL:
                raise UnsupportedPlatform(
                    f"several nodes need the loopback address {host}, which this system has not set up: "
                    f"on macOS run `sudo ifconfig lo0 alias {host}`"
                ) from error
            reason = "in use" if error.errno == errno.EADDRINUSE else error.strerror or str(error)
            raise PortUnavailable(host, port, reason) from error


def free(hosts: list[str], avoid: set[int]) -> int:
    """A port that is free on all hosts now and not in ``avoid``.

    Raises:
        PortUnavailable: no free port was found.
    """
    # The random module's shared generator is not used: a test that seeds it would send two brokers to one port.
    source = random.Random(os.urandom(8))
    for _ in range(200):
        port = source.choice(FREE_PORTS)
        if port in avoid:
            continue
        try:
            for host in hosts:
                check(host, port)
        except PortUnavailable:
            continue
        return port
    raise PortUnavailable(hosts[0], FREE_PORTS.start, f"none is free from there to {FREE_PORTS.stop}")


def choose(hosts: list[str], wanted: int | None) -> list[NodeAddress]:
    """The addresses on the hosts, with the wanted port for clients or a free one; the other ports are free ones."""
    chosen: list[int] = []
    for port in (wanted, None, None):
        chosen.append(free(hosts, set(chosen)) if port is None else port)
    return [NodeAddress(host, *chosen) for host in hosts]
