"""What a worker is busy with at one moment, for metrics."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from .worker import Worker

__all__ = ["Usage", "usage_of"]


class Usage(NamedTuple):
    """What there was to see. Nothing stands still for it, so figures may be off by one."""

    threads: int
    busy_threads: int
    slots: int
    busy_slots: int
    #: Messages held and not started, by the name of the queue they came from.
    waiting: Counter[str]
    #: When each queue was last asked for messages, or had no need to be (monotonic seconds).
    fetched_at: dict[str, float]


def usage_of(worker: Worker) -> Usage:
    """Look at a worker. Any thread."""
    queue, loop, threads = worker.work_queue, worker._loop, len(worker.workers)
    # Copies, each made in one step.
    messages = [message for _, _, message in [*queue._heap]]
    busy_threads = max(0, min(threads, queue.unfinished - len(messages)))
    if loop is not None:
        messages += [message for _, _, message in [*loop._waiting]]
    return Usage(
        threads=threads,
        busy_threads=busy_threads,
        slots=0 if loop is None else loop.slots,
        busy_slots=0 if loop is None else len(loop._tasks),
        waiting=Counter(message._origin.queue_name for message in messages if message._origin),
        fetched_at={name: each.fetched_at for name, each in worker.consumers.copy().items()},
    )
