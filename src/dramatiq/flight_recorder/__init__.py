"""What a process is running, kept where others can read it while it lives and after it has died.

A worker that crashes takes down everything it held, but only what was running can be to blame.
Each of its threads and slots writes down what it starts, in a memory-mapped file: that costs no
system call, and the kernel keeps it however the process ends. The supervisor reads in the same
file which messages are overdue, and whether consumers and the event loop still move.

`layout` says what is where in the file, `recorder` writes it, `reading` is for everybody else.
"""

from __future__ import annotations

from .reading import FlightReader, Running, Sight, find_stale, forget, names, read, strike_off
from .recorder import FlightRecorder, Progress, Record, look

__all__ = [
    "FlightReader",
    "FlightRecorder",
    "Progress",
    "Record",
    "Running",
    "Sight",
    "find_stale",
    "forget",
    "look",
    "names",
    "read",
    "strike_off",
]
