"""What the kernel knows about running processes: children, processor time, memory. Linux only."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["cpu_seconds", "family", "freeze", "memory_mib", "thaw"]

PROC = Path("/proc")

#: Low bits of a clock number that mean "the processor time of that process" (user and system).
PROCESS_CLOCK = 2


def family(roots: Iterable[int]) -> list[int]:
    """Return the ids of processes and of all that descend from them, parents first."""
    found = list(roots)
    for pid in found:  # grows while it is walked
        for children in PROC.glob(f"{pid}/task/*/children"):
            with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # it has just ended
                found += map(int, children.read_text().split())
    return found


def cpu_seconds(pids: Iterable[int]) -> float:
    """Return the processor seconds that processes have used, user and system, exactly."""
    return sum(time.clock_gettime_ns((~pid << 3) | PROCESS_CLOCK) for pid in pids) / 1e9


def memory_mib(pids: Iterable[int]) -> float:
    """Return the memory of processes in MiB, where shared pages count for each sharer's part."""
    kibibytes = 0
    for pid in pids:
        for line in (PROC / str(pid) / "smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                kibibytes += int(line.split()[1])
    return kibibytes / 1024


def freeze(pids: Iterable[int]) -> None:
    """Stop processes until `thaw`."""
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)


def thaw(pids: Iterable[int]) -> None:
    """Let frozen processes run on, the youngest first."""
    for pid in reversed(list(pids)):
        os.kill(pid, signal.SIGCONT)
