"""A command that asks a worker for its memory: what is resident, and what of it the C library holds free."""

from __future__ import annotations

import ctypes
import gc
from typing import Any

import psutil
from celery.worker.control import inspect_command


class _MallInfo(ctypes.Structure):
    """The C library's ``struct mallinfo2``, with the one field that is used here."""

    _fields_ = [("before", ctypes.c_size_t * 8), ("fordblks", ctypes.c_size_t), ("keepcost", ctypes.c_size_t)]


@inspect_command()  # type: ignore[untyped-decorator]
def memory(state: Any) -> dict[str, float]:
    """The megabytes of the worker's parent process: ``resident``, and ``free`` in the arenas of the C library.

    An arena goes back to the system only from its end, so ``resident`` may grow while nothing more is kept.
    """
    gc.collect()
    library = ctypes.CDLL(None)
    library.mallinfo2.restype = _MallInfo
    return {"resident": psutil.Process().memory_info().rss / 1e6, "free": library.mallinfo2().fordblks / 1e6}
