"""What a child does to be watched over: its pulse, its stacks on demand, its end as an orphan."""

from __future__ import annotations

import faulthandler
import os
import signal
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ..flight_recorder import FlightRecorder

__all__ = ["DUMP_SIGNAL", "Pulse", "end_soon", "show_stacks_on_demand"]

#: Seconds between two beats. What watches counts them, so they need not be exact.
BEAT_S = 1.0

#: Asks for the stacks of all threads. Of those signals that no program uses for itself, where
#: there are such.
DUMP_SIGNAL: int = (
    signal.SIGRTMIN + 9 if hasattr(signal, "SIGRTMIN") else getattr(signal, "SIGUSR2", 0)
)

#: Seconds that running messages have to finish when the supervisor is gone, for whoever starts
#: the next one expects nobody here. The rest goes back to its queue.
ORPHAN_PATIENCE_S = 2.0

#: Seconds after which a process whose supervisor is gone ends, whatever it is doing.
ORPHAN_LIFE_S = 3.5


class Pulse:
    """Counts the seconds in which this process could run. Main thread only.

    Args:
        recorder: Where they are written down, if anywhere.
    """

    def __init__(self, recorder: FlightRecorder | None) -> None:
        self._recorder = recorder
        self._beat_at = 0.0

    def wait_ms(self) -> int | None:
        """Return how long to wait until the next beat; None if there is none."""
        return None if self._recorder is None else int(BEAT_S * 1000)

    def beat(self) -> None:
        """Count one more, if it is time. However late it is, that is one and no more."""
        now = time.monotonic()
        if self._recorder is not None and now >= self._beat_at:
            self._beat_at = now + BEAT_S * 0.9
            self._recorder.pulse()


def show_stacks_on_demand(descriptor: int) -> None:
    """Write the stacks of all threads there at each `DUMP_SIGNAL`.

    The interpreter does it in the signal handler itself, so it works while its lock is held.
    """
    if DUMP_SIGNAL and hasattr(faulthandler, "register"):
        faulthandler.register(DUMP_SIGNAL, file=descriptor, all_threads=True, chain=False)


def end_soon() -> None:
    """See to it that this process ends even if it cannot run Python code any more."""
    nobody = os.open(os.devnull, os.O_WRONLY)
    faulthandler.dump_traceback_later(ORPHAN_LIFE_S, exit=True, file=nobody)
