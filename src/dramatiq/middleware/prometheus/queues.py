"""What only the broker knows: how much waits on each queue, and for how long.

Asked when Prometheus asks, but not more than every few seconds, in a thread of its own: a broker
that does not answer must not hold up the other figures.
"""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Any, NamedTuple

from ...application import load_broker
from ...errors import BrokerConnectionError
from ...logging import get_logger

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ...broker import Broker
    from ...inspection import QueueInfo

__all__ = ["QueueFigures"]

#: Seconds for which an answer is good enough.
CACHE_S = 5.0
#: Seconds that Prometheus is kept waiting for the broker's answer.
WAIT_S = 3.0

logger = get_logger("dramatiq.middleware.prometheus", "QueueFigures")


class Answer(NamedTuple):
    """What the broker said."""

    #: Monotonic seconds.
    asked_at: float
    #: UNIX epoch seconds.
    answered_at: float
    #: Whether it was there; None if it cannot be asked at all.
    is_up: bool | None
    #: Seconds that it took per queue.
    took_s: float
    infos: list[QueueInfo]


class QueueFigures:
    """Collects the figures of the declared queues. `load` is for the main thread."""

    def __init__(self) -> None:
        self._broker: Broker | None = None
        self._lock = threading.Lock()
        #: Guarded by the lock, as is the answer.
        self._asking: threading.Thread | None = None
        self._answer: Answer | None = None
        self._has_failed = False

    def load(self) -> None:
        """Import the application; without its broker there are no figures of queues."""
        try:
            broker = load_broker()
        except (Exception, SystemExit) as error:  # user code may raise anything
            logger.warning("No metrics of queues: the application cannot be imported: %r.", error)
            return
        if broker is None or broker.is_in_memory:
            return
        self._broker = broker

    def collect(self) -> Iterable[Any]:
        """Return the metrics of the queues; none without a broker to ask."""
        if self._broker is None:
            return []
        answer = self._recent_answer(self._broker)
        return _metrics(answer)

    def _recent_answer(self, broker: Broker) -> Answer | None:
        """Return the last answer, or one that comes within the time; None if there is none."""
        with self._lock:
            answer, thread = self._answer, self._asking
            if answer is not None and time.monotonic() - answer.asked_at < CACHE_S:
                return answer
            if thread is None:
                thread = threading.Thread(target=self._ask, args=[broker], daemon=True)
                self._asking = thread
                thread.start()
        thread.join(WAIT_S)
        with self._lock:
            return None if self._answer is answer else self._answer

    def _ask(self, broker: Broker) -> None:
        asked_at = time.monotonic()
        infos: list[QueueInfo] = []
        is_up: bool | None = None
        try:
            inspection = broker.inspection
            infos = [inspection.queue(name) for name in sorted(broker.get_declared_queues())]
            is_up, self._has_failed = True, False
        except Exception as error:
            # Any other error than this means that it offers no way to ask.
            is_up = False if isinstance(error, BrokerConnectionError) else None
            if not self._has_failed:
                logger.warning("The broker cannot be asked about its queues: %s", error)
            self._has_failed = True
        took_s = (time.monotonic() - asked_at) / max(1, len(infos))
        with self._lock:
            self._answer = Answer(asked_at, time.time(), is_up, took_s, infos)
            self._asking = None


def _metrics(answer: Answer | None) -> list[Any]:
    from prometheus_client.core import GaugeMetricFamily

    if answer is not None and answer.is_up is None:
        return []
    is_up = answer is not None and answer.is_up
    reachable = GaugeMetricFamily(
        "dramatiq_broker_up", "Whether the broker tells about its queues.", value=float(is_up or 0)
    )
    if answer is None or not is_up:
        return [reachable]
    took = GaugeMetricFamily(
        "dramatiq_broker_round_trip_seconds",
        "How long the broker took to tell about a queue.",
        value=answer.took_s,
    )
    depth = GaugeMetricFamily(
        "dramatiq_queue_messages", "Messages of a queue.", labels=("queue_name", "state")
    )
    age = GaugeMetricFamily(
        "dramatiq_queue_oldest_message_age_seconds",
        "Age of the message that is next in turn; 0 if none waits.",
        labels=("queue_name",),
    )
    for info in answer.infos:
        counts = info.counts
        for state in ("ready", "delayed", "leased", "dead"):
            depth.add_metric((info.name, state), getattr(counts, state))
        if info.oldest_at is not None:
            age.add_metric((info.name,), max(0.0, answer.answered_at - info.oldest_at / 1000))
        elif not counts.ready:
            age.add_metric((info.name,), 0)
    return [reachable, took, depth, age]
