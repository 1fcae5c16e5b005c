"""What `top` shows: one look at a broker, and its lines for a terminal of some size. Pure."""

from __future__ import annotations

import dataclasses
from datetime import datetime
from typing import TYPE_CHECKING, Any

from .messages import call_of
from .queues import latency_ms
from .tables import clean, format_table
from .units import ago, as_duration

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from ...inspection import MessageInfo, QueueInfo, WorkerInfo
    from .paint import Paint

__all__ = ["Snapshot", "changes_per_second", "render"]


@dataclasses.dataclass(frozen=True)
class Snapshot:
    """One look at a broker. What it cannot tell is None."""

    #: UNIX epoch milliseconds.
    taken_at: int
    broker: str
    queues: Sequence[QueueInfo] | None = None
    workers: Sequence[WorkerInfo] | None = None
    running: Sequence[MessageInfo] | None = None
    failures: Sequence[MessageInfo] | None = None
    #: By how many messages per second the backlog of each queue grows or, below 0, shrinks.
    changes: Mapping[str, float] = dataclasses.field(default_factory=dict)
    #: Why there is nothing newer than this.
    error: str | None = None


@dataclasses.dataclass
class _Section:
    """A title, a header and rows, of which some may have to go."""

    title: str
    lines: list[str]
    shown: int = 0

    @property
    def height(self) -> int:
        """Lines it takes: a blank one, the title, the header, its rows, and what is left out."""
        hidden = self.shown < len(self.lines) - 1
        return 2 + (1 + self.shown + hidden if self.lines else 0)


def changes_per_second(before: Snapshot | None, now: Snapshot) -> dict[str, float]:
    """Return how fast backlogs have changed between two looks; nothing without the first."""
    if before is None or before.queues is None or now.queues is None:
        return {}
    seconds = (now.taken_at - before.taken_at) / 1000
    if seconds <= 0:
        return {}
    old = {each.name: each.counts.unfinished for each in before.queues}
    return {
        each.name: (each.counts.unfinished - old[each.name]) / seconds
        for each in now.queues
        if each.name in old
    }


def render(snapshot: Snapshot, width: int, height: int, paint: Paint, *, hint: str) -> list[str]:
    """Return the lines of one frame.

    Args:
        snapshot: What to show.
        width: No line has more columns.
        height: There are no more lines.
        paint: Colours titles.
        hint: What to say beside the name of the program.
    """
    moment = datetime.fromtimestamp(snapshot.taken_at / 1000).astimezone()
    top = f"dramatiq top  {moment:%H:%M:%S}  {clean(snapshot.broker)}  {hint}".rstrip()
    lines = [paint("bold", top[:width])]
    if snapshot.error:
        lines.append(paint("red", clean(snapshot.error)[:width]))
    sections = [_queues(snapshot), _workers(snapshot), _running(snapshot), _failures(snapshot)]
    _fit(sections, height - len(lines))
    for section in sections:
        lines += _lines_of(section, width, paint)
    return lines[:height]


def _fit(sections: list[_Section], height: int) -> None:
    """Take rows away from the longest sections until all have their place."""
    for section in sections:
        section.shown = max(len(section.lines) - 1, 0)
    while sum(section.height for section in sections) > height:
        longest = max(sections, key=lambda section: section.shown)
        if not longest.shown:
            return
        longest.shown -= 1


def _lines_of(section: _Section, width: int, paint: Paint) -> list[str]:
    lines = ["", paint("cyan", section.title[:width])]
    if section.lines:
        header, *rows = section.lines
        lines.append(paint("dim", header[:width]))
        lines += [row[:width] for row in rows[: section.shown]]
        hidden = len(rows) - section.shown
        if hidden:
            lines.append(f"... and {hidden} more"[:width])
    return lines


def _section(
    name: str, values: Sequence[Any] | None, headers: list[str], rows: list[list[Any]], none: str
) -> _Section:
    if values is None:
        return _Section(f"{name}: this broker cannot tell", [])
    if not rows:
        return _Section(f"{name}: {none}", [])
    return _Section(name, format_table(headers, rows))


def _queues(snapshot: Snapshot) -> _Section:
    headers = ["QUEUE", "READY", "DELAYED", "LEASED", "DEAD", "CHANGE/S", "LATENCY", "PAUSED"]
    rows = []
    for each in snapshot.queues or ():
        change = snapshot.changes.get(each.name)
        latency = latency_ms(each, snapshot.taken_at)
        rows.append(
            [
                each.name,
                each.counts.ready,
                each.counts.delayed,
                each.counts.leased,
                each.counts.dead,
                "-" if change is None else f"{change:+.1f}",
                "-" if latency is None else as_duration(latency),
                "paused" if each.is_paused else "",
            ]
        )
    return _section("Queues", snapshot.queues, headers, rows, "none")


def _workers(snapshot: Snapshot) -> _Section:
    rows = [
        [
            each.worker_id,
            each.host,
            each.pid,
            ago(each.started_at, snapshot.taken_at),
            each.leased,
            "" if each.is_alive else "dead",
        ]
        for each in snapshot.workers or ()
    ]
    headers = ["WORKER", "HOST", "PID", "STARTED", "HOLDS", ""]
    return _section("Workers", snapshot.workers, headers, rows, "none is registered")


def _running(snapshot: Snapshot) -> _Section:
    rows = []
    for each in snapshot.running or ():
        message = each.message
        sent_at = int(message.message_timestamp) if message else None
        rows.append([each.queue_name, call_of(each), ago(sent_at, snapshot.taken_at)])
    headers = ["QUEUE", "CALL", "SENT"]
    return _section("Running, or about to", snapshot.running, headers, rows, "nothing")


def _failures(snapshot: Snapshot) -> _Section:
    rows = [
        [each.queue_name, call_of(each, 40), ago(each.died_at, snapshot.taken_at), each.reason]
        for each in snapshot.failures or ()
    ]
    headers = ["QUEUE", "CALL", "DIED", "REASON"]
    return _section("Recent failures", snapshot.failures, headers, rows, "none")
