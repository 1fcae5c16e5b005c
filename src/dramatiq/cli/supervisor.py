"""The main process: starts the children, watches them, replaces them, stops them.

It runs no code of the user and has a single thread, so that forking is safe at any time: no lock
can be held by a thread that the child does not have. One loop waits for everything: log pipes,
boot reports, signals (a child's death is one of them) and the next moment something is due.
"""

from __future__ import annotations

import signal
import time
from collections import Counter
from selectors import EVENT_READ, DefaultSelector
from typing import TYPE_CHECKING

from .channel import Wish
from .child import fork_process, worker_process
from .failures import RET_IMPORT, RET_KILLED, RET_OK
from .guard import Guard
from .restart import RestartHistory, RestartPolicy
from .signals import StopRequests, try_unblock_signals
from .slot import Loop, Slot, describe_exit, prepare_start, start_context
from .succession import ForkRenewal, Succession
from .watching import watch_process

if TYPE_CHECKING:
    import argparse
    import logging
    from multiprocessing.context import BaseContext

    from ..flight_recorder import Running
    from .channel import BootReport, Closeable, Note
    from .signals import SignalInbox
    from .sink import LogSink

#: Seconds that a process has to obey a second request to stop before it is killed.
KILL_GRACE_S = 0.5

#: Seconds that fork processes have to end after the last worker has.
FORK_GRACE_S = 5.0

#: Asks to start anew; None where the platform has no such signal.
RELOAD_SIGNAL = getattr(signal, "SIGHUP", None)


class Supervisor:
    """Runs the children until they are asked to stop, or cannot go on.

    Args:
        args: The command line.
        inbox: Takes the handled signals and SIGCHLD; open.
        logger: Of the main process.
        sink: Takes the lines of the children.
        policy: How dead children are replaced.
        context: How children are started; by default as the command line says.

    Attributes:
        wants_reload: Whether the last signal asked to start again.
    """

    def __init__(
        self,
        args: argparse.Namespace,
        inbox: SignalInbox,
        logger: logging.Logger,
        sink: LogSink,
        policy: RestartPolicy | None = None,
        context: BaseContext | None = None,
    ) -> None:
        self.wants_reload = False
        self._args = args
        self._inbox = inbox
        self._logger = logger
        self._policy = policy or RestartPolicy()
        self._selector = DefaultSelector()
        context = context or start_context(use_spawn=getattr(args, "use_spawn", False))
        prepare_start(context, args)
        self._lifeline, self._lifeline_holder = context.Pipe(duplex=False)
        self._loop = Loop(
            context, self._selector, sink, self._lifeline, self._on_report, self._on_note
        )
        self._guard = Guard(logger, getattr(args, "worker_shutdown_timeout", 600_000) / 1000)
        self._requests = StopRequests()
        self._is_stopping = False
        self._exit_code = RET_OK
        self._kill_at: float | None = None
        self._workers = [self._worker_slot(index) for index in range(args.processes)]
        self._forks: list[Slot] = []
        self._waiting_forks: list[str] = list(getattr(args, "forks", None) or ())
        self._forks_due_at: float | None = None
        self._has_described = False
        self._forks_of_middleware: list[str] = []
        self._succession = Succession(
            self._workers,
            make=lambda old: self._worker_slot(self._workers.index(old)),
            start=self._start,
            logger=logger,
            boot_timeout_s=getattr(args, "worker_fork_timeout", 30_000) / 1000,
            on_rolled=self._renew_forks,
        )
        self._fork_renewal = ForkRenewal(self._start)
        self._watchers = [self._watcher_slot()] if getattr(args, "watch", None) else []

    def run(self) -> int:
        """Run until all children have ended.

        Returns:
            The exit code of the program.
        """
        self._selector.register(self._inbox.reader, EVENT_READ, self._take_signals)
        self._loop.sink.attach(self._selector)
        fork_timeout_s = getattr(self._args, "worker_fork_timeout", 30_000) / 1000
        self._forks_due_at = time.monotonic() + fork_timeout_s
        try:
            for slot in [*self._watchers, *self._workers]:
                self._start(slot)
            try_unblock_signals()
            while self._is_needed():
                for key, _ in self._selector.select(self._seconds_until_due()):
                    key.data()
                self._reap()
                self._do_what_is_due(time.monotonic())
        finally:
            # If this loop fails, the children see the end of the lifeline and stop by themselves.
            self._lifeline_holder.close()
            self._lifeline.close()
            self._loop.sink.detach()
            self._selector.close()
        return self._exit_code

    # Starting

    def _worker_slot(self, index: int) -> Slot:
        return Slot(
            f"Worker {index}",
            is_worker=True,
            target=worker_process,
            arguments=(self._args, index),
            history=RestartHistory(self._policy),
            loop=self._loop,
        )

    def _fork_slot(self, path: str) -> Slot:
        index = len(self._forks)
        return Slot(
            f"Fork {index} ({path})",
            is_worker=False,
            target=fork_process,
            arguments=(self._args, index, path),
            path=path,
            history=RestartHistory(self._policy),
            loop=self._loop,
        )

    def _watcher_slot(self) -> Slot:
        return Slot(
            "Watcher",
            is_worker=False,
            target=watch_process,
            arguments=(self._args, time.time()),
            history=RestartHistory(self._policy),
            loop=self._loop,
        )

    def _start(self, slot: Slot) -> None:
        siblings = [pipe for each in self._slots for pipe in each.pipes]
        inherited: tuple[Closeable, ...] = (
            self._inbox,
            self._selector,
            self._lifeline_holder,
            self._guard,
            *siblings,
        )
        try:
            slot.start(inherited)
        except OSError as error:  # no memory, no process, no descriptor left
            self._logger.error(  # noqa: TRY400 - the traceback would only show our own code
                "%s cannot be started: %s.", slot.name, error
            )
            self._replace(slot, ready_for_s=None)

    def _on_report(self, slot: Slot, report: BootReport) -> None:
        if self._is_stopping:
            return
        if report.exit_code != RET_OK:
            self._logger.error("%s: %s", slot.name, report.explanation)
            # Whatever fails the first time fails in every process, and after every restart.
            if not self._succession.refuse(slot) and slot.is_worker and slot.is_first:
                self._abort(report.exit_code)
            return

        slot.ready_at = time.monotonic()
        self._succession.accept(slot)
        if slot.is_worker:
            self._forks_of_middleware = report.forks
        self._guard.admit(slot, report.recorder)
        if slot.is_worker and not self._has_described:
            self._has_described = True
            self._describe(report)
            self._waiting_forks.extend(report.forks)

    def _on_note(self, slot: Slot, note: Note) -> None:
        self._logger.info("%s (PID %s) %s.", slot.name, slot.pid, note.reason)
        if note.wish is Wish.END:
            slot.is_done = True
        elif not self._is_stopping:
            self._succession.ask(slot)

    def _describe(self, report: BootReport) -> None:
        from dramatiq import __version__

        self._logger.info(
            "dramatiq %s: %s x %s. Ctrl-C to stop.",
            __version__,
            _counted(len(self._workers), "process", "processes"),
            _counted(self._args.threads, "thread", "threads"),
        )
        for line in report.summary:
            self._logger.info("  %s", line)
        for line in report.warnings:
            self._logger.warning("%s", line)

    def _start_waiting_forks(self, now_s: float) -> None:
        """Start the fork functions once the workers have booted, or took too long to."""
        if not self._waiting_forks:
            return
        have_booted = all(slot.has_reported or not slot.is_first for slot in self._workers)
        if not have_booted and self._forks_due_at is not None and now_s < self._forks_due_at:
            return
        paths, self._waiting_forks = self._waiting_forks, []
        for path in paths:
            slot = self._fork_slot(path)
            self._forks.append(slot)
            self._start(slot)

    def _renew_forks(self) -> None:
        """Start the fork functions of the new code in place of those of the old."""
        wanted = [*(getattr(self._args, "forks", None) or ()), *self._forks_of_middleware]
        for slot in self._forks:
            is_wanted = slot.path in wanted
            if is_wanted:
                wanted.remove(slot.path)
            self._fork_renewal.renew(slot, is_wanted=is_wanted)
        self._waiting_forks = wanted

    # Watching

    @property
    def _slots(self) -> list[Slot]:
        extra = self._succession.extra_slots
        return [*self._workers, *extra, *self._forks, *self._watchers]

    def _is_needed(self) -> bool:
        if any(slot.is_running for slot in self._slots):
            return True
        return not self._is_stopping and any(slot.restart_at for slot in self._workers)

    def _seconds_until_due(self) -> float | None:
        moments = [slot.restart_at for slot in self._slots]
        moments += [self._kill_at, self._succession.due_at, self._fork_renewal.due_at]
        moments.append(None if self._is_stopping else self._guard.next_look_at)
        if self._waiting_forks:
            moments.append(self._forks_due_at)
        due = [moment for moment in moments if moment is not None]
        return max(0.0, min(due) - time.monotonic()) if due else None

    def _do_what_is_due(self, now_s: float) -> None:
        if not self._is_stopping:
            for slot in self._slots:
                if slot.restart_at is not None and slot.restart_at <= now_s:
                    self._start(slot)
            self._start_waiting_forks(now_s)
            self._succession.step(now_s)
            self._fork_renewal.step(now_s)
            self._stop_if_done()
            self._guard.look(now_s)
        elif self._kill_at is None and not any(slot.is_running for slot in self._workers):
            self._kill_at = now_s + FORK_GRACE_S

        if self._kill_at is not None and self._kill_at <= now_s:
            self._kill_at = None
            self._send_to_all(getattr(signal, "SIGKILL", signal.SIGTERM))

    def _stop_if_done(self) -> None:
        if all(slot.is_done and not slot.is_running for slot in self._workers):
            self._begin_stop(signal.SIGTERM)

    def _reap(self) -> None:
        for slot in self._slots:
            pid = slot.pid
            code = slot.reap()
            if code is None:
                continue
            running = self._guard.discharge(slot)
            if self._is_stopping:
                if not self._succession.has_failed(slot):
                    self._note_exit_code(slot, code)
            elif (
                self._succession.dealt_with(slot, code)
                or self._fork_renewal.dealt_with(slot)
                or (slot.is_done and code == RET_OK)
            ):
                continue
            elif slot.is_worker and getattr(self._args, "die_with_child", False):
                self._logger.critical(
                    "%s (PID %s) %s. Stopping all.", slot.name, pid, describe_exit(code)
                )
                self._abort(_exit_code_of(code))
            elif slot.is_worker or code not in {RET_OK, RET_IMPORT}:
                self._logger.error("%s (PID %s) %s.", slot.name, pid, describe_exit(code))
                if running:
                    self._logger.error("%s was running: %s.", slot.name, _listed(running))
                self._replace(slot, slot.ready_for_s(time.monotonic()))

    def _replace(self, slot: Slot, ready_for_s: float | None) -> None:
        """Have another process started later, or give up."""
        slot.is_done = False
        if self._succession.steps_in_for(slot):
            return
        delay_s = slot.history.delay_after_death(ready_for_s)
        if delay_s is not None:
            self._logger.info("%s starts again in %.1f s.", slot.name, delay_s)
            slot.restart_at = time.monotonic() + delay_s
        elif slot.is_worker:
            self._logger.critical(
                "%s died %d times in a row right after its start. Stopping all.",
                slot.name,
                slot.history.fast_deaths,
            )
            self._abort(RET_KILLED)
        else:
            self._logger.error("%s dies again and again, and is given up.", slot.name)

    def _note_exit_code(self, slot: Slot, code: int) -> None:
        """Keep the first code of a worker that says something went wrong."""
        if slot.is_worker and self._exit_code == RET_OK:
            self._exit_code = _exit_code_of(code)

    # Stopping

    def _take_signals(self) -> None:
        # Of signals that arrive together the kernel may hand over the later one first: a reload
        # that was asked for before a stop must not come after it.
        for number in sorted(self._inbox.read(), key=lambda number: number != RELOAD_SIGNAL):
            if number != getattr(signal, "SIGCHLD", None):  # reaping follows anyway
                self._on_stop_signal(number)

    def take_late_signals(self) -> None:
        """Take note of what came after `run` had its last look: the last signal decides."""
        self._take_signals()

    def _on_stop_signal(self, number: int) -> None:
        is_roll = number == RELOAD_SIGNAL and getattr(self._args, "rolling", False)
        if is_roll and not self._is_stopping:
            self._logger.info("SIGHUP: replacing the worker processes one after the other.")
            self._succession.roll()
            return
        is_repeated = self._requests.is_repeated(time.monotonic())
        self.wants_reload = number == RELOAD_SIGNAL and self._exit_code == RET_OK
        name = signal.Signals(number).name
        forwarded = signal.Signals(number) if number == RELOAD_SIGNAL else signal.SIGTERM
        if not self._is_stopping:
            self._logger.info("%s: stopping%s.", name, " to reload" if self.wants_reload else "")
            self._begin_stop(forwarded)
        elif is_repeated:
            self._logger.warning("%s again: ending at once.", name)
            self._send_to_all(forwarded)
            # A process whose interpreter is stuck cannot obey. Further requests do not put it off.
            if self._kill_at is None:
                self._kill_at = time.monotonic() + KILL_GRACE_S

    def _abort(self, exit_code: int) -> None:
        """Stop all because of a failure."""
        self._exit_code = exit_code
        self._requests.is_repeated(time.monotonic())  # the next signal is a second request
        self._begin_stop(signal.SIGTERM)

    def _begin_stop(self, number: signal.Signals) -> None:
        self._is_stopping = True
        self._guard.excuse_all()
        self._waiting_forks.clear()
        self._succession.cancel()
        for slot in self._slots:
            slot.restart_at = None
        self._send_to_all(number)

    def _send_to_all(self, number: signal.Signals) -> None:
        for slot in self._slots:
            slot.send(number)


def _exit_code_of(code: int) -> int:
    """Map the exit code of a worker to one of the program: signals are 1."""
    return RET_KILLED if code < 0 else code


def _listed(running: list[Running]) -> str:
    """Name the actors of what was running, and how many of each."""
    counts = Counter(each.actor_name for each in running)
    return ", ".join(name if n == 1 else f"{name} x {n}" for name, n in sorted(counts.items()))


def _counted(number: int, one: str, many: str) -> str:
    return f"{number} {one if number == 1 else many}"
