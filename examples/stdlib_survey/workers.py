"""The worker processes: the real command line, as a child of this program."""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Self

__all__ = ["SurveyError", "Workers", "lock"]

#: The folder that this package's own package is in.
ROOT = Path(__file__).resolve().parents[2]
#: Seconds the workers have to finish what they are running.
STOP_TIMEOUT_S = 30.0
#: Seconds to wait for the lock: processes that were killed a moment ago take a little to be gone.
LOCK_TIMEOUT_S = 3.0
#: Seconds between two tries.
LOCK_INTERVAL_S = 0.05


class SurveyError(Exception):
    """The survey cannot go on; the text says why, and what to do."""


class Workers:
    """Runs the workers while the context is open. Use it from one thread.

    They stay in the process group of this program: whoever kills the group kills them too, and
    Ctrl-C in the terminal reaches them by itself.

    Args:
        folder: Where their log goes.
        processes: How many processes.
        threads: How many threads each of them has.
        lock: What `lock` returned; they hold it too.
    """

    def __init__(self, folder: Path, *, processes: int, threads: int, lock: int) -> None:
        self.log = folder / "workers.log"
        self._lock = lock
        self._command = [
            *(sys.executable, "-m", "dramatiq", f"{__package__}.actors"),
            *("--path", str(ROOT), "--log-file", str(self.log)),
            *("--processes", str(processes), "--threads", str(threads)),
        ]

    def __enter__(self) -> Self:
        self._process = subprocess.Popen(
            self._command, stdin=subprocess.DEVNULL, pass_fds=[self._lock]
        )
        os.pwrite(self._lock, f"{self._process.pid:<20}".encode(), 0)
        return self

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        try:
            self._process.wait(STOP_TIMEOUT_S)
        except (subprocess.TimeoutExpired, KeyboardInterrupt):
            # Nothing is lost: what they were running runs again in the next run.
            self._process.kill()
            self._process.wait()

    def check(self) -> None:
        """Check that they are at work.

        Raises:
            SurveyError: If they have ended.
        """
        code = self._process.poll()
        if code is not None:
            raise SurveyError(f"The workers ended with exit code {code}. See {self.log}.")


def lock(folder: Path) -> int:
    """Make sure that nobody else surveys in this folder, for as long as this process lives.

    The workers inherit the lock. So it also shows workers that outlived a program which was
    killed alone.

    Returns:
        The descriptor of the lock.

    Raises:
        SurveyError: If somebody does, and does not end soon.
    """
    descriptor = os.open(folder / "lock", os.O_RDWR | os.O_CREAT, 0o600)
    deadline_s = time.monotonic() + LOCK_TIMEOUT_S
    while not _try(descriptor):
        if time.monotonic() > deadline_s:
            pid = os.pread(descriptor, 20, 0).decode().strip() or "unknown"
            os.close(descriptor)
            raise SurveyError(
                f"A survey is already at work in {folder}. Wait for it or, if its terminal is "
                f"gone, stop its workers (process {pid}), then run this again."
            )
        time.sleep(LOCK_INTERVAL_S)
    os.ftruncate(descriptor, 0)
    return descriptor


def _try(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
