"""The command line: options, their limits and their help."""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .commands import COMMANDS_EPILOG

if TYPE_CHECKING:
    from collections.abc import Sequence

#: How many processors this machine has: the default number of worker processes.
CPUS = os.cpu_count() or 1

#: Milliseconds that --worker-fork-timeout may be, shortest and longest.
FORK_TIMEOUT_RANGE_MS = (10.0, 1_800_000.0)

#: The long options of 2.x. A beginning that was enough to tell one of them from the others still
#: means that one, whatever options have come since.
OPTIONS_OF_OLD = frozenset(
    {
        "--help",
        "--version",
        "--verbose",
        "--processes",
        "--threads",
        "--path",
        "--queues",
        "--pid-file",
        "--log-file",
        "--skip-logging",
        "--use-spawn",
        "--fork-function",
        "--worker-fork-timeout",
        "--worker-shutdown-timeout",
        "--watch",
        "--watch-use-polling",
        "--watch-include",
        "--watch-exclude",
    }
)

HELP_EPILOG = """\
examples:
  # Run the actors of the module "app" with the broker that it sets:
  $ dramatiq app

  # The broker is the variable "broker" of "app"; actors are in two more modules:
  $ dramatiq app:broker app.mail app.reports

  # One process with four threads that serves two queues only:
  $ dramatiq app -p 1 -t 4 -Q mail,reports

  # Import from the directory "src":
  $ dramatiq app --path src

  # While developing: start again whenever a source changes:
  $ dramatiq app --watch .

  # Work off what is there, then exit; for cron jobs and pipelines:
  $ dramatiq app --burst

  # See whether the application can be imported and its broker be reached:
  $ dramatiq app --check

signals to the main process:
  TERM, INT  finish what is running, put the rest back into its queues, exit
  HUP        the same, then start again with the code as it is on disk by then;
             with --rolling one process after the other, without a gap
  a second   of any of them ends everything at once
"""


def worker_fork_timeout_type(value: str) -> float:
    """Read --worker-fork-timeout.

    Args:
        value: Milliseconds, in Python's notation for numbers.

    Returns:
        Milliseconds.

    Raises:
        argparse.ArgumentTypeError: It is no number, or outside of 10 ms to 30 minutes.
    """
    shortest, longest = FORK_TIMEOUT_RANGE_MS
    try:
        timeout_ms = float(value)
    except ValueError:
        raise argparse.ArgumentTypeError("worker-fork-timeout be a number.") from None

    if timeout_ms > longest:
        raise argparse.ArgumentTypeError("worker-fork-timeout too large (maximum: 30 minutes).")
    if not timeout_ms >= shortest:  # also true for "nan"
        raise argparse.ArgumentTypeError(
            "worker-fork-timeout too small (minimum recommended: 10ms)."
        )
    return timeout_ms


def folder_path(value: str) -> str:
    """Read an option that names an existing directory.

    Raises:
        argparse.ArgumentTypeError: There is no such directory.
    """
    if not Path(value).is_dir():
        raise argparse.ArgumentTypeError(f"{value!r} is not an existing directory.")
    return value


def _positive_integer(value: str) -> int:
    try:
        number = int(value)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{value!r} is not a whole number.") from None
    if number < 1:
        raise argparse.ArgumentTypeError(f"must be 1 or more, not {value}.")
    return number


def _non_negative_integer(value: str) -> int:
    number = int(value)
    if number < 0:
        raise argparse.ArgumentTypeError(f"must be 0 or more, not {value}.")
    return number


class _Parser(argparse.ArgumentParser):
    """A parser in which new options take no abbreviation away from those of 2.x."""

    # An inner method of the standard library, overridden for want of a public one. The first
    # item of each tuple is the action, in every version of Python so far.
    def _get_option_tuples(self, option_string: str) -> list[Any]:
        found: list[Any] = super()._get_option_tuples(option_string)
        of_old = [each for each in found if not OPTIONS_OF_OLD.isdisjoint(each[0].option_strings)]
        return of_old or found


class _SplitAtCommas(argparse.Action):
    """Takes ``a b``, ``a,b`` and mixtures of both for the same list."""

    def __call__(
        self,
        _parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: str | Sequence[Any] | None,
        _option: str | None = None,
    ) -> None:
        names = [name for value in values or () for name in value.split(",") if name]
        setattr(namespace, self.dest, names)


def make_argument_parser() -> argparse.ArgumentParser:
    """Build the parser of the worker's command line."""
    from dramatiq import __version__  # late: the package imports lower layers first

    parser = _Parser(
        prog="dramatiq",
        description="Run the workers of a dramatiq application.",
        epilog=HELP_EPILOG + COMMANDS_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "broker",
        help="where the broker is: 'package.module', or 'package.module:variable'; "
        "a callable variable is called to set the broker up",
    )
    parser.add_argument(
        "modules", metavar="module", nargs="*", help="more modules to import, for their actors"
    )
    _add_worker_options(parser)
    _add_process_options(parser)
    _add_life_options(parser)
    _add_watch_options(parser)
    parser.add_argument("--version", action="version", version=__version__)
    parser.add_argument(
        "--verbose", "-v", action="count", default=0, help="log debug messages and full tracebacks"
    )
    return parser


def _add_worker_options(parser: argparse.ArgumentParser) -> None:
    # fmt: off
    add = parser.add_argument
    add(
        "--processes", "-p", type=_positive_integer, default=CPUS, metavar="N",
        help="worker processes (default: %(default)s, the number of processors)",
    )
    add(
        "--threads", "-t", type=_positive_integer, default=8, metavar="N",
        help="worker threads per process (default: %(default)s)",
    )
    add(
        "--async-slots", type=_non_negative_integer, default=None, metavar="N",
        help="how many messages of async actors a process runs at a time (default: 100); "
        "0 runs each of them on a worker thread",
    )
    # Not --uvloop: then --u would not be enough any more for --use-spawn.
    add("--async-uvloop", action="store_true", help="run async actors on uvloop's event loop")
    add(
        "--path", "-P", nargs="*", default=["."], metavar="DIR",
        help="put these directories in front of the import path; the last one is searched first "
        "(default: the current directory)",
    )
    add(
        "--queues", "-Q", nargs="*", action=_SplitAtCommas, default=None, metavar="QUEUE",
        help="serve these queues only, separated by spaces or commas (default: all)",
    )
    add(
        "--exclude-queues", nargs="+", action=_SplitAtCommas, default=None, metavar="QUEUE",
        help="serve all queues but these, separated by spaces or commas",
    )
    add(
        "--worker-shutdown-timeout", type=int, default=600_000, metavar="MS",
        help="how long running messages may take to finish when stopping "
        "(default: %(default)s ms)",
    )
    # fmt: on


def _add_process_options(parser: argparse.ArgumentParser) -> None:
    # fmt: off
    add = parser.add_argument
    add("--pid-file", metavar="FILE", help="write the id of the main process to this file")
    add("--log-file", metavar="FILE", help="append all logs to this file (default: stderr)")
    add(
        "--skip-logging", action="store_true",
        help="leave the configuration of logging to the application",
    )
    add(
        "--log-format", choices=("plain", "json"), default="plain",
        help="how log records look: lines for people, or one JSON object per line",
    )
    add(
        "--use-spawn", action="store_true",
        help="start processes as fresh interpreters instead of forking them",
    )
    add(
        "--fork-function", "-f", action="append", dest="forks", default=[],
        metavar="MODULE:FUNCTION", help="run this function in a process of its own; repeatable",
    )
    add(
        "--worker-fork-timeout", type=worker_fork_timeout_type, default=30_000.0, metavar="MS",
        help="how long fork functions wait for the workers to boot (default: %(default)g ms)",
    )
    add(
        "--die-with-child", action="store_true",
        help="stop everything when a worker process dies, instead of replacing it",
    )
    # fmt: on


def _add_life_options(parser: argparse.ArgumentParser) -> None:
    # fmt: off
    add = parser.add_argument
    add(
        "--rolling", action="store_true",
        help="on SIGHUP replace the processes one at a time, each when its replacement is ready",
    )
    add(
        "--burst", action="store_true",
        help="exit when the queues have nothing left that is due",
    )
    add(
        "--max-messages", type=_positive_integer, default=None, metavar="N",
        help="replace a worker process after about so many messages",
    )
    add(
        "--max-memory", type=_positive_integer, default=None, metavar="MB",
        help="replace a worker process that takes more memory than this (resident set, in MiB)",
    )
    add(
        "--check", action="store_true",
        help="import the application, see whether the broker can be reached, and exit",
    )
    add(
        "--strict", action="store_true",
        help="refuse to start where there would be a warning, about an unknown queue for example",
    )
    # fmt: on


def _add_watch_options(parser: argparse.ArgumentParser) -> None:
    # fmt: off
    add = parser.add_argument
    add(
        "--watch", type=folder_path, metavar="DIR",
        help="reload when sources in this directory change (for development)",
    )
    add(
        "--watch-use-polling", action="store_true",
        help="look for changes regularly, for file systems that do not announce them",
    )
    add(
        "--watch-include", "-i", action="append", dest="include_patterns", default=["**.py"],
        metavar="PATTERN", help="also watch files like this; repeatable",
    )
    add(
        "--watch-exclude", "-x", action="append", dest="exclude_patterns", default=None,
        metavar="PATTERN", help="do not watch files like this; repeatable",
    )
    # fmt: on
