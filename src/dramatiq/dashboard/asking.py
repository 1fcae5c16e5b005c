"""What pages and the JSON API show, as plain values. Each question has a bounded cost.

Counts stop at `COUNT_LIMIT`, and failures are grouped among the newest `GROUPED` dead letters.
"""

from __future__ import annotations

import dataclasses
from collections import defaultdict
from typing import TYPE_CHECKING, Any

from ..common import current_millis
from ..inspection import Selection, State
from .desk import ask

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ..inspection import MessageInfo, QueueInfo
    from .desk import Desk

__all__ = [
    "COUNT_LIMIT",
    "actor",
    "actors",
    "audit",
    "failures",
    "overview",
    "queue",
    "queues",
    "throughput",
    "workers",
]

#: Any message.
ALL = Selection()
#: Counts go no further: to count a million takes longer than a page may.
COUNT_LIMIT = 20_000
#: Dead letters that are looked at to group them.
GROUPED = 1_000
#: Groups that are shown.
MOST_GROUPS = 200
#: Messages held by workers that are looked at where nobody tells what really runs.
MOST_HELD = 100
#: Minutes in the chart.
MINUTES = 60
#: Actors whose figures are made for one page; each takes reading some records.
MOST_ACTORS = 50
#: Attempts that the figures of one actor are made of.
ATTEMPTS_PER_ACTOR = 200


def queues(desk: Desk) -> list[dict[str, Any]]:
    """Return the queues, by name."""
    now = current_millis()
    rates = _rates(desk)
    return [_queue(info, now, rates) for info in desk.inspection.queues(count_limit=COUNT_LIMIT)]


def queue(desk: Desk, name: str) -> dict[str, Any]:
    """Return one queue."""
    info = desk.inspection.queue(name, count_limit=COUNT_LIMIT)
    return _queue(info, current_millis(), _rates(desk))


def _queue(info: QueueInfo, now: int, rates: dict[str, float] | None) -> dict[str, Any]:
    return {
        "name": info.name,
        **dataclasses.asdict(info.counts),
        "is_paused": info.is_paused,
        "latency_ms": None if info.oldest_at is None else max(now - info.oldest_at, 0),
        "per_minute": None if rates is None else rates.get(info.name, 0.0),
    }


def _rates(desk: Desk) -> dict[str, float] | None:
    """Return how many attempts ended per minute in each queue, over the last five full minutes."""
    history = desk.history
    if history is None:
        return None
    this_minute = current_millis() // 60_000
    counts: dict[str, int] = defaultdict(int)
    for key, count in history.counts_since(this_minute - 5):
        if key.minute < this_minute:
            counts[key.queue_name] += count
    return {name: count / 5 for name, count in counts.items()}


def throughput(
    desk: Desk, queue_name: str | None = None, actor_name: str | None = None
) -> list[dict[str, Any]] | None:
    """Return attempts by minute, the oldest first; None if history is off."""
    history = desk.history
    if history is None:
        return None
    minutes = history.throughput(minutes=MINUTES, queue_name=queue_name, actor_name=actor_name)
    return [dataclasses.asdict(each) for each in minutes]


def overview(desk: Desk, found: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the sums over all queues, and how workers do.

    Args:
        desk: Where.
        found: The queues; see `queues`.
    """
    registered, _ = ask(desk.inspection.workers, None)
    waits = [each["latency_ms"] for each in found if each["latency_ms"] is not None]
    sums = {
        name: sum(each[name] for each in found) for name in ("ready", "delayed", "leased", "dead")
    }
    return {
        **sums,
        # A sum of which one part is only a lower bound is one itself.
        "is_capped": {name: any(each[name] == COUNT_LIMIT for each in found) for name in sums},
        "oldest_ms": max(waits, default=None),
        "paused": [each["name"] for each in found if each["is_paused"]],
        "workers": None if registered is None else sum(each.is_alive for each in registered),
        "queues": len(found),
        "throughput": throughput(desk),
    }


# -- failures


def failures(desk: Desk, selection: Selection = ALL, *, look_at: int = GROUPED) -> dict[str, Any]:
    """Return dead letters grouped by actor and kind of error, the latest first.

    Args:
        desk: Where.
        selection: Which.
        look_at: How many of the newest.

    Returns:
        The groups, how many dead letters were looked at, and whether those are all. The ``until``
        of a group is the moment at which its newest known letter died, by the clock of the store:
        a bulk operation until then leaves alone what dies later.
    """
    letters: list[MessageInfo] = []
    cursor = None
    while len(letters) < look_at:
        page = desk.inspection.messages(
            State.DEAD, selection, limit=look_at - len(letters), cursor=cursor, look_at=look_at * 5
        )
        letters += page.items
        cursor = page.cursor
        if cursor is None or not page.items:
            break
    groups = _group(letters)
    groups.sort(key=lambda group: group["last_at"] or 0, reverse=True)
    return {
        "groups": groups[:MOST_GROUPS],
        "looked_at": len(letters),
        "is_complete": cursor is None and len(groups) <= MOST_GROUPS,
        "until": max((each.died_at or 0 for each in letters), default=0),
    }


def _group(letters: Iterable[MessageInfo]) -> list[dict[str, Any]]:
    groups: dict[tuple[str | None, str], dict[str, Any]] = {}
    for info in letters:
        message = info.message
        actor_name = None if message is None else message.actor_name
        group = groups.setdefault(
            (actor_name, info.error_class),
            {
                "actor": actor_name,
                "error": info.error_class,
                "count": 0,
                "queues": set(),
                # Dead letters come the newest first.
                "last_at": info.died_at,
                "sample": info.reason,
            },
        )
        group["count"] += 1
        group["queues"].add(info.queue_name)
        group["first_at"] = info.died_at
    for group in groups.values():
        group["queues"] = sorted(group["queues"])
        group["until"] = group["last_at"]
    return list(groups.values())


# -- actors


def actors(desk: Desk) -> dict[str, Any]:
    """Return the actors that this process declares or the history knows, by name."""
    history = desk.history
    names = set(desk.broker.actors) | set(() if history is None else history.actors())
    shown = sorted(names)
    return {
        "actors": [_actor(desk, history, name) for name in shown[:MOST_ACTORS]],
        "left_out": len(shown[MOST_ACTORS:]),
    }


def actor(desk: Desk, name: str) -> dict[str, Any] | None:
    """Return the figures of one actor; None if nobody knows it."""
    history = desk.history
    values = _actor(desk, history, name)
    return values if values["is_declared_here"] or values["attempts"] else None


def _actor(desk: Desk, history: Any, name: str) -> dict[str, Any]:
    actor = desk.broker.actors.get(name)
    values: dict[str, Any] = {
        "name": name,
        "queue": None if actor is None else actor.queue_name,
        "is_declared_here": actor is not None,
        "attempts": None,
        "failure_rate": None,
        "p50_ms": None,
        "p95_ms": None,
        "p99_ms": None,
        "last_at": None,
    }
    if history is not None:
        figures = history.figures(name, last=ATTEMPTS_PER_ACTOR)
        values |= {
            "attempts": figures.count,
            "failure_rate": figures.failure_rate if figures.count else None,
            "p50_ms": figures.p50_ms,
            "p95_ms": figures.p95_ms,
            "p99_ms": figures.p99_ms,
            "last_at": figures.until,
        }
    return values


# -- workers


def workers(desk: Desk) -> list[dict[str, Any]]:
    """Return the registered worker processes, each with what it runs, as far as that is known.

    What runs on this machine is read where it is written down. Of other machines there is only
    what their workers hold, which may still wait within the process.
    """
    registered = desk.inspection.workers()
    running, _ = ask(desk.inspection.running, None)
    held: list[MessageInfo] = []
    if registered:
        page, _ = ask(lambda: desk.inspection.messages(State.LEASED, limit=MOST_HELD), None)
        held = [] if page is None else page.items
    rows = []
    for worker in registered:
        runs = [each for each in running or () if each.worker_id == worker.worker_id]
        rows.append(
            {
                **dataclasses.asdict(worker),
                "running": [_run(each) for each in sorted(runs, key=lambda run: run.place)],
                "held": [] if runs else _held(held, worker.worker_id),
            }
        )
    return rows


def _run(run: Any) -> dict[str, Any]:
    values = dataclasses.asdict(run)
    del values["worker_id"]
    return values


def _held(held: Iterable[MessageInfo], worker_id: str) -> list[dict[str, Any]]:
    rows = []
    for info in held:
        message = info.message
        if info.worker_id == worker_id:
            name = None if message is None else message.actor_name
            rows.append({"queue_name": info.queue_name, "key": info.key, "actor_name": name})
    return rows


def audit(desk: Desk, limit: int = 200) -> list[dict[str, Any]]:
    """Return what was done through the dashboard, the newest first."""
    return [dataclasses.asdict(entry) for entry in desk.inspection.audit(limit=limit)]
