"""Say once that the broker cannot be used, and once that it is back, for all queues together."""

from __future__ import annotations

import time
from threading import Lock
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import logging

    from ..errors import BrokerConnectionError

__all__ = ["Outage"]


class Outage:
    """What the consumer threads of one worker know about their broker. From any thread."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._failing: set[str] = set()
        self._texts: set[str] = set()
        self._began_at = 0.0

    def begin(
        self,
        logger: logging.Logger,
        queue_name: str,
        error: BrokerConnectionError,
        retry_delay_s: float,
    ) -> None:
        """Note that a queue cannot be consumed; say so unless that was said already.

        Args:
            logger: Where to say it.
            queue_name: The queue.
            error: Why; another reason than before is said too.
            retry_delay_s: Seconds until the next attempt.
        """
        text = str(error)
        with self._lock:
            if not self._failing:
                self._began_at = time.monotonic()
                self._texts.clear()
            self._failing.add(queue_name)
            is_news = text not in self._texts
            self._texts.add(text)
        if is_news:
            logger.critical(
                "Consumer encountered a connection error: %s Trying again every %g seconds, also "
                "for the other queues; there will be a line here when it works.",
                text if text.endswith((".", "!", "?", ")")) else f"{text}.",
                retry_delay_s,
            )

    def end(self, logger: logging.Logger, queue_name: str) -> None:
        """Note that a queue is consumed; say so when it was the last one that was not."""
        with self._lock:
            if queue_name not in self._failing:
                return
            self._failing.discard(queue_name)
            is_over = not self._failing
            seconds = time.monotonic() - self._began_at
        if is_over:
            logger.info("The broker is back after %.1f seconds: consuming again.", seconds)
