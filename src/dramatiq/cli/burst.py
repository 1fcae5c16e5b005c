"""Notice that the queues have nothing left that is due: for `--burst`."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ..worker import Worker

#: Milliseconds that a fetch waits. Short: the end is noticed after the last one.
FETCH_TIMEOUT_MS = 200

#: How often each consumer must have come back empty-handed. The first of these fetches may have
#: begun before the last message ended, which may have sent others.
EMPTY_FETCHES = 2


class BurstWatch:
    """Watches one worker; for a single thread.

    It needs nothing of the broker but that a fetch finds what is due. Messages that siblings hold
    are theirs to finish, and so are those that these send. Delayed messages are not waited for, but
    those that are due by now are: the consumers of delay queues have to come back empty-handed too.

    Args:
        worker: The running worker.
    """

    def __init__(self, worker: Worker) -> None:
        self._worker = worker
        self._before: dict[str, tuple[int, int]] = {}

    def is_over(self) -> bool:
        """Tell whether nothing came for a while and nothing is running."""
        if self._worker.is_busy:
            self._before = {}
            return False
        now = {
            name: (consumer.received, consumer.empty_fetches)
            for name, consumer in tuple(self._worker.consumers.items())
        }
        if now.keys() != self._before.keys():
            self._before = now
            return not now
        for name, (received, empty_fetches) in now.items():
            received_before, empty_before = self._before[name]
            if received != received_before:
                self._before = now
                return False
            if empty_fetches < empty_before + EMPTY_FETCHES:
                return False
        return True
