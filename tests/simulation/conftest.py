"""Simulations run in a process without other threads: what they change in the code, its clocks too, holds for all."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from typing import Any

import pytest


@pytest.fixture(scope="session")
def apart() -> Iterator[Callable[..., Any]]:
    """Calls a function in that process, and returns its result."""
    with ProcessPoolExecutor(1, get_context("spawn")) as pool:
        yield lambda act, *args, **more: pool.submit(act, *args, **more).result()
