"""The errors of the embedded broker, one class per cause. Each message says who must act."""

from __future__ import annotations

from pathlib import Path

from kafka_exec.errors import KafkaExecError

INSTALL = 'pip install "kafka_exec[broker]"'


class BrokerError(KafkaExecError):
    """The embedded broker failed. A message's first line says who must act; the other lines show the cause."""


class BrokerNotInstalled(BrokerError):
    """A package that the embedded broker needs is missing."""

    def __init__(self, package: str) -> None:
        super().__init__(
            f"the embedded broker needs the package {package}, which is not installed: run {INSTALL} "
            "(where that finds no such package for this platform, use a Kafka of your own)"
        )


class UnsupportedPlatform(BrokerError):
    """The embedded broker does not run on this platform."""


class RegistryUnreachable(BrokerError):
    """Kafka could not be downloaded."""

    def __init__(self, what: str, reason: str) -> None:
        super().__init__(
            f"{what} could not be downloaded from the Maven registry ({reason}): check this machine's network and "
            "proxy settings and start again; what is needed is downloaded once, later starts need no network"
        )


class PortUnavailable(BrokerError):
    """The port cannot be used."""

    def __init__(self, host: str, port: int, reason: str) -> None:
        super().__init__(f"port {port} of {host} cannot be used ({reason}): stop what uses it or choose another port")
        self.port = port


class FolderNotWritable(BrokerError):
    """A folder that the embedded broker needs cannot be written."""

    def __init__(self, folder: Path, reason: str) -> None:
        super().__init__(f"the folder {folder} cannot be written ({reason}): make it writable or choose another one")


class DataInUse(BrokerError):
    """Another broker runs on the same data."""

    def __init__(self, folder: Path) -> None:
        super().__init__(f"another broker runs on the data in {folder}: stop it or choose another folder")


class DataMismatch(BrokerError):
    """The data was made by a broker of another shape."""


class BrokerStartFailed(BrokerError):
    """The broker ended, or did not answer in time, while it was starting."""

    def __init__(self, what: str, log: str) -> None:
        super().__init__(f"{what}: look at the end of its log\n{log}")


class BrokerNotRunning(BrokerError):
    """The embedded broker is not running: start() it first."""
