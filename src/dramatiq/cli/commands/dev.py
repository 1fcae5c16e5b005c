"""`dev`: one worker that shows what it does, reloads, and has the dashboard beside it."""

from __future__ import annotations

import os
import sys
from importlib.util import find_spec
from typing import TYPE_CHECKING

from ...default_broker import URL_VARIABLE
from .. import HAS_WATCHDOG
from ..command import run_workers
from ..parser import make_argument_parser
from .beside import Beside, is_installed

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["run"]

#: The broker of applications that choose none: in a file here, nothing to install or to start.
EMBEDDED_URL = "sqlite:///dramatiq.db"


def run(name: str, argv: Sequence[str]) -> int:
    """Run a worker for development; all options of workers hold.

    Args:
        name: The command.
        argv: What follows it.
    """
    parser = make_argument_parser()
    parser.prog = f"dramatiq {name}"
    parser.description = (
        "Run one worker process for development. It reloads when sources in the current directory "
        "change; without a broker of its own choice the application gets the embedded one."
    )
    parser.add_argument(
        "--no-dashboard", action="store_true", help="run no dashboard beside the worker"
    )
    parser.add_argument(
        "--history", action="store_true",
        help="record attempts, arguments included, where the application records none",
    )  # fmt: skip
    parser.set_defaults(processes=1, threads=8)
    args = parser.parse_args(argv)
    args.is_dev = True
    args.env_hint = _choose_embedded_broker()
    if args.watch is None and HAS_WATCHDOG:
        args.watch = os.curdir
    if not HAS_WATCHDOG:
        sys.stderr.write(
            f"dramatiq {name}: sources are not watched here. After a change: kill -HUP "
            f"{os.getpid()}\n"
        )
    if args.no_dashboard:
        return run_workers(args)
    if not is_installed():
        sys.stderr.write(
            f"dramatiq {name}: no dashboard here. To have it: pip install 'dramatiq[dashboard]'\n"
        )
        return run_workers(args)
    dashboard = Beside.start(args)
    try:
        # Does not return after a reload, in which this program is replaced.
        return run_workers(args)
    finally:
        dashboard.end()


def _choose_embedded_broker() -> str:
    """Have an application that chooses no broker get the embedded one.

    Returns:
        What commands for this application must be started with to find the same.
    """
    # A reload starts this program anew, in the environment it was left with.
    is_chosen = os.environ.get(URL_VARIABLE) not in {None, "", EMBEDDED_URL}
    if is_chosen or find_spec("redis") is None:
        return ""  # then it is what commands find by themselves, too
    os.environ[URL_VARIABLE] = EMBEDDED_URL
    return f"{URL_VARIABLE}={EMBEDDED_URL} "
