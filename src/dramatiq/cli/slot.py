"""One place among the children, as the supervisor sees it, and the process that fills it now."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from selectors import EVENT_READ
from typing import TYPE_CHECKING, Any

from .channel import BootReport, ChildChannel, ReportReader
from .log_pipes import watch_logs
from .preload import preload
from .signals import signals_blocked

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable
    from multiprocessing.connection import Connection
    from multiprocessing.context import BaseContext
    from multiprocessing.process import BaseProcess
    from selectors import BaseSelector

    from .channel import Closeable, Note
    from .log_pipes import LogReader
    from .restart import RestartHistory
    from .sink import LogSink


@dataclass(frozen=True)
class Loop:
    """What the slots share with the supervisor's loop.

    Attributes:
        context: How processes are started.
        selector: Waits for the pipes; each key carries the function to call.
        sink: Takes the log lines.
        lifeline: Reading end, for the children.
        on_report: Called with a slot and its report about booting, once that is complete.
        on_note: Called with a slot and what it says later.
    """

    context: BaseContext
    selector: BaseSelector
    sink: LogSink
    lifeline: Connection
    on_report: Callable[[Slot, BootReport], None]
    on_note: Callable[[Slot, Note], None]


class Slot:
    """A worker or fork process and those that replace it.

    Args:
        name: For the log, such as "Worker 0".
        is_worker: True for a worker, False for a fork process.
        target: What runs in the child; called with the arguments and the channel.
        arguments: Go before the channel.
        history: Counts the deaths.
        loop: Of the supervisor.
        path: Of the fork function.

    Attributes:
        is_first: Whether the process is the first one here, and takes nobody's place.
        is_done: Whether it said that there is nothing left for it to do.
        ready_at: When it reported to be ready (monotonic seconds); None before.
        has_reported: Whether it said anything about booting.
        restart_at: When the next process is due (monotonic seconds); None if none is.
    """

    def __init__(
        self,
        name: str,
        *,
        is_worker: bool,
        target: Callable[..., None],
        arguments: tuple[Any, ...],
        history: RestartHistory,
        loop: Loop,
        path: str | None = None,
    ) -> None:
        self.name = name
        self.is_worker = is_worker
        self.history = history
        self.path = path
        self.is_first = True
        self.is_done = False
        self.ready_at: float | None = None
        self.has_reported = False
        self.restart_at: float | None = None
        self._loop = loop
        self._target = target
        self._arguments = arguments
        self._process: BaseProcess | None = None
        self._pipes: list[Connection] = []
        self._relief: Connection | None = None
        self._log: LogReader | None = None
        self._report: ReportReader | None = None

    @property
    def is_running(self) -> bool:
        """Whether a process was started here and its end was not yet noticed."""
        return self._process is not None

    @property
    def pid(self) -> int | None:
        """The process id, or None without a process."""
        return None if self._process is None else self._process.pid

    def ready_for_s(self, now_s: float) -> float | None:
        """Return for how many seconds the present or last process is or was ready, or None."""
        return None if self.ready_at is None else now_s - self.ready_at

    @property
    def pipes(self) -> tuple[Closeable, ...]:
        """The supervisor's ends, which siblings must not keep open."""
        return (*self._pipes, *filter(None, [self._relief]))

    def start(self, inherited: tuple[Closeable, ...]) -> None:
        """Start a process. Supervisor's main thread only, and no other thread may exist.

        Args:
            inherited: What a forked child has to close because it belongs to the supervisor.

        Raises:
            OSError: No process or pipe could be made; nothing is left behind.
        """
        context, selector = self._loop.context, self._loop.selector
        with ExitStack() as undo, ExitStack() as child_ends:
            log, log_writer = self._make_pipe(undo, child_ends)
            report, report_writer = self._make_pipe(undo, child_ends)
            relief, holder = context.Pipe(duplex=False)
            undo.callback(holder.close)
            child_ends.callback(relief.close)
            channel = ChildChannel(
                log_writer, report_writer, self._loop.lifeline, relief, os.getpid()
            )
            if context.get_start_method() == "fork":
                channel = channel.with_inherited((*inherited, log, report, holder))
            process = context.Process(  # type: ignore[attr-defined]  # every context has it
                target=self._target, args=(*self._arguments, channel)
            )
            with signals_blocked():
                process.start()
            undo.pop_all()

        self._process = process
        self._pipes = [log, report]
        self._relief = holder
        self.is_done = False
        self.restart_at = self.ready_at = None
        self.has_reported = False
        self._log = watch_logs(selector, log.fileno(), self._loop.sink)
        self._report = ReportReader(report.fileno())
        selector.register(report.fileno(), EVENT_READ, self._read_report)

    def _make_pipe(self, undo: ExitStack, child_ends: ExitStack) -> tuple[Connection, Connection]:
        """Make a pipe to read from without waiting; the child's end closes with its stack."""
        reader, writer = self._loop.context.Pipe(duplex=False)
        undo.callback(reader.close)
        child_ends.callback(writer.close)
        os.set_blocking(reader.fileno(), False)
        return reader, writer

    def _read_report(self) -> None:
        if self._report is None:
            return
        reader = self._report
        while (said := reader.read()) is not None:
            self._flush_log()  # what led to it was printed before
            if isinstance(said, BootReport):
                self.has_reported = True
                self._loop.on_report(self, said)
            else:
                self._loop.on_note(self, said)
        if reader.at_end:
            with suppress(KeyError):  # it was read to its end before
                self._loop.selector.unregister(self._pipes[1].fileno())

    def _flush_log(self) -> None:
        if self._log is not None:
            self._log.drain()

    def send(self, number: int) -> None:
        """Send a signal to the process, if it is alive or not yet collected.

        Only then its id cannot belong to somebody else. Starting a process collects the dead ones
        among its siblings, so having started it is not enough.
        """
        if self._process is not None and self._process.exitcode is None and self.pid is not None:
            os.kill(self.pid, number)

    def retire(self) -> None:
        """Have the process finish once it is ready; harmless when asked twice.

        It gets no signal: one that comes later, to stop all, is still the first it gets.
        """
        if self._relief is not None:
            with suppress(BrokenPipeError):  # it is ending by itself
                os.write(self._relief.fileno(), b"\n")
            self._relief.close()
            self._relief = None

    def reap(self) -> int | None:
        """Collect the process if it has ended, with everything it left in its pipes.

        Returns:
            The exit code, negative for the number of a signal; None while it is running or
            without a process.
        """
        process = self._process
        if process is None or process.exitcode is None:
            return None

        self._read_report()
        if self._log is not None:
            self._log.finish()
        for pipe in self._pipes:
            with suppress(KeyError):  # its end was seen before
                self._loop.selector.unregister(pipe.fileno())
            pipe.close()
        self.retire()
        code = process.exitcode
        process.join()
        process.close()
        self._process = self._log = self._report = None
        self._pipes = []
        self.is_first = False
        return code


def describe_exit(code: int) -> str:
    """Say in words how a process ended.

    Args:
        code: The exit code, negative for the number of a signal.
    """
    if code >= 0:
        return f"exited with code {code}"
    try:
        return f"was killed by {signal.Signals(-code).name}"
    except ValueError:
        return f"was killed by signal {-code}"


def start_context(*, use_spawn: bool) -> BaseContext:
    """Choose how children are started: forked on Linux unless asked otherwise."""
    is_forking = not use_spawn and sys.platform.startswith("linux")
    return multiprocessing.get_context("fork" if is_forking else "spawn")


def prepare_start(context: BaseContext, args: argparse.Namespace) -> None:
    """Do what must be done before children are started this way."""
    if context.get_start_method() == "fork":
        preload(args)
    elif sys.platform != "win32":
        # Its start unblocks signals that must stay blocked while a child is started.
        from multiprocessing import resource_tracker

        resource_tracker.ensure_running()
