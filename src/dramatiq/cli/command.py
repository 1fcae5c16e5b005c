"""The program `dramatiq`: from the command line to the exit code."""

from __future__ import annotations

import os
import signal
import sys
from typing import TYPE_CHECKING

from ..compat import file_or_stderr
from .check import check
from .commands import is_command
from .failures import RET_IMPORT, RET_KILLED, RET_PIDFILE
from .logs import is_json, setup_parent_logging
from .parser import make_argument_parser
from .pidfile import PidFileError, remove_pidfile, setup_pidfile
from .signals import HANDLED_SIGNALS, SignalInbox, try_block_signals, try_unblock_signals
from .sink import LogSink
from .supervisor import Supervisor
from .watching import what_is_missing

if TYPE_CHECKING:
    import argparse
    import logging
    from multiprocessing.context import BaseContext
    from typing import TextIO

#: The name of the log file goes in.
LOG_FILE_ERROR = "dramatiq: error: cannot write to the log file {!r}: {}\n"


def main(args: argparse.Namespace | None = None) -> int:
    """Run workers until they are stopped, or the command that the command line names.

    Main thread only.

    Args:
        args: A parsed command line, also one made by another parser; `sys.argv` by default.

    Returns:
        The exit code. After SIGHUP the function does not return: the program starts anew.
    """
    if args is not None:
        try:
            return run_workers(args)
        finally:
            try_unblock_signals()
    if is_command(sys.argv[1:]):
        from .commands.dispatch import run_command  # late: workers need none of it

        return run_command(sys.argv[1:])
    return run_program()


def run_program(context: BaseContext | None = None) -> int:
    """Run what the command line of this process asks for.

    Args:
        context: How processes are started; by default as the command line says.

    Returns:
        The exit code, with which the process is to end: it does not notice signals any more.
    """
    return run_workers(make_argument_parser().parse_args(), context)


def run_workers(args: argparse.Namespace, context: BaseContext | None = None) -> int:
    """Run workers until they are stopped.

    Args:
        args: See `main`.
        context: See `run_program`.

    Returns:
        See `main`.
    """
    _extend_import_path(args)
    log_file = getattr(args, "log_file", None)
    try:
        with file_or_stderr(log_file) as stream:
            sink = _make_sink(args, stream)
            logger = setup_parent_logging(args, stream=sink.as_stream())
            try:
                if getattr(args, "check", False):
                    return check(args, logger)
                code, wants_reload = _supervise(args, logger, sink, context)
            finally:
                sink.close()
            return _start_anew(logger) if wants_reload else code
    except OSError as error:
        if log_file is None or error.filename != log_file:
            raise
        sys.stderr.write(LOG_FILE_ERROR.format(log_file, error.strerror))
        return RET_IMPORT


def _make_sink(args: argparse.Namespace, stream: TextIO) -> LogSink:
    if not is_json(args):
        return LogSink(stream)
    from .log_format import describe_gap  # only for those who ask for it

    return LogSink(stream, describe_gap)


def _extend_import_path(args: argparse.Namespace) -> None:
    paths = getattr(args, "path", ".")
    for path in [paths] if isinstance(paths, str) else paths or ():
        # Absolute, so that it still holds when the application changes directory.
        sys.path.insert(0, os.path.abspath(path))  # noqa: PTH100 - links stay as they are


def _supervise(
    args: argparse.Namespace, logger: logging.Logger, sink: LogSink, context: BaseContext | None
) -> tuple[int, bool]:
    """Run the supervisor.

    Returns:
        The exit code, and whether the program is to start anew.
    """
    if getattr(args, "watch", None) and (problem := what_is_missing()):
        logger.critical("%s", problem)
        return RET_IMPORT, False

    child_died = {signal.SIGCHLD} if hasattr(signal, "SIGCHLD") else set()
    pid_file = getattr(args, "pid_file", None)
    with SignalInbox(HANDLED_SIGNALS | child_died) as inbox:
        try:
            if pid_file:
                setup_pidfile(pid_file)
        except PidFileError as error:
            logger.critical("%s", error)
            return RET_PIDFILE, False

        supervisor = Supervisor(args, inbox, logger, sink, context=context)
        try:
            code = supervisor.run()
        finally:
            # From here to the end, or to the handlers of the program that starts anew, a signal
            # would kill and spoil the exit code. It waits instead; what came shortly before is
            # not forgotten.
            try_block_signals()
            supervisor.take_late_signals()
            if pid_file and not supervisor.wants_reload:
                remove_pidfile(pid_file)
        return code, supervisor.wants_reload


def _start_anew(logger: logging.Logger) -> int:
    """Replace this program by a fresh one, in the same process.

    Returns:
        An exit code, only if that failed.
    """
    # As it was started, with the options of the interpreter, by script or by module.
    command = [sys.executable, *sys.orig_argv[1:]]
    sys.stdout.flush()
    try:
        os.execv(command[0], command)  # noqa: S606 - no shell wanted
    except OSError as error:
        logger.critical("Cannot start again with %s: %s", command, error)
    return RET_KILLED
