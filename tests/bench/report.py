"""The table at the end of a run."""

from __future__ import annotations

from tests.bench.measure import CONCURRENCY, PREFETCH, Sizes

OURS = "kafka-exec"

#: Figure, unit, what it says. Higher is better for rates only.
ROWS = (
    ("publish_held", "/s", "published, producer held"),
    ("publish_grouped", "/s", "published, group"),
    ("publish_single", "/s", "published, delay() one by one, each confirmed"),
    ("drain", "/s", "drained"),
    ("drain_events", "/s", "drained, events on (-E)"),
    ("latency_p50", "ms", "delay() to start of the task, p50"),
    ("latency_p99", "ms", "delay() to start of the task, p99"),
    ("roundtrip_p50", "ms", "delay().get() in a closed loop, p50"),
    ("roundtrip_p99", "ms", "delay().get() in a closed loop, p99"),
    ("group", "s", "group of 1,000, to its last result"),
    ("chord", "s", "chord of 200, to the body's result"),
    ("start", "s", "a worker, from the start of its process to ready"),
    ("idle_cpu", "%", "idle worker, CPU"),
    ("idle_memory", "MB", "idle worker, memory (PSS)"),
)


def table(medians: dict[str, dict[str, float]], sizes: Sizes, rounds: int) -> str:
    """Medians of every broker, then ours as a multiple of each other's."""
    names = list(medians)
    others = [name for name in names if name != OURS] if OURS in medians else []
    lines = [_line("", "", names, [f"/ {name}" for name in others])]
    for figure, unit, meaning in ROWS:
        values = [medians[name].get(figure) for name in names]
        if any(value is not None for value in values):
            ratios = [_ratio(medians[OURS].get(figure), medians[name].get(figure)) for name in others]
            lines.append(_line(meaning, unit, [_number(value) for value in values], ratios))
    notes = (
        f"Medians of {rounds} rounds, latencies of all rounds together. JSON, late acks, results ignored.",
        f"Worker: prefork {CONCURRENCY}, prefetch {PREFETCH}, no gossip, no mingle. Drained: {sizes.backlog:,} tasks,",
        "from the end of the first to the end of the last. Started: prefork 1, no mingle.",
        "RabbitMQ confirms in the third row only, Redis has no persistence, the ceiling has no broker.",
    )
    return "\n".join(["", *lines, "", *notes])


def _line(meaning: str, unit: str, values: list[str], ratios: list[str]) -> str:
    cells = "".join(f"{value:>12}" for value in [*values, *ratios])
    return f"{meaning:46}{unit:>3}{cells}"


def _number(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}" if value >= 2 else f"{value:.2f}"


def _ratio(ours: float | None, other: float | None) -> str:
    return f"{ours / other:.2f}" if ours is not None and other else "-"
