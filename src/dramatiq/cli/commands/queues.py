"""`queues`: how many messages each queue holds, and for how long."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ...common import current_millis
from .application import add_application_options, load_application
from .tables import add_json_option, print_json, print_table
from .units import as_duration

if TYPE_CHECKING:
    import argparse

    from ...inspection import QueueInfo

__all__ = ["add_arguments", "latency_ms", "run"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    add_application_options(parser)
    add_json_option(parser)


def run(args: argparse.Namespace) -> int:
    """List the queues."""
    queues = load_application(args).inspection.queues()
    now_ms = current_millis()
    if args.json:
        print_json([as_json(each, now_ms) for each in queues])
        return 0
    print_table(
        ["QUEUE", "READY", "DELAYED", "LEASED", "DEAD", "LATENCY", "PAUSED"],
        [_row(each, now_ms) for each in queues],
        empty="There are no queues: nothing was sent, and no module with actors was named.",
    )
    return 0


def latency_ms(queue: QueueInfo, now_ms: int) -> int | None:
    """Return how long the message that is next in turn has waited; None if unknown or none."""
    return None if queue.oldest_at is None else max(now_ms - queue.oldest_at, 0)


def as_json(queue: QueueInfo, now_ms: int) -> dict[str, Any]:
    """Return a queue as the values that ``--json`` prints."""
    return {
        "name": queue.name,
        "ready": queue.counts.ready,
        "delayed": queue.counts.delayed,
        "leased": queue.counts.leased,
        "dead": queue.counts.dead,
        "latency_ms": latency_ms(queue, now_ms),
        "is_paused": queue.is_paused,
    }


def _row(queue: QueueInfo, now_ms: int) -> list[Any]:
    counts, latency = queue.counts, latency_ms(queue, now_ms)
    return [
        queue.name,
        counts.ready,
        counts.delayed,
        counts.leased,
        counts.dead,
        None if latency is None else as_duration(latency),
        queue.is_paused,
    ]
