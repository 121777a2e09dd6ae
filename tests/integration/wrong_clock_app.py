"""The workers' app on a machine whose clock is ahead by the seconds that a file has, or behind. The file may change."""

from __future__ import annotations

import os
import time
from datetime import datetime, timezone
from pathlib import Path

from kombu.asynchronous import timer

from tests.integration.app import app

right = time.time
clock = Path(os.environ["CLOCK"])


def wrong() -> float:
    return right() + float(clock.read_text())


def now() -> datetime:
    return datetime.fromtimestamp(wrong(), timezone.utc)


time.time = timer._time = wrong
app.now = now
