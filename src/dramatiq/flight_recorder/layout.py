"""What is where in the file of a flight recorder.

    header    HEADER_SIZE         version, pulse, whether the process is stopping, boot id
    progress  PROGRESS_CELLS x 8  the pulse by which each loop will be back; 0 if it need not
    records   slots x RECORD_SIZE state, deadline, start, lease, actor, queue

Each cell and record belongs to one thread or task at a time. Nothing is locked: the state of a
record is one byte, written last, and who reads a living process looks twice.
"""

from __future__ import annotations

import re
import tempfile
from contextlib import suppress
from functools import cache
from pathlib import Path
from struct import Struct

__all__ = [
    "BOOT_ID_AT",
    "FREE",
    "GUILTY",
    "HEADER_SIZE",
    "LONGEST_LEASE",
    "NUMBER",
    "PREFIX",
    "PROGRESS_CELLS",
    "PULSE_AT",
    "RECORDS_AT",
    "RECORD_FIELDS",
    "RECORD_FIELDS_AT",
    "RECORD_SIZE",
    "RUNNING",
    "STOPPING_AT",
    "VERSION",
    "boot_id",
    "path_of",
]

#: What the names of the files start with, in the folder for temporary files.
PREFIX = "dramatiq-flight-"
_NAME = re.compile(rf"{PREFIX}\w+")

#: First in the file; another one means that it was written by another version of this library.
VERSION = b"flight 2"
PULSE_AT = 8
STOPPING_AT = 16
#: A Pascal string.
BOOT_ID_AT = 17
HEADER_SIZE = 128
#: Loops that can be watched at a time: one for each queue, delays included, and the event loop.
PROGRESS_CELLS = 256
RECORDS_AT = HEADER_SIZE + 8 * PROGRESS_CELLS

#: The first byte of a record.
FREE, RUNNING, GUILTY = 0, 1, 2
RECORD_FIELDS_AT = 8
#: Deadline (0 for none) and start by the monotonic clock, lease, actor, queue. Names that are too
#: long are cut.
RECORD_FIELDS = Struct("<dd64p40p32p")
RECORD_SIZE = RECORD_FIELDS_AT + RECORD_FIELDS.size
#: Bytes of a lease that can be kept whole.
LONGEST_LEASE = 63
NUMBER = Struct("<Q")


@cache
def boot_id() -> bytes:
    """Return what tells one start of this machine from another; empty where nothing does."""
    with suppress(OSError):
        return Path("/proc/sys/kernel/random/boot_id").read_bytes().strip()
    return b""


def path_of(name: str) -> Path | None:
    """Return where the file of that name is; None for what cannot be one."""
    # Names come from a store that others write to: they must not lead anywhere else.
    if not _NAME.fullmatch(name):
        return None
    return Path(tempfile.gettempdir()) / name
