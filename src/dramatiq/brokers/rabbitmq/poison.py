"""Who is to blame when a worker process dies: what it was running, and nothing else it held.

RabbitMQ delivers again what a dead process held, at once and to anybody, and counts nothing on
classic queues. But each worker writes down what it runs, in a file that outlives it and that it
holds a lock on while it lives. Whoever on the same machine gets a message again looks there: if
the writer is dead, the message is blamed, and struck off so that it is blamed once.
"""

from __future__ import annotations

import threading

from ...flight_recorder import FlightRecorder, names, read, strike_off

__all__ = ["Flights"]

#: Seconds, and how often, to look again at a writer that lives: of one that is about to die the
#: server may hear before its lock is gone.
LOOK_S, LOOKS = 0.01, 5


class Flights:
    """The flight recorders of this process, and what those of dead ones tell. Any thread."""

    def __init__(self) -> None:
        self._own: set[str] = set()

    def make(self, slots: int) -> FlightRecorder:
        """Return a recorder for a worker of this process."""
        recorder = FlightRecorder(slots)
        self._own.add(recorder.name)
        return recorder

    def running(self) -> set[bytes]:
        """Return what other processes of this machine run, or ran when they died."""
        return {lease for name in self._others() for lease in read(name)}

    def was_running(self, delivery_id: bytes) -> bool:
        """Tell whether a process of this machine died running a message; only once for each."""
        never = threading.Event()
        for _ in range(LOOKS):
            suspects = [name for name in self._others() if delivery_id in read(name)]
            if any(strike_off(name, delivery_id) for name in suspects):
                return True
            if not suspects:
                return False
            never.wait(LOOK_S)
        return False

    def _others(self) -> set[str]:
        # Not our own: to close a file drops all locks of the process on it.
        return names() - self._own
