"""The worlds in which some of the planted faults can be found soon."""

from __future__ import annotations

from typing import Any

_OF_KEYS = {"faults": ("kill", "rebalance"), "kinds": ("key", "unique"), "tasks": 80}
_LATE = {"kinds": ("key",), "retries": 0.5, "tasks": 80, "seconds": 45.0, "lossy": 0.4, "longest": 0.1}

#: What differs there from the plan of a seed.
WORLDS: dict[str, dict[str, Any]] = {
    "of two ends the last one counts, and keys go on beside runs": {
        "faults": ("lag", "cut", "rebalance"),
        "moment": "closed",
        "kinds": ("key",),
        "retries": 0.5,
        "longest": 4.0,
    },
    "a checkpoint that comes late holds lanes": {
        **_LATE,
        "partitions": 1,
        "nodes": 2,
        "faults": ("lag", "blackout"),
        "moment": "closed",
    },
    "a key that was freed is stopped by a record that comes late": {"kinds": ("key",), "lossy": 0.4, "longest": 0.1},
    "no begin is awaited": {"faults": ("lag", "rebalance"), "kinds": ("key", "unique"), "longest": 12.0, "tasks": 20},
    "a run may start at any time": {"faults": (), "moment": "confirmed", "aimed": ("pause",), "longest": 0.1},
    "an end before the own begin is not noted, and runs start late": {
        "faults": ("lag", "pause"),
        "moment": "begun",
        "longest": 0.1,
    },
    "a checkpoint has folded all before it": {**_LATE, "faults": ("lag", "rebalance", "kill")},
    "a checkpoint that comes late counts": {
        **_LATE,
        "partitions": 1,
        "nodes": 2,
        "faults": ("lag", "blackout"),
        "moment": "closed",
    },
    "what was parked before the loss is parked": _OF_KEYS,
    "any checkpoint is trusted": {**_OF_KEYS, "longest": 0.1, "faults": ("lag", "rebalance"), "retries": 0.5},
    "a begin outlasts the loss": {"faults": ("lag", "cut"), "moment": "begun", "kinds": ("key",), "longest": 0.1},
    "what is put back is gone": {"faults": (), "moment": "", "broken": 0.3},
    "grants are not told": {"faults": ("lag", "rebalance"), "moment": "granted", "longest": 4.0, "kinds": ("plain",)},
    "a commit outlasts the loss": {"faults": ("lag", "cut"), "kinds": ("key",), "retries": 0.5, "lossy": 0.2},
    "the last of two begins wins": {"faults": ("lag", "rebalance"), "moment": "begun", "longest": 12.0},
    "a release frees a later lease": {
        "faults": ("rebalance",),
        "broken": 0.3,
        "lossy": 0.4,
        "longest": 4.0,
        "moment": "retried",
    },
    "a missing record waits for ever": {"faults": ("purge",), "kinds": ("key", "unique"), "retries": 0.5},
    "what is reclaimed is not contested": {"faults": ("lag", "pause"), "moment": "begun", "longest": 4.0},
    "the own begins are not decided at a takeover": {
        "faults": ("slow", "rebalance"),
        "moment": "begun",
        "longest": 4.0,
    },
    "the last hold of a key counts": {
        "faults": ("purge", "pause", "rebalance", "cut"),
        "kinds": ("key",),
        "retries": 0.5,
        "longest": 4.0,
    },
    "what is broken off is taken from who has begun it since": {
        "nodes": 2,
        "partitions": 1,
        "faults": ("cut",),
        "kinds": ("key",),
        "moment": "begun",
        "aimed": ("pause", "slow"),
        "longest": 12.0,
        "seconds": 45.0,
    },
    "strays are not named": {"faults": ("rebalance",), "moment": "", "longest": 12.0, "tasks": 20},
    "the awaited retry is parked too": {
        "faults": ("kill", "rebalance"),
        "kinds": ("key",),
        "retries": 0.5,
        "longest": 4.0,
    },
    "a watch outlasts the ownership": {
        "faults": ("cut", "stop"),
        "moment": "",
        "nodes": 4,
        "partitions": 3,
        "longest": 4.0,
        "lossy": 0.2,
        "retries": 0.0,
        "kinds": ("plain",),
    },
}
