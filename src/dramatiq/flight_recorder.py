"""What a process is running, kept where others can read it after the process has died.

A worker that crashes takes down everything it held, but only what was running can be to blame.
Each of its threads and slots writes down what it starts, in a memory-mapped file: that costs no
system call, and the kernel keeps it however the process ends.
"""

from __future__ import annotations

import mmap
import os
import re
import tempfile
from contextlib import suppress
from pathlib import Path

__all__ = ["FlightRecorder", "forget", "read"]

#: Bytes per thread or slot: one for the length of what follows.
RECORD_SIZE = 64
_NAME = re.compile(r"dramatiq-flight-\w+")


class FlightRecorder:
    """The record of one worker. Each slot belongs to one thread or task at a time.

    Args:
        slots: How many messages may run at a time.

    Attributes:
        name: The file's name, for `read`; it is in the folder for temporary files.
    """

    def __init__(self, slots: int) -> None:
        descriptor, path = tempfile.mkstemp(prefix="dramatiq-flight-")
        try:
            os.ftruncate(descriptor, max(1, slots) * RECORD_SIZE)
            self._memory = mmap.mmap(descriptor, 0)
        finally:
            os.close(descriptor)
        self.name = Path(path).name

    def begin(self, slot: int, lease: bytes) -> None:
        """Write down that a message is started; one with too long an id is not blamed."""
        length = len(lease)
        if length < RECORD_SIZE:
            start = slot * RECORD_SIZE + 1
            self._memory[start : start + length] = lease
            self._memory[start - 1] = length

    def end(self, slot: int) -> None:
        """Write down that it ended."""
        self._memory[slot * RECORD_SIZE] = 0

    def close(self) -> None:
        """Remove the file. Harmless when called twice."""
        forget(self.name)


def read(name: str) -> list[bytes]:
    """Return what was running when the recorder of that name was last written to."""
    path = _path_of(name)
    if path is None:
        return []
    with suppress(FileNotFoundError, PermissionError):
        data = path.read_bytes()
        records = (data[at : at + RECORD_SIZE] for at in range(0, len(data), RECORD_SIZE))
        return [record[1 : 1 + record[0]] for record in records if record[0]]
    return []


def forget(name: str) -> None:
    """Remove the file of a recorder."""
    path = _path_of(name)
    if path is not None:
        with suppress(FileNotFoundError, PermissionError):
            path.unlink()


def _path_of(name: str) -> Path | None:
    # Names come from a store that others write to: they must not lead anywhere else.
    if not _NAME.fullmatch(name):
        return None
    return Path(tempfile.gettempdir()) / name
