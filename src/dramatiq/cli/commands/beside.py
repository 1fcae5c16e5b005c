"""The dashboard beside the worker of `dev`, in a process of its own.

It outlives a reload, in which the program of `dev` is replaced by itself and nothing but its
process id, its open files and its environment stay: so these say which process the dashboard is.
It ends with `dev`, whatever ends that: it reads from a pipe that nobody writes to, and that is
closed with the last process that has its other end.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from contextlib import suppress
from importlib.util import find_spec
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import argparse

__all__ = ["Beside", "is_installed"]

#: Tells a program that starts anew which of its children the dashboard is.
VARIABLE = "DRAMATIQ_DEV_DASHBOARD"
#: What the extra `dashboard` brings.
PACKAGES = ("starlette", "jinja2", "uvicorn")


def is_installed() -> bool:
    """Tell whether what the dashboard needs is there."""
    return all(find_spec(name) is not None for name in PACKAGES)


class Beside:
    """A dashboard that runs. Main thread only.

    Args:
        pid: Its process; a child of this one.
    """

    def __init__(self, pid: int) -> None:
        self._pid = pid

    @classmethod
    def start(cls, args: argparse.Namespace) -> Beside:
        """Start a dashboard, unless that from before a reload still runs.

        Args:
            args: The command line of workers.
        """
        known = os.environ.get(VARIABLE, "")
        if known.isdecimal() and _is_running_child(int(known)):
            return cls(int(known))
        reading, writing = os.pipe()
        # Kept open by nothing but being inherited, also by the program that starts anew.
        os.set_inheritable(writing, True)
        with os.fdopen(reading) as until:
            process = subprocess.Popen(  # noqa: S603 (this program)
                _command_of(args),
                stdin=until,
                # Ctrl-C is for the worker; this ends after it.
                start_new_session=True,
            )
        os.environ[VARIABLE] = str(process.pid)
        # Reaped below, perhaps by a program that knows nothing of the object.
        process.returncode = 0
        return cls(process.pid)

    def end(self) -> None:
        """End it at once: it keeps nothing that could be lost."""
        os.environ.pop(VARIABLE, None)
        with suppress(OSError):  # it has ended by itself
            os.kill(self._pid, getattr(signal, "SIGKILL", signal.SIGTERM))
        with suppress(OSError):
            os.waitpid(self._pid, 0)


def _command_of(args: argparse.Namespace) -> list[str]:
    paths = [args.path] if isinstance(args.path, str) else args.path or ()
    command = [sys.executable, "-m", "dramatiq", "dashboard", "--end-with-stdin"]
    for path in paths:
        command += ["--path", path]
    if args.history:
        command.append("--history")
    return [*command, "--", args.broker, *args.modules]


def _is_running_child(pid: int) -> bool:
    try:
        return os.waitpid(pid, getattr(os, "WNOHANG", 0)) == (0, 0)
    except OSError:  # a child of somebody else: the variable was inherited
        return False
