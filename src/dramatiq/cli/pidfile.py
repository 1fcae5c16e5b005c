"""The file that holds the process id of the supervisor."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

#: Everybody may read it, as monitoring runs under other users.
PID_FILE_MODE = 0o644


class PidFileError(RuntimeError):
    """Raised when the PID file cannot be used: foreign, unreadable or not writable."""


def setup_pidfile(filename: str) -> int:
    """Write the id of this process, unless another running process holds the file.

    A file left by a process that is gone is replaced; one that holds our own id (as after a
    reload) is kept.

    Args:
        filename: Where; its directory must exist.

    Returns:
        The id of this process.

    Raises:
        PidFileError: Another process is running under the id in the file, the file holds
            something else, or it cannot be read or written.
    """
    path = Path(filename)
    own_pid = os.getpid()
    try:
        found = _read_pid(path)
        if found == own_pid:
            return own_pid
        if found is not None:
            if _is_running(found):
                raise PidFileError(
                    f"Process {found} is already running, says the PID file {filename!r}. "
                    "Stop it first, or use another --pid-file."
                )
            path.unlink(missing_ok=True)
        _write_pid(path, own_pid)
    except OSError as error:
        raise PidFileError(f"Cannot use the PID file {filename!r}: {error}") from error
    return own_pid


def remove_pidfile(filename: str) -> None:
    """Remove the file; a missing or forbidden one is left alone."""
    with suppress(OSError):
        Path(filename).unlink()


def _read_pid(path: Path) -> int | None:
    """Return the id in the file, or None when there is no file."""
    try:
        text = path.read_text(encoding="ascii", errors="replace").strip()
    except FileNotFoundError:
        return None

    # Zero and negative numbers address whole process groups: never an id of ours.
    if not text.isdecimal() or int(text) == 0:
        raise PidFileError(
            f"The PID file {str(path)!r} holds {text[:40]!r}, which is no process id. "
            "It is left as it is; remove it if it is not needed."
        )
    return int(text)


def _is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        return True
    return True


def _write_pid(path: Path, pid: int) -> None:
    # Exclusively and without following links: nobody may have put something there meanwhile.
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_NOFOLLOW", 0)
    descriptor = os.open(path, flags, PID_FILE_MODE)
    try:
        if hasattr(os, "fchmod"):
            os.fchmod(descriptor, PID_FILE_MODE)  # whatever the umask takes away
        os.write(descriptor, str(pid).encode())
    finally:
        os.close(descriptor)
