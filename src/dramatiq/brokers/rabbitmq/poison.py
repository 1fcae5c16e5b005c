"""Who is to blame when a worker process dies: what it was running, and nothing else it held.

RabbitMQ delivers again what a dead process held, at once and to anybody, and counts nothing on
classic queues. But each worker writes down what it runs, in a file that outlives it and that it
holds a lock on while it lives. Whoever on the same machine gets a message again looks there: if
the writer is dead, the message is blamed, and struck off so that it is blamed once.

Record locks: the kernel drops them at any death, and forked children do not inherit them.
"""

from __future__ import annotations

import fcntl
import os
import tempfile
import threading
from contextlib import suppress
from pathlib import Path

from ...flight_recorder import RECORD_SIZE, FlightRecorder

__all__ = ["MAX_CRASHES", "Flights"]

#: How many processes a message may bring down before it is dead.
MAX_CRASHES = 3
#: Seconds, and how often, to look again at a writer that lives: of one that is about to die the
#: server may hear before its lock is gone.
LOOK_S, LOOKS = 0.01, 5


class _LockedRecorder(FlightRecorder):
    """A flight recorder that holds a lock on its file for as long as its process lives."""

    def __init__(self, slots: int) -> None:
        super().__init__(slots)
        self._lock = os.open(Path(tempfile.gettempdir()) / self.name, os.O_RDWR)
        fcntl.lockf(self._lock, fcntl.LOCK_EX)

    def close(self) -> None:
        super().close()
        descriptor, self._lock = self._lock, -1
        if descriptor >= 0:
            os.close(descriptor)


class Flights:
    """The flight recorders of this process, and what those of dead ones tell. Any thread."""

    def __init__(self) -> None:
        self._own: set[str] = set()

    def make(self, slots: int) -> FlightRecorder:
        """Return a recorder for a worker of this process."""
        recorder = _LockedRecorder(slots)
        self._own.add(recorder.name)
        return recorder

    def running(self) -> set[bytes]:
        """Return what other processes of this machine run, or ran when they died."""
        found: set[bytes] = set()
        for path in self._others():
            with suppress(OSError):
                found.update(_slots_of(path.read_bytes()).values())
        return found

    def was_running(self, delivery_id: bytes) -> bool:
        """Tell whether a process of this machine died running a message; only once for each."""
        return any(_strike_off(path, delivery_id) for path in self._others())

    def _others(self) -> list[Path]:
        # Not our own: to close a file drops all locks of the process on it.
        found = Path(tempfile.gettempdir()).glob("dramatiq-flight-*")
        return [path for path in found if path.name not in self._own]


def _strike_off(path: Path, delivery_id: bytes) -> bool:
    """Remove a message from the records of a dead process; False if it is not there."""
    with suppress(OSError):
        descriptor = os.open(path, os.O_RDWR | os.O_NOFOLLOW)
        try:
            slots = _slots_of(os.pread(descriptor, 1 << 20, 0))
            if delivery_id not in slots.values() or not _is_abandoned(descriptor):
                return False
            # Again, now that nobody else can change it.
            slots = _slots_of(os.pread(descriptor, 1 << 20, 0))
            guilty = [slot for slot, running in slots.items() if running == delivery_id]
            for slot in guilty:
                os.pwrite(descriptor, b"\x00", slot * RECORD_SIZE)
            if len(guilty) == len(slots):
                path.unlink()
            return bool(guilty)
        finally:
            os.close(descriptor)
    return False


def _slots_of(data: bytes) -> dict[int, bytes]:
    """Return what runs in which slot."""
    slots = {}
    for slot in range(len(data) // RECORD_SIZE):
        record = data[slot * RECORD_SIZE : (slot + 1) * RECORD_SIZE]
        if record[0]:
            slots[slot] = record[1 : 1 + record[0]]
    return slots


def _is_abandoned(descriptor: int) -> bool:
    """Take the lock of a file whose writer is dead."""
    never = threading.Event()
    for _ in range(LOOKS):
        with suppress(OSError):
            fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        never.wait(LOOK_S)
    return False
