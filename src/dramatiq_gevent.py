"""The program `dramatiq-gevent`: workers whose threads are greenlets.

A module beside the package, because gevent has to replace the standard library's locks and sockets
before any module of the package takes hold of them. That happens in the processes that run the
application, each of them a fresh interpreter. The main process, which runs none of it, stays as it
is: its way of noticing signals and dead children is that of the operating system.
"""

from __future__ import annotations

import importlib
import importlib.util
import multiprocessing.context
import sys
import sysconfig
import warnings
from typing import Any

__all__ = ["main"]

#: What is printed where gevent is not installed.
MISSING = (
    "dramatiq-gevent: error: gevent is not installed. "
    "Install it with: pip install 'dramatiq[gevent]'\n"
)


def main() -> int:
    """Run the command line.

    Returns:
        The exit code; 1 where gevent is not installed.
    """
    if importlib.util.find_spec("gevent") is None:
        sys.stderr.write(MISSING)
        return 1
    if sysconfig.get_config_var("Py_GIL_DISABLED"):
        warnings.warn(
            "gevent needs the GIL, and this Python is built to run without: importing gevent "
            "enables it again.",
            RuntimeWarning,
            stacklevel=2,
        )
    from dramatiq.cli.command import run_program

    return run_program(_GreenContext())


class _GreenProcess(multiprocessing.context.SpawnProcess):
    """A process in which everything is patched before anything of ours is imported."""

    def __reduce__(self) -> tuple[Any, ...]:
        # The new interpreter calls the function before it unpickles, and imports, the rest.
        return _make_patched_process, (), self.__dict__


class _GreenContext(multiprocessing.context.SpawnContext):
    """Starts such processes."""

    Process = _GreenProcess


def _make_patched_process() -> _GreenProcess:
    importlib.import_module("gevent.monkey").patch_all()
    return _GreenProcess.__new__(_GreenProcess)


if __name__ == "__main__":
    sys.exit(main())
