"""Whether the queues of a program are being fetched from, by what its processes wrote down."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from . import settings
from .metrics import LAST_FETCH
from .store import merge

if TYPE_CHECKING:
    from collections.abc import Mapping

    from .store import Store

__all__ = ["find_problems", "judge"]


def find_problems(store: Store) -> list[str]:
    """Return what is wrong, a line each; nothing if all is well."""
    fetches: dict[str, dict[str, float]] = {}
    with store.reading() as files:
        for each in files:
            if each.kind == "gauge_livemin":
                fetches[each.process.partition("x")[0]] = {
                    sample.labels["queue_name"]: sample.value
                    for metric in merge([each])
                    for sample in metric.samples
                    if sample.name == LAST_FETCH
                }
    return judge(fetches, time.time(), settings.PATIENCE_S)


def judge(fetches: Mapping[str, Mapping[str, float]], now_s: float, patience_s: float) -> list[str]:
    """Tell which queues stand still.

    Args:
        fetches: When each process last looked for messages of each queue, in UNIX epoch seconds;
            infinity if it is not expected to any more.
        now_s: The time.
        patience_s: Seconds after which a queue stands still.
    """
    if not any(fetches.values()):
        return ["No worker process fetches from any queue. Have they started? See the log."]
    return [
        f"Queue {queue_name!r} stands still: process {pid} has not asked the broker for messages "
        f"for {now_s - fetched_at:.0f} s. Is the broker there? See the log."
        for pid, queues in sorted(fetches.items())
        for queue_name, fetched_at in sorted(queues.items())
        if now_s - fetched_at > patience_s
    ]
