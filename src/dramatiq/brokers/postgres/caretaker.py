"""One thread per broker and process that beats, hears the news, and looks after the others.

It runs while there are consumers, and owns the process's session. The beat has nothing to do with
what consumers are at: a full prefetch, long tasks or an idle queue neither hasten nor delay it.
"""

from __future__ import annotations

import random
import threading
import time
from typing import TYPE_CHECKING

from ...errors import BrokerConnectionError
from ...logging import get_logger
from .membership import LOCK_SILENCE_MS
from .session import Session

if TYPE_CHECKING:
    from .broker import PostgresBroker

__all__ = ["Caretaker"]

#: Seconds between two beats.
BEAT_S = 2.0
#: Seconds between two looks at whether the processes of this machine are there. It costs the
#: server nothing.
LOOK_S = 0.25
#: Seconds between two looks for dead workers in the database, and how much they vary.
SWEEP_S = 1.5
SWEEP_JITTER = 0.2
#: Seconds between two rounds of dropping what has expired.
MAINTENANCE_S = 60.0
#: Seconds before the caretaker tries again after an error.
RESTART_S = 0.5
#: Seconds for which nobody is taken for dead by the clock after this worker could not beat itself:
#: the others may not have reached the server either, and need as long to come back.
GRACE_S = LOCK_SILENCE_MS / 1000


class Caretaker:
    """Owns that thread.

    Args:
        broker: Whose workers to look after.
    """

    def __init__(self, broker: PostgresBroker) -> None:
        self.logger = get_logger("dramatiq.brokers.postgres", type(self))
        self._broker = broker
        self._session = Session(broker.database, broker.sql, broker.news.tell)
        self._stopping = threading.Event()
        now = time.monotonic()
        self._beat_at = self._sweep_at = self._beaten_at = now
        self._graceful_until = now
        # Not all at once when many processes start together.
        self._maintain_at = now + random.uniform(0, MAINTENANCE_S)  # noqa: S311
        self._thread = threading.Thread(
            target=self._run, name="dramatiq-postgres-caretaker", daemon=True
        )

    @property
    def is_listening(self) -> bool:
        """Whether this process is told of what comes."""
        return self._session.is_listening

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def stop(self) -> None:
        """Stop the thread. Harmless when called twice."""
        self._stopping.set()
        self._session.interrupt()
        if self._thread.is_alive() and self._thread is not threading.current_thread():
            self._thread.join()

    def _run(self) -> None:
        while not self._stopping.is_set():
            try:
                self._care()
            except BrokerConnectionError as error:
                self.logger.warning("Cannot look after the workers: %s", error)
            except Exception:
                self.logger.exception("Unexpected failure while looking after the workers.")
            # Consumers look for themselves from now on.
            self._broker.news.tell()
            self._stopping.wait(RESTART_S)
        self._session.close()

    def _care(self) -> None:
        self._beat_at = 0.0
        while not self._stopping.is_set():
            now = time.monotonic()
            if now >= self._beat_at:
                self._beat_at = now + BEAT_S
                self._beat()
            if now >= self._sweep_at or self._broker.membership.has_dead_sibling():
                # Moved on first: an error here must not come back at once.
                self._sweep_at = now + SWEEP_S * random.uniform(  # noqa: S311
                    1 - SWEEP_JITTER, 1 + SWEEP_JITTER
                )
                self._broker.membership.sweep(is_graceful=now < self._graceful_until)
            if now >= self._maintain_at:
                self._maintain_at = now + MAINTENANCE_S
                self._broker.maintain()
            self._session.listen(LOOK_S)

    def _beat(self) -> None:
        membership = self._broker.membership
        owner = membership.current
        if owner is None:
            return
        was_listening = self._session.is_listening
        if not self._session.beat(owner):
            membership.disown(owner)
        now = time.monotonic()
        if now - self._beaten_at > LOCK_SILENCE_MS / 2000:
            self._graceful_until = now + GRACE_S
        self._beaten_at = now
        if not was_listening:
            # What came before has not been heard.
            self._broker.news.tell()
