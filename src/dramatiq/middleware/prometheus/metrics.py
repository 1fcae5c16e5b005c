"""The metrics of a worker process: their names, labels and buckets, and their series.

The first seven are those of 2.x. The client library is imported when they are made.
"""

from __future__ import annotations

from threading import Lock
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

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


class Metrics:
    """The metrics, in a registry of their own.

    Raises:
        ImportError: If the client library is not installed.
    """

    def __init__(self) -> None:
        from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

        registry = CollectorRegistry()

        def counter(name: str, text: str, labels: tuple[str, ...] = LABELS) -> Any:
            return Counter(name, text, labels, registry=registry)

        def gauge(name: str, text: str, labels: tuple[str, ...], mode: Any = "livesum") -> Any:
            return Gauge(name, text, labels, registry=registry, multiprocess_mode=mode)

        def histogram(name: str, text: str, buckets: tuple[float, ...]) -> Any:
            return Histogram(name, text, LABELS, registry=registry, buckets=buckets)

        self.total = counter("dramatiq_messages_total", "Messages processed, skipped ones too.")
        self.errors = counter("dramatiq_message_errors_total", "Messages whose actor failed.")
        self.retries = counter("dramatiq_message_retries_total", "Messages enqueued again.")
        self.rejects = counter("dramatiq_message_rejects_total", "Messages dead-lettered.")
        self.in_progress = gauge("dramatiq_messages_inprogress", "Messages running.", LABELS)
        self.delayed = gauge(
            "dramatiq_delayed_messages_inprogress",
            "Delayed messages that workers keep in memory.",
            LABELS,
        )
        self.duration = histogram(
            "dramatiq_message_duration_milliseconds",
            "How long messages ran.",
            DURATION_BUCKETS,
        )
        self.wait = histogram(
            "dramatiq_message_wait_seconds",
            "From when a message could have run until it started.",
            WAIT_BUCKETS,
        )
        self.retry_reasons = counter(
            "dramatiq_message_retry_reasons_total",
            "Messages enqueued again, by the class of the exception.",
            (*LABELS, "reason"),
        )
        self.processes = gauge("dramatiq_worker_processes", "Worker processes running.", ())
        self.threads = gauge("dramatiq_worker_threads", "Worker threads.", ())
        self.busy_threads = gauge(
            "dramatiq_worker_busy_threads", "Worker threads that run a message.", ()
        )
        self.slots = gauge("dramatiq_worker_async_slots", "Slots for async actors.", ())
        self.busy_slots = gauge(
            "dramatiq_worker_busy_async_slots", "Slots that run an async actor.", ()
        )
        self.prefetched = gauge(
            "dramatiq_worker_prefetched_messages",
            "Messages that workers hold and have not started.",
            ("queue_name",),
        )
        self.last_fetch = gauge(
            LAST_FETCH,
            "When the process that is furthest behind last looked for messages.",
            ("queue_name",),
            "livemin",
        )
        self._series: dict[tuple[str, str], Series] = {}

    def series(self, queue_name: str, actor_name: str) -> Series:
        """Return the series of an actor's messages."""
        series = self._series.get((queue_name, actor_name))
        if series is None:
            # Two threads may make it at a time; both are to use the same.
            made = Series(self, queue_name, actor_name)
            series = self._series.setdefault((queue_name, actor_name), made)
        return series


class Series:
    """The series of one actor on one queue; made at once, so that each starts with a zero.

    What runs and what is parked is kept as sets, and the gauges follow their sizes: an interrupt
    between any two steps of a hook puts them right again instead of off for good.
    """

    def __init__(self, metrics: Metrics, queue_name: str, actor_name: str) -> None:
        labels = (queue_name, actor_name)
        self._labels = labels
        self._retry_reasons = metrics.retry_reasons
        self.count: Callable[[], None] = metrics.total.labels(*labels).inc
        self.count_error: Callable[[], None] = metrics.errors.labels(*labels).inc
        self.count_retry: Callable[[], None] = metrics.retries.labels(*labels).inc
        self.count_reject: Callable[[], None] = metrics.rejects.labels(*labels).inc
        self.observe_wait_s: Callable[[float], None] = metrics.wait.labels(*labels).observe
        self.observe_ms: Callable[[float], None] = metrics.duration.labels(*labels).observe
        self._set_running: Callable[[float], None] = metrics.in_progress.labels(*labels).set
        self._set_parked: Callable[[float], None] = metrics.delayed.labels(*labels).set
        self._lock = Lock()
        self._running: dict[int, float] = {}
        self._parked: set[str] = set()

    def begin(self, key: int, now_s: float) -> None:
        """Take note that a message starts."""
        with self._lock:
            self._running[key] = now_s
            self._set_running(len(self._running))

    def end(self, key: int) -> float | None:
        """Take note that a message ended; return when it started, None if it did not."""
        if key not in self._running:
            return None
        with self._lock:
            started_s = self._running.pop(key, None)
            self._set_running(len(self._running))
        return started_s

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
        self._retry_reasons.labels(*self._labels, reason).inc()
