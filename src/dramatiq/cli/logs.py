"""Logging of all processes through one door.

Each child writes log records, and whatever its actors print, into a pipe of its own (`log_pipes`).
The supervisor reads all of these pipes in its loop and copies complete lines to standard error or
to the log file, so that lines of different processes never run into each other.
"""

from __future__ import annotations

import logging
import sys
from typing import TYPE_CHECKING, Any, cast

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable
    from typing import TextIO

    from .log_pipes import LineStream

LOGFORMAT = (
    "[%(asctime)s] [PID %(process)d] [%(threadName)s] [%(name)s] [%(levelname)s] %(message)s"
)

#: Level for each number of -v; more of them do not say more.
VERBOSITY = {0: logging.INFO, 1: logging.DEBUG}


def log_level(args: argparse.Namespace) -> int:
    """Return the level that the number of -v asks for."""
    return VERBOSITY.get(getattr(args, "verbose", 0), logging.DEBUG)


def setup_parent_logging(
    args: argparse.Namespace, *, stream: TextIO | None = None
) -> logging.Logger:
    """Make the logger of the main process.

    Only that logger is configured. The root logger stays untouched, so that children which are
    forked later find it as the application left it.

    Args:
        args: The command line.
        stream: Where it writes; standard error by default.
    """
    logger = logging.getLogger("dramatiq.MainProcess")
    logger.setLevel(log_level(args))
    for handler in list(logger.handlers):
        logger.removeHandler(handler)
    logger.propagate = bool(getattr(args, "skip_logging", False) or logging.root.handlers)
    if not logger.propagate:
        logger.addHandler(_make_handler(args, stream))
    return logger


def _make_handler(
    args: argparse.Namespace, stream: TextIO | None
) -> logging.StreamHandler[TextIO | Any]:
    handler = logging.StreamHandler(stream)
    handler.setFormatter(make_formatter(args))
    return handler


def make_formatter(args: argparse.Namespace) -> logging.Formatter:
    """Return the formatter that the command line asks for."""
    if not is_json(args):
        return logging.Formatter(LOGFORMAT)
    from .log_format import JSONFormatter  # only for those who ask for it

    return JSONFormatter()


def is_json(args: argparse.Namespace) -> bool:
    """Tell whether the log is to consist of JSON objects."""
    return getattr(args, "log_format", "plain") == "json"


def make_logging_setup(
    prefix: str,
) -> Callable[[argparse.Namespace, int, LineStream], logging.Logger]:
    """Return the function that sets up logging in one kind of child.

    Args:
        prefix: Name of the kind, part of the logger's name.
    """

    def setup_child_logging(
        args: argparse.Namespace, child_id: int, stream: LineStream
    ) -> logging.Logger:
        sys.stdout = sys.stderr = cast("TextIO", stream)
        if not getattr(args, "skip_logging", False):
            handler = _make_handler(args, cast("TextIO", stream))
            logging.basicConfig(level=log_level(args), handlers=[handler])
            if is_json(args):
                from .log_format import replace_standard_streams  # as in make_formatter

                replace_standard_streams(stream)
            # It reports every lost connection at length, and so do we in one line.
            logging.getLogger("pika").setLevel(logging.CRITICAL)
        return logging.getLogger(f"dramatiq.{prefix}({child_id})")

    return setup_child_logging


setup_worker_logging = make_logging_setup("WorkerProcess")
setup_fork_logging = make_logging_setup("ForkProcess")
