"""The worker processes: the real command line, as a child of this program."""

from __future__ import annotations

import fcntl
import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Self

__all__ = ["SurveyError", "Workers", "lock"]

#: The folder that this package's own package is in.
ROOT = Path(__file__).resolve().parents[2]
#: Seconds the workers have to finish what they are running.
STOP_TIMEOUT_S = 30.0
#: Seconds to wait for the lock: processes that were killed a moment ago take a little to be gone.
LOCK_TIMEOUT_S = 1.0
#: Seconds between two tries.
LOCK_INTERVAL_S = 0.05
#: Characters of the process id that is noted in the lock file.
PID_WIDTH = 20


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
        lock: What `lock` returned; they inherit it.
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
        os.pwrite(self._lock, f"{self._process.pid:<{PID_WIDTH}}".encode(), 0)
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
    """Make sure that only this process and its workers survey in this folder.

    Locks go with the processes that hold them, however these end. The workers inherit theirs: it
    tells of workers that outlived their program, when that was killed alone. They are stopped.

    Returns:
        The descriptor of the lock for the workers.

    Raises:
        SurveyError: If another program surveys here, or workers do not stop.
    """
    if not _acquire(_open(folder / "program.lock"), LOCK_TIMEOUT_S):
        raise SurveyError(f"Another survey is at work in {folder}. Wait for it, or stop it.")
    descriptor = _open(folder / "workers.lock")
    if not _acquire(descriptor, LOCK_TIMEOUT_S):
        pid = os.pread(descriptor, PID_WIDTH, 0).decode().strip()
        print(f"Stopping the workers of an earlier run (process {pid or 'unknown'}).")
        with suppress(ProcessLookupError, ValueError):
            os.kill(int(pid), signal.SIGTERM)
        if not _acquire(descriptor, STOP_TIMEOUT_S):
            raise SurveyError(f"They do not stop. End them yourself: kill -9 {pid}")
    os.ftruncate(descriptor, 0)
    return descriptor


def _open(path: Path) -> int:
    return os.open(path, os.O_RDWR | os.O_CREAT, 0o600)


def _acquire(descriptor: int, timeout_s: float) -> bool:
    deadline_s = time.monotonic() + timeout_s
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > deadline_s:
                return False
            time.sleep(LOCK_INTERVAL_S)
        else:
            return True
