"""The machine that the figures belong to."""

from __future__ import annotations

import os
import platform
import sqlite3
import subprocess
import tempfile
import time
from pathlib import Path

from .stores import find_redis_server

__all__ = ["describe", "syncs_per_second"]

#: Seconds of syncing per measurement.
SYNC_S = 0.3
#: Bytes per write: a page of SQLite.
PAGE = bytes(4096)


def syncs_per_second() -> float:
    """Return how many small appends a second the disk of the temporary folder makes durable."""
    with tempfile.TemporaryFile(buffering=0) as file:
        count, start = 0, time.perf_counter()
        while (seconds := time.perf_counter() - start) < SYNC_S:
            file.write(PAGE)
            os.fdatasync(file.fileno())
            count += 1
        return count / seconds


def describe() -> dict[str, str | int]:
    """Return what the figures depend on, apart from the disk."""
    return {
        "processor": _processor(),
        "cores": len(os.sched_getaffinity(0)),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "sqlite": sqlite3.sqlite_version,
        "redis": _redis(),
    }


def _redis() -> str:
    try:
        program = find_redis_server()
    except FileNotFoundError:
        return "none"
    line = subprocess.run([program, "--version"], stdout=subprocess.PIPE, text=True, check=True)
    return line.stdout.partition("v=")[2].partition(" ")[0]


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()
