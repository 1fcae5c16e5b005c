"""The command line: start, watch, stop and reload worker processes.

`command` is the program, `supervisor` the main process with a `slot` for each child, `child` what
runs in a child, `channel` the pipes between them. `failures` and `imports` explain mistakes.
"""

from __future__ import annotations

from .child import fork_process, worker_process
from .command import main
from .failures import RET_CONNECT, RET_IMPORT, RET_KILLED, RET_OK, RET_PIDFILE
from .imports import import_broker, import_object
from .log_pipes import BUFSIZE, watch_logs
from .logs import (
    LOGFORMAT,
    VERBOSITY,
    make_logging_setup,
    setup_fork_logging,
    setup_parent_logging,
    setup_worker_logging,
)
from .parser import (
    CPUS,
    HELP_EPILOG,
    folder_path,
    make_argument_parser,
    worker_fork_timeout_type,
)
from .pidfile import remove_pidfile, setup_pidfile
from .signals import HANDLED_SIGNALS, try_block_signals, try_unblock_signals
from .watching import HAS_WATCHDOG

__all__ = [
    "BUFSIZE",
    "CPUS",
    "HANDLED_SIGNALS",
    "HAS_WATCHDOG",
    "HELP_EPILOG",
    "LOGFORMAT",
    "RET_CONNECT",
    "RET_IMPORT",
    "RET_KILLED",
    "RET_OK",
    "RET_PIDFILE",
    "VERBOSITY",
    "folder_path",
    "fork_process",
    "import_broker",
    "import_object",
    "main",
    "make_argument_parser",
    "make_logging_setup",
    "remove_pidfile",
    "setup_fork_logging",
    "setup_parent_logging",
    "setup_pidfile",
    "setup_worker_logging",
    "try_block_signals",
    "try_unblock_signals",
    "watch_logs",
    "worker_fork_timeout_type",
    "worker_process",
]
