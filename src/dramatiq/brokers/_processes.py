"""Telling from another process of this machine whether a process is there."""

from __future__ import annotations

import os
import socket
from contextlib import suppress
from pathlib import Path

__all__ = ["host", "is_alive", "started"]


def host() -> str:
    """Return a name of all processes that see the same process ids."""
    parts = [socket.gethostname()]
    with suppress(OSError):
        parts.append(Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip())
        parts.append(str(Path("/proc/self/ns/pid").readlink()))
    return " ".join(parts)


def started(pid: int) -> str:
    """Return when a process started, in ticks, so that its number used again is told apart."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="ascii", errors="replace")
    except FileNotFoundError:
        # Gone, or a system without that file: then its number must do.
        return "" if not Path("/proc/self/stat").exists() else "gone"
    state, *fields = stat.rpartition(")")[2].split()
    # A zombie runs no more; its parent has yet to notice.
    return "gone" if state == "Z" else fields[18]


def is_alive(pid: int, started_at: str) -> bool:
    """Tell whether a process is there; one that is stopped is.

    Args:
        pid: Its number.
        started_at: What `started` returned for it when it was alive.
    """
    if pid == os.getpid():
        return True
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass  # somebody else's
    return started(pid) == started_at
