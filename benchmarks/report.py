"""One table out of many rows: medians side by side, and how far ahead ours is."""

from __future__ import annotations

import statistics
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from .workloads import WORKLOADS, Metric

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from .systems import System

__all__ = ["Row", "table"]


@dataclass(frozen=True)
class Row:
    """One measured figure."""

    round: int
    system: str
    version: str
    workload: str
    metric: str
    value: float


def table(rows: Sequence[Row], systems: Sequence[System], machine: dict[str, Any]) -> str:
    """Return the report in Markdown, with a table for each kind of store.

    The ratio behind a figure says how many times better ours is, whichever direction is better.
    """
    versions = {row.system: row.version for row in rows}
    measured = [system for system in systems if system.name in versions]
    lines: list[str] = []
    for store in dict.fromkeys(system.store for system in measured):
        lines += _table(rows, [system for system in measured if system.store == store], versions)
    rounds = max(row.round for row in rows)
    facts = ", ".join(f"{key} {value}" for key, value in machine.items())
    return "\n".join([*lines, f"Medians of {rounds} interleaved rounds. Machine: {facts}."])


def _table(
    rows: Sequence[Row], systems: Sequence[System], versions: dict[str, str]
) -> Iterator[str]:
    heads = [f"{system.name} {versions[system.name]}" for system in systems]
    yield "| | unit | " + " | ".join(heads) + " |"
    yield "| --- | ---" + " | ---:" * len(heads) + " |"
    for name, workload in WORKLOADS.items():
        for key, metric in workload.metrics.items():
            medians = {
                system.name: statistics.median(values)
                for system in systems
                if (values := _values(rows, system.name, name, key))
            }
            if medians:
                yield _line(metric, medians, systems)
    ours = next((system.name for system in systems if system.role == "ours"), "")
    yield f"\nIn brackets how many times better {ours} is.\n" if ours else ""


def _values(rows: Sequence[Row], system: str, workload: str, metric: str) -> list[float]:
    wanted = (system, workload, metric)
    return [row.value for row in rows if (row.system, row.workload, row.metric) == wanted]


def _line(metric: Metric, medians: dict[str, float], systems: Sequence[System]) -> str:
    ours = next((medians.get(system.name) for system in systems if system.role == "ours"), None)
    cells = []
    for system in systems:
        value = medians.get(system.name)
        cells.append(
            _figure(value) + ("" if system.role == "ours" else _ratio(metric, ours, value))
        )
    return f"| {metric.name} | {metric.unit} | " + " | ".join(cells) + " |"


def _figure(value: float | None) -> str:
    if value is None:
        return ""
    digits = 0 if value >= 100 else 1 if value >= 10 else 2
    return f"{value:,.{digits}f}"


def _ratio(metric: Metric, ours: float | None, theirs: float | None) -> str:
    if not ours or not theirs:
        return ""
    return f" ({ours / theirs if metric.is_rate else theirs / ours:.2f})"
