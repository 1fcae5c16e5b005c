"""What a worker writes down while it runs: its messages, and that its consumers move."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..logging import get_logger

if TYPE_CHECKING:
    from ..broker import Broker, Consumer
    from ..flight_recorder import FlightRecorder, Progress

__all__ = ["ConsumerProgress", "make_recorder"]

logger = get_logger("dramatiq.worker", "Worker")


def make_recorder(broker: Broker, slots: int, *, is_supervised: bool) -> FlightRecorder | None:
    """Return where to write down what runs; None if nobody would read it, or there is no place.

    Args:
        broker: Whose dead workers' recorders may be read by others.
        slots: How many messages may run at a time.
        is_supervised: Whether a supervisor reads it, if the broker does not.
    """
    try:
        recorder = broker.make_flight_recorder(slots)
        if recorder is None and is_supervised:
            from ..flight_recorder import FlightRecorder

            recorder = FlightRecorder(slots)
    except OSError as error:
        logger.warning(
            "Cannot write down what runs: %s. Messages that bring down their process are not told "
            "from others, and those that hang are not ended. Is there a folder for temporary "
            "files with some space?",
            error,
        )
        return None
    return recorder


class ConsumerProgress:
    """Says by when a consumer thread shows up again. For that thread alone.

    Args:
        progress: Where to say it, if anybody would look.
        worker_timeout: Milliseconds a fetch may wait.
    """

    def __init__(self, progress: Progress | None, worker_timeout: int) -> None:
        self._progress = progress
        self._timeout_s = worker_timeout / 1000

    def show(self, consumer: Consumer | None) -> None:
        """Promise the next sign after a wait, and after what a call may take to fail."""
        if self._progress is not None:
            longest_s = 0.0 if consumer is None else consumer.longest_call_s
            self._progress.expect(self._timeout_s + longest_s)

    def rest(self) -> None:
        """Promise nothing: there is no broker, or no more to do."""
        if self._progress is not None:
            self._progress.rest()
