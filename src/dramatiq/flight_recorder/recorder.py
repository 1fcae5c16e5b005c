"""Writing down what this process runs. Nearly free, for it is done around every message."""

from __future__ import annotations

import mmap
import os
import tempfile
from pathlib import Path
from struct import Struct
from threading import Lock
from time import monotonic
from weakref import WeakValueDictionary

try:
    import fcntl
except ImportError:  # pragma: no cover (Windows)
    fcntl = None  # type: ignore[assignment]

from . import reading
from .layout import (
    BOOT_ID_AT,
    FREE,
    HEADER_SIZE,
    LONGEST_LEASE,
    NUMBER,
    PREFIX,
    PROGRESS_CELLS,
    PULSE_AT,
    RECORD_FIELDS,
    RECORD_FIELDS_AT,
    RECORD_SIZE,
    RECORDS_AT,
    RUNNING,
    STOPPING_AT,
    VERSION,
    boot_id,
)

__all__ = ["FlightRecorder", "Progress", "Record", "look"]

#: The recorders of this process. To open and close the file of one would drop its lock.
_own: WeakValueDictionary[str, FlightRecorder] = WeakValueDictionary()
_write_fields = RECORD_FIELDS.pack_into
_write_number = NUMBER.pack_into
_write_deadline = Struct("<d").pack_into


class Record:
    """The place of one thread or slot. Belongs to whoever runs there.

    Args:
        memory: Its bytes.
    """

    __slots__ = ("_memory",)

    def __init__(self, memory: memoryview) -> None:
        self._memory = memory

    def begin(self, lease: object, actor_name: str = "", queue_name: str = "") -> None:
        """Write down that a message is started.

        Args:
            lease: What its broker knows it by; None, or one that is too long, is never blamed.
            actor_name: For people.
            queue_name: For people.
        """
        if type(lease) is not bytes:
            lease = b"" if lease is None else str(lease).encode()
        if len(lease) > LONGEST_LEASE:
            lease = b""
        memory = self._memory
        _write_fields(
            memory,
            RECORD_FIELDS_AT,
            0.0,
            monotonic(),
            lease,
            actor_name.encode("utf-8", "replace"),
            queue_name.encode("utf-8", "replace"),
        )
        # Last: whoever reads sees all of it or nothing.
        memory[0] = RUNNING

    def kill_at(self, moment: float) -> None:
        """Write down when this process is to be killed if the message still runs (monotonic)."""
        _write_deadline(self._memory, RECORD_FIELDS_AT, moment)

    def end(self) -> None:
        """Write down that it ended."""
        self._memory[0] = FREE


class Progress:
    """Shows that a loop moves: its owner says each time by when it will be back.

    Time is counted in the pulse of the process, which stands still while the whole process does:
    stopped, without memory, or with the interpreter's lock held by native code. So nothing of
    that can look like a loop that hangs.

    Args:
        recorder: Whose pulse.
        memory: Its bytes.
    """

    __slots__ = ("_memory", "_recorder")

    def __init__(self, recorder: FlightRecorder, memory: memoryview) -> None:
        self._recorder = recorder
        self._memory = memory

    def expect(self, within_s: float) -> None:
        """Say that the next sign comes within so many seconds, whatever happens."""
        # One more: the present second has begun.
        _write_number(self._memory, 0, self._recorder.pulses + int(within_s) + 1)

    def rest(self) -> None:
        """Say that no sign is to be expected until the next one."""
        _write_number(self._memory, 0, 0)


class FlightRecorder:
    """The record of one worker.

    Args:
        slots: How many messages may run at a time.

    Attributes:
        name: The file's name, for `read`; it is in the folder for temporary files.
        records: The place of each thread or slot.
        pulses: How often `pulse` was called.

    Raises:
        OSError: If there is no folder for temporary files, or no space in it.
    """

    def __init__(self, slots: int) -> None:
        size = RECORDS_AT + max(1, slots) * RECORD_SIZE
        # Kept open with its lock, which tells others that this process lives.
        self._descriptor, path = tempfile.mkstemp(prefix=PREFIX)
        self.name = Path(path).name
        try:
            _allocate(self._descriptor, size)
            if fcntl is not None:
                fcntl.lockf(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB, 1)
            memory = memoryview(mmap.mmap(self._descriptor, size))
        except BaseException:
            self.close()
            raise
        self._memory = memory
        memory[BOOT_ID_AT : BOOT_ID_AT + 1 + len(boot_id())] = bytes([len(boot_id())]) + boot_id()
        memory[: len(VERSION)] = VERSION
        self.records = [
            Record(memory[at : at + RECORD_SIZE]) for at in range(RECORDS_AT, size, RECORD_SIZE)
        ]
        self.pulses = 0
        self._free_cells = list(range(PROGRESS_CELLS))
        self._lock = Lock()
        _own[self.name] = self

    def progress(self) -> Progress | None:
        """Return where another loop may show its progress; None if there are too many."""
        with self._lock:
            if not self._free_cells:
                return None
            at = HEADER_SIZE + 8 * self._free_cells.pop(0)
        return Progress(self, self._memory[at : at + 8])

    def pulse(self) -> None:
        """Count one more second in which this process could run. One thread only."""
        self.pulses += 1
        _write_number(self._memory, PULSE_AT, self.pulses)

    def look(self) -> reading.Sight:
        """Return what others see in the file. From any thread."""
        return reading.decode(bytes(self._memory))

    def stopping(self) -> None:
        """Excuse what is running: if the process dies from here on, it was asked to end."""
        self._memory[STOPPING_AT] = 1

    def close(self) -> None:
        """Remove the file. Harmless when called twice."""
        reading.forget(self.name)
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)


def look(name: str) -> reading.Sight:
    """Return what a process of this machine is running, ours included.

    Args:
        name: That of its recorder.
    """
    own = _own.get(name)
    return reading.look_at_other(name) if own is None else own.look()


def _allocate(descriptor: int, size: int) -> None:
    """Give the file its size, and its space: to write where there is none left would kill."""
    if hasattr(os, "posix_fallocate"):
        os.posix_fallocate(descriptor, 0, size)
    else:
        os.ftruncate(descriptor, size)
