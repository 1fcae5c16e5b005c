"""Looks once a second at what a worker holds, and whether it still looks for messages.

One thread per worker process; what it reads belongs to others, who change it meanwhile.
"""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Any

from ...logging import get_logger

if TYPE_CHECKING:
    from collections.abc import Callable

    from ...worker import Worker
    from .metrics import Metrics

__all__ = ["Sampler"]

#: Seconds between two looks.
LOOK_S = 1.0
#: Looks after which the parked messages are counted anew: there may be thousands.
LOOKS_PER_COUNT = 5
#: When a process looked for messages that is not expected to.
NOT_EXPECTED = float("inf")

logger = get_logger(__name__, "Sampler")


class Sampler:
    """Sets the gauges of one worker. `start` and `stop` are for its starting thread.

    Args:
        worker: The worker.
        metrics: Its gauges.
        forget_unparked: Called from time to time with what returns the ids of messages that the
            worker has parked.
    """

    def __init__(
        self,
        worker: Worker,
        metrics: Metrics,
        forget_unparked: Callable[[Callable[[], set[str]]], None],
    ) -> None:
        self._worker = worker
        self._metrics = metrics
        self._forget_unparked = forget_unparked
        self._queue_names: set[str] = set()
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="dramatiq-prometheus", daemon=True)

    def start(self) -> None:
        """Look a first time and go on."""
        self._look()
        self._thread.start()

    def stop(self) -> None:
        """Look no more. The worker is about to stop: nobody is to expect it to fetch."""
        self._stopped.set()
        self._thread.join()
        for queue_name in self._queue_names:
            self._metrics.last_fetch.labels(queue_name).set(NOT_EXPECTED)

    def _run(self) -> None:
        looks = 0
        while not self._stopped.wait(LOOK_S):
            looks += 1
            try:
                self._look()
                if looks % LOOKS_PER_COUNT == 0:
                    self._forget_unparked(self._parked_ids)
            except Exception:
                logger.exception("Unexpected failure while looking at the worker; it goes on.")

    def _look(self) -> None:
        metrics, usage = self._metrics, self._worker.usage()
        metrics.processes.set(1)
        metrics.threads.set(usage.threads)
        metrics.busy_threads.set(usage.busy_threads)
        metrics.slots.set(usage.slots)
        metrics.busy_slots.set(usage.busy_slots)
        now_s, now_monotonic_s = time.time(), time.monotonic()
        for queue_name, fetched_at in usage.fetched_at.items():
            self._queue_names.add(queue_name)
            # By the clock of now: a jump of it is not taken for a queue that stands still.
            age_s = now_monotonic_s - fetched_at
            metrics.last_fetch.labels(queue_name).set(now_s - age_s)
            metrics.prefetched.labels(queue_name).set(usage.waiting[queue_name])

    def _parked_ids(self) -> set[str]:
        consumers: list[Any] = list(self._worker.consumers.values())
        return {item.message.message_id for each in consumers for item in [*each.delay_queue.queue]}
