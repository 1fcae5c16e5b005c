"""The metrics of a worker process: their names, labels and buckets, and their series.

The first seven are those of 2.x. The client library is imported when they are made.
"""

from __future__ import annotations

from bisect import bisect_left
from threading import Lock
from typing import TYPE_CHECKING, Any

from ...common import q_name
from .cells import CellFile

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from .cells import Cell
    from .store import Store

__all__ = ["LAST_FETCH", "Metrics", "Series"]

#: The labels of everything that is counted per message.
LABELS = ("queue_name", "actor_name")
#: Milliseconds, as 2.x has them.
DURATION_BUCKETS = (
    *(5, 10, 25, 50, 75, 100, 250, 500, 750, 1000, 2500, 5000, 7500, 10_000),
    *(30_000, 60_000, 600_000, 900_000, float("inf")),
)
#: Seconds, from a woken idle worker to a queue that nobody serves.
WAIT_BUCKETS = (
    *(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 900, 3600),
    float("inf"),
)
#: By this one the exposition server tells whether a process still looks for messages.
LAST_FETCH = "dramatiq_consumer_last_fetch_timestamp_seconds"


class Maker:
    """Makes metrics of a registry of their own."""

    def __init__(self) -> None:
        from prometheus_client import CollectorRegistry

        self._registry = CollectorRegistry()

    def counter(self, name: str, text: str, labels: tuple[str, ...] = LABELS) -> Any:
        """Make a counter."""
        from prometheus_client import Counter

        return Counter(name, text, labels, registry=self._registry)

    def gauge(
        self, name: str, text: str, labels: tuple[str, ...] = (), mode: Any = "livesum"
    ) -> Any:
        """Make a gauge that goes with its process."""
        from prometheus_client import Gauge

        return Gauge(name, text, labels, registry=self._registry, multiprocess_mode=mode)

    def histogram(self, name: str, text: str, buckets: tuple[float, ...]) -> Any:
        """Make a histogram."""
        from prometheus_client import Histogram

        return Histogram(name, text, LABELS, registry=self._registry, buckets=buckets)


class Metrics:
    """The metrics of this process.

    Args:
        store: Where the client library keeps them.

    Raises:
        ImportError: If the client library is not installed.
    """

    def __init__(self, store: Store) -> None:
        make = Maker()
        self._make_for_messages(make)
        self._make_for_worker(make)
        self._files = {
            kind: CellFile(store.file(kind)) for kind in ("counter", "gauge_livesum", "histogram")
        }
        self._lock = Lock()
        self._series: dict[tuple[str, str], Series] = {}

    def _make_for_messages(self, make: Maker) -> None:
        self.total = make.counter(
            "dramatiq_messages_total", "Messages processed, skipped ones too."
        )
        self.errors = make.counter("dramatiq_message_errors_total", "Messages whose actor failed.")
        self.retries = make.counter("dramatiq_message_retries_total", "Messages enqueued again.")
        self.rejects = make.counter("dramatiq_message_rejects_total", "Messages dead-lettered.")
        self.in_progress = make.gauge("dramatiq_messages_inprogress", "Messages running.", LABELS)
        self.delayed = make.gauge(
            "dramatiq_delayed_messages_inprogress",
            "Delayed messages that workers keep in memory.",
            LABELS,
        )
        self.duration = make.histogram(
            "dramatiq_message_duration_milliseconds",
            "How long messages ran.",
            DURATION_BUCKETS,
        )
        self.wait = make.histogram(
            "dramatiq_message_wait_seconds",
            "From when a message could have run until it started.",
            WAIT_BUCKETS,
        )
        self.retry_reasons = make.counter(
            "dramatiq_message_retry_reasons_total",
            "Messages enqueued again, by the class of the exception.",
            (*LABELS, "reason"),
        )

    def _make_for_worker(self, make: Maker) -> None:
        self.processes = make.gauge("dramatiq_worker_processes", "Worker processes running.")
        self.threads = make.gauge("dramatiq_worker_threads", "Worker threads.")
        self.busy_threads = make.gauge(
            "dramatiq_worker_busy_threads", "Worker threads that run a message."
        )
        self.slots = make.gauge("dramatiq_worker_async_slots", "Slots for async actors.")
        self.busy_slots = make.gauge(
            "dramatiq_worker_busy_async_slots", "Slots that run an async actor."
        )
        self.prefetched = make.gauge(
            "dramatiq_worker_prefetched_messages",
            "Messages that workers hold and have not started.",
            ("queue_name",),
        )
        self.last_fetch = make.gauge(
            LAST_FETCH,
            "When the process that is furthest behind last looked for messages.",
            ("queue_name",),
            "livemin",
        )

    def series(self, queue_name: str, actor_name: str) -> Series:
        """Return the series of an actor's messages; of one queue, whichever of its names it is."""
        series = self._series.get((queue_name, actor_name))
        return self._make(queue_name, actor_name) if series is None else series

    def _make(self, queue_name: str, actor_name: str) -> Series:
        canonical = (q_name(queue_name), actor_name)
        with self._lock:
            if canonical not in self._series:
                self._series[canonical] = Series(self, *canonical)
            series = self._series[queue_name, actor_name] = self._series[canonical]
        return series

    def cell(self, kind: str, name: str, **labels: str) -> Cell:
        """Return the place of a sample in the files. For the series, one at a time."""
        return self._files[kind].cell(name, labels)


class Series:
    """The series of one actor on one queue; made at once, so that each starts with a zero.

    What runs and what is parked is kept as sets, and the gauges follow their sizes: an interrupt
    between any two steps of a hook puts them right again instead of off for good.
    """

    def __init__(self, metrics: Metrics, queue_name: str, actor_name: str) -> None:
        names = (queue_name, actor_name)
        self._names = names
        self._retry_reasons = metrics.retry_reasons
        self.count_retry: Callable[[], None] = metrics.retries.labels(*names).inc
        self.count_reject: Callable[[], None] = metrics.rejects.labels(*names).inc
        self._count_error: Callable[[], None] = metrics.errors.labels(*names).inc
        self._set_parked: Callable[[float], None] = metrics.delayed.labels(*names).set
        self._lock = Lock()
        self._running: dict[int, float] = {}
        self._parked: set[str] = set()
        # These change with every message.
        labels = {"queue_name": queue_name, "actor_name": actor_name}
        metrics.total.labels(*names)
        self._total = metrics.cell("counter", "dramatiq_messages_total", **labels)
        metrics.in_progress.labels(*names)
        self._in_progress = metrics.cell("gauge_livesum", "dramatiq_messages_inprogress", **labels)
        metrics.wait.labels(*names)
        self._wait = Observer(metrics, "dramatiq_message_wait_seconds", WAIT_BUCKETS, labels)
        metrics.duration.labels(*names)
        self._duration = Observer(
            metrics, "dramatiq_message_duration_milliseconds", DURATION_BUCKETS, labels
        )

    def begin(self, key: int, now_s: float, waited_s: float) -> None:
        """Take note that a message starts."""
        with self._lock:
            self._running[key] = now_s
            self._in_progress.set(len(self._running))
            self._wait.observe(waited_s)

    def end(self, key: int, now_s: float) -> bool:
        """Take note that a message ended and count it; False, and not, if it did not start."""
        with self._lock:
            started_s = self._running.pop(key, None)
            if started_s is None:
                return False
            self._in_progress.set(len(self._running))
            self._duration.observe((now_s - started_s) * 1000)
            self._total.add(1)
        return True

    def count_unstarted(self) -> None:
        """Count a message that ended before its start was noted."""
        with self._lock:
            self._total.add(1)

    def count_error(self) -> None:
        """Count a failure."""
        self._count_error()

    def park(self, message_id: str) -> None:
        """Take note that a worker keeps a message until it is due."""
        with self._lock:
            self._parked.add(message_id)
            self._set_parked(len(self._parked))

    def unpark(self, message_id: str) -> None:
        """Take note that it does not any more."""
        with self._lock:
            self._parked.discard(message_id)
            self._set_parked(len(self._parked))

    def count_reason(self, reason: str) -> None:
        """Count a retry by its reason."""
        self._retry_reasons.labels(*self._names, reason).inc()


class Observer:
    """A histogram of one series. Not for two threads at a time.

    Args:
        metrics: Where it was made.
        name: Of the metric.
        buckets: Their upper limits.
        labels: Of the series.
    """

    def __init__(
        self, metrics: Metrics, name: str, buckets: Sequence[float], labels: Mapping[str, str]
    ) -> None:
        from prometheus_client.utils import floatToGoString

        self._limits = buckets
        self._sum = metrics.cell("histogram", f"{name}_sum", **labels)
        self._counts = [
            metrics.cell("histogram", f"{name}_bucket", le=floatToGoString(limit), **labels)
            for limit in buckets
        ]

    def observe(self, value: float) -> None:
        """Count a value."""
        self._sum.add(value)
        self._counts[bisect_left(self._limits, value)].add(1)
