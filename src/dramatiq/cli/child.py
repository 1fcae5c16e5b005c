"""The life of a worker process and of a fork process, from the first instruction to the last."""

from __future__ import annotations

import logging
import os
import random
import select
import signal
import sys
import threading
import time
from typing import TYPE_CHECKING, Any, NoReturn

from ..application import set_loader
from ..asyncio import set_loop_factory
from ..threading import has_green_threads
from ..worker import Worker
from .burst import FETCH_TIMEOUT_MS
from .calls import first_steps
from .channel import BootReport, die_with_supervisor
from .failures import RET_KILLED, RET_OK, exit_code_for, explain, refuse_warnings
from .imports import import_first_word, import_object
from .log_pipes import LineStream, open_log_pipe
from .logs import is_json, log_level, setup_fork_logging, setup_worker_logging
from .looks import Looks
from .signals import (
    CHILD_ECHO_WINDOW_S,
    HANDLED_SIGNALS,
    SignalInbox,
    StopRequests,
    try_unblock_signals,
)
from .summary import describe, warn_about_actors, warn_about_queues
from .vitality import ORPHAN_PATIENCE_S, Pulse, end_soon, show_stacks_on_demand

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable

    from ..broker import Broker
    from .channel import ChildChannel

#: What stops a child. The interrupt key reaches every process of a terminal, and is the
#: supervisor's to handle.
STOP_SIGNALS = HANDLED_SIGNALS - {signal.SIGINT}


class StopSwitch:
    """Turns signals and the supervisor's death into the end of a worker process.

    Main thread only.

    Args:
        supervisor_pid: Who started this process.

    Attributes:
        is_booting: While True no message is held, and a stop signal ends the process at once,
            whatever the application is doing. An exception raised into it would do the same more
            politely, but may end in the hands of `except BaseException` or of a destructor.
        is_requested: Whether the process is to end.
        is_orphaned: Whether it is because the supervisor is gone.
    """

    def __init__(self, supervisor_pid: int) -> None:
        self.is_booting = True
        self.is_requested = False
        self.is_orphaned = False
        self.logger: logging.Logger | None = None
        self._supervisor_pid = supervisor_pid
        self._requests = StopRequests(CHILD_ECHO_WINDOW_S)
        self._inbox = SignalInbox(STOP_SIGNALS, self._on_signal)

    def install(self) -> None:
        """Take the signals over, for the rest of this process."""
        self._inbox.__enter__()

    def _on_signal(self, _number: int) -> None:
        if os.getppid() != self._supervisor_pid:
            self.is_orphaned = True
            end_soon()
        elif self._requests.is_repeated(time.monotonic()):
            if self.logger is not None:
                self.logger.warning("Asked to stop again: ending at once.")
            os._exit(RET_KILLED)
        if self.is_requested:
            return
        self.is_requested = True
        if self.is_booting:
            os._exit(RET_OK)

    def wait(self, lifeline: int, relief: int, looks: Looks, pulse: Pulse) -> None:
        """Sleep until a signal asks to stop, the supervisor is gone or has a replacement.

        Args:
            lifeline: Descriptor whose end means that the supervisor is gone.
            relief: Descriptor with a byte in it when another process has taken over.
            looks: What to look at from time to time, whether this process is to end.
            pulse: Shows meanwhile that this process runs.
        """
        while not self.is_requested and not looks.is_over():
            poll = select.poll()  # not select(): descriptors may be numbered high
            poll.register(self._inbox.reader, select.POLLIN)
            poll.register(lifeline, select.POLLIN)
            poll.register(relief, select.POLLIN)
            waits_ms = [each for each in (looks.interval_ms, pulse.wait_ms()) if each is not None]
            ready = {descriptor for descriptor, _ in poll.poll(min(waits_ms, default=None))}
            pulse.beat()
            self._inbox.read()
            # At its end without a byte, the lifeline's is about to come: the supervisor is gone.
            if relief in ready and os.read(relief, 1):
                self.is_requested = True
            if lifeline in ready:
                self.is_requested = self.is_orphaned = True
                end_soon()


def worker_process(args: argparse.Namespace, worker_id: int, channel: ChildChannel) -> None:
    """Run one worker process until it is asked to stop.

    Args:
        args: The command line.
        worker_id: Its place among the workers, from 0.
        channel: The pipes to the supervisor.
    """
    switch = StopSwitch(channel.supervisor_pid)
    _enter(channel, switch.install)
    stream = open_log_pipe(channel.log.fileno())
    switch.logger = logger = setup_worker_logging(args, worker_id, stream)
    broker, worker, looks, report = _boot_or_fail(args, channel, switch, logger)
    show_stacks_on_demand(channel.log.fileno())

    channel.send_report(report)
    looks.begin()
    pulse = Pulse(worker.recorder)
    switch.wait(channel.lifeline.fileno(), channel.relief.fileno(), looks, pulse)

    logger.info("Stopping: running messages finish, the others return to their queues.")
    timeout_ms = getattr(args, "worker_shutdown_timeout", 600_000)
    if switch.is_orphaned:
        timeout_ms = min(timeout_ms, int(ORPHAN_PATIENCE_S * 1000))
    worker.stop(timeout=timeout_ms)
    broker.close()
    for each in (sys.stdout, sys.stderr, stream):
        if isinstance(each, LineStream):
            each.finish()


def _boot_or_fail(
    args: argparse.Namespace, channel: ChildChannel, switch: StopSwitch, logger: logging.Logger
) -> tuple[Broker, Worker, Looks, BootReport]:
    try:
        return _boot(args, channel, switch, logger)
    except (Exception, SystemExit) as error:  # user code may raise anything
        _fail(args, channel, error)


def _boot(
    args: argparse.Namespace, channel: ChildChannel, switch: StopSwitch, logger: logging.Logger
) -> tuple[Broker, Worker, Looks, BootReport]:
    """Import the application and start its worker."""
    _look_anew(args)
    if getattr(args, "watch", None):
        # It would be taken for that of a source that is saved again within the same second.
        sys.dont_write_bytecode = True
    if getattr(args, "async_uvloop", False):
        _use_uvloop()
    _, broker = import_first_word(args.broker)
    broker.emit_after("process_boot")
    for module_name in getattr(args, "modules", ()):
        import_object(module_name)
    if getattr(args, "history", False):
        from .recording import keep_history  # for `dev` alone

        keep_history(broker)

    queues = getattr(args, "queues", None)
    excluded = getattr(args, "exclude_queues", None)
    warnings = warn_about_queues(broker, [*(queues or ()), *(excluded or ())])
    if getattr(args, "strict", False):
        refuse_warnings([*warnings, *warn_about_actors(broker, queues, excluded)])
    if is_json(args):
        from .log_format import add_context  # only for those who ask for it

        add_context(broker)
    worker = _make_worker(args, broker, queues)
    forks = [_import_path(function) for each in broker.middleware for function in each.forks]
    looks = Looks(args, worker, channel, logger)
    switch.is_booting = False
    worker.start()
    report = BootReport(
        summary=describe(broker, worker, queues, excluded),
        warnings=warnings,
        forks=forks,
        recorder="" if worker.recorder is None else worker.recorder.name,
    )
    report.summary.extend(first_steps(args, broker))
    return broker, worker, looks, report


def _look_anew(args: argparse.Namespace) -> None:
    """Have the application's folders read again, which the supervisor may have seen before.

    Not all of the import path's: the library's lists alone take a quarter of a megabyte.
    """
    for path in getattr(args, "path", ()):
        finder = sys.path_importer_cache.get(os.path.abspath(path))  # noqa: PTH100 (as it is there)
        if finder is not None and hasattr(finder, "invalidate_caches"):
            finder.invalidate_caches()


def _use_uvloop() -> None:
    if has_green_threads():
        raise ImportError(
            "--async-uvloop cannot be used under gevent, without whose knowledge uvloop waits: it "
            "would hold up every greenlet."
        )
    try:
        import uvloop
    except ImportError as error:
        raise ImportError(
            "--async-uvloop needs uvloop. Install it with: pip install 'dramatiq[uvloop]'"
        ) from error
    set_loop_factory(uvloop.new_event_loop)


def _make_worker(args: argparse.Namespace, broker: Broker, queues: list[str] | None) -> Worker:
    async_slots = getattr(args, "async_slots", None)
    options: dict[str, Any] = {} if async_slots is None else {"async_slots": async_slots}
    if getattr(args, "burst", False):
        options["worker_timeout"] = FETCH_TIMEOUT_MS
    worker = Worker(
        broker,
        queues=set(queues) if queues else None,
        exclude_queues=getattr(args, "exclude_queues", None),
        worker_threads=args.threads,
        **options,
    )
    worker.is_supervised = True
    return worker


def _import_path(function: Callable[[], int | None]) -> str:
    return f"{function.__module__}:{function.__name__}"


def fork_process(args: argparse.Namespace, fork_id: int, path: str, channel: ChildChannel) -> None:
    """Run one function in this process.

    Args:
        args: The command line.
        fork_id: Its place among the fork processes, from 0.
        path: ``module:function``; the function takes nothing and returns an exit code or None.
        channel: The pipes to the supervisor.

    Raises:
        SystemExit: With the exit code of the function, or 0 when asked to stop.
    """
    requests = StopRequests(CHILD_ECHO_WINDOW_S)

    def stop(_number: int) -> None:
        if os.getppid() != channel.supervisor_pid:
            end_soon()
        elif requests.is_repeated(time.monotonic()):
            os._exit(RET_KILLED)
        sys.exit(RET_OK)  # raised into the function, so that it can clean up

    _enter(channel, SignalInbox(STOP_SIGNALS, stop).__enter__)
    logger = setup_fork_logging(args, fork_id, open_log_pipe(channel.log.fileno()))
    set_loader(lambda: _import_application(args))
    try:
        function = _import_fork_function(path)
    except Exception as error:  # user code may raise anything
        _fail(args, channel, error)

    channel.send_report(BootReport())
    logger.info("Fork process %r is ready.", path)
    sys.exit(function() or RET_OK)


def _import_application(args: argparse.Namespace) -> Broker:
    """Import what the workers do, for a function that wants to know their broker."""
    _look_anew(args)
    _, broker = import_first_word(args.broker)
    for module_name in getattr(args, "modules", ()):
        import_object(module_name)
    return broker


def _import_fork_function(path: str) -> Callable[[], int | None]:
    _, function = import_object(path)
    if not callable(function):
        raise ImportError(  # noqa: TRY004 - it ends with the exit code of a failed import
            f"{path!r} is no function: a fork function is given as module:function."
        )
    return function  # type: ignore[no-any-return]


def _enter(channel: ChildChannel, install_handlers: Callable[[], object]) -> None:
    """Become a process of one's own: signals, descriptors, random numbers.

    Until the handlers stand, signals are blocked, so none is lost and none is taken for the
    supervisor's.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if hasattr(signal, "SIGCHLD"):
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    install_handlers()
    channel.enter()
    if not die_with_supervisor(channel.supervisor_pid, signal.SIGTERM):
        _watch_lifeline(channel.lifeline.fileno())
    try_unblock_signals()
    random.seed()


def _watch_lifeline(lifeline: int) -> None:
    """Do in a thread what the kernel does elsewhere: stop when the supervisor is gone."""

    def watch() -> None:
        os.read(lifeline, 1)
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=watch, name="lifeline", daemon=True).start()


def _fail(args: argparse.Namespace, channel: ChildChannel, error: BaseException) -> NoReturn:
    """Report why booting failed, and end."""
    code = exit_code_for(error)
    is_verbose = log_level(args) <= logging.DEBUG
    channel.send_report(BootReport(code, explain(error, is_verbose=is_verbose)))
    # At once: threads that the application has started must not keep a failed process alive.
    os._exit(code)
