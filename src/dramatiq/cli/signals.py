"""Signals: blocked while nobody is ready, then turned into bytes that a loop can wait for.

A Python signal handler only runs between two bytecodes of the main thread. A process that sleeps
in a system call would notice late or never, so both kinds of process here wait on the reading end
of a pipe into which the interpreter writes the number of each signal as it arrives.
"""

from __future__ import annotations

import os
import signal
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

#: The signals that stop or reload, as far as the platform has them.
HANDLED_SIGNALS: frozenset[signal.Signals] = frozenset(
    getattr(signal, name)
    for name in ("SIGINT", "SIGTERM", "SIGHUP", "SIGBREAK")
    if hasattr(signal, name)
)

#: Seconds in which a repeated stop signal is taken for an echo of the first one. Terminals and
#: container runtimes send a signal to every process of a group, and the supervisor forwards its
#: own on top of it. People need longer than this to press a key again and mean it.
ECHO_WINDOW_S = 0.3

#: The same for a child, which gets the signal from the group and once more from the supervisor.
#: Longer, as both are busy processes: taking the echo for a second request would kill what is to
#: finish. Nobody waits for it, because the supervisor kills when it is asked a second time.
CHILD_ECHO_WINDOW_S = 2.0


def try_block_signals() -> None:
    """Hold the handled signals back, where the platform can."""
    if hasattr(signal, "pthread_sigmask"):
        signal.pthread_sigmask(signal.SIG_BLOCK, HANDLED_SIGNALS)


def try_unblock_signals() -> None:
    """Let the handled signals through again, those that waited included."""
    if hasattr(signal, "pthread_sigmask"):
        signal.pthread_sigmask(signal.SIG_UNBLOCK, HANDLED_SIGNALS)


@contextmanager
def signals_blocked() -> Iterator[None]:
    """Hold the handled signals back in between.

    Around a fork: the child inherits the blocked mask and opens it once its handlers stand, so
    that no signal reaches it with the handlers of its parent.
    """
    try_block_signals()
    try:
        yield
    finally:
        try_unblock_signals()


class StopRequests:
    """Tell a second, meant request to stop from an echo of the first one.

    Args:
        echo_window_s: For how many seconds after the first request others are its echo.

    Attributes:
        first_at: When the first request came (monotonic seconds); None before.
    """

    def __init__(self, echo_window_s: float = ECHO_WINDOW_S) -> None:
        self.first_at: float | None = None
        self._echo_window_s = echo_window_s

    def is_repeated(self, now_s: float) -> bool:
        """Note a request.

        Args:
            now_s: Monotonic seconds.

        Returns:
            True for a request that follows an earlier one by more than the echo window.
        """
        if self.first_at is None:
            self.first_at = now_s
            return False
        return now_s - self.first_at > self._echo_window_s


class SignalInbox:
    """A pipe that becomes readable when one of some signals arrives.

    Main thread only: the interpreter allows it nowhere else. The previous handlers come back on
    exit.

    Args:
        signals: Which signals to take in.
        handler: Called with the signal in the main thread as soon as that runs bytecode again;
            by default nothing is done besides filling the pipe.
    """

    def __init__(
        self, signals: Iterable[signal.Signals], handler: Callable[[int], None] | None = None
    ) -> None:
        self._signals = frozenset(signals)
        self._handler = handler
        self._previous: dict[signal.Signals, Any] = {}
        self._previous_wakeup = -1
        self.reader, self.writer = os.pipe()
        os.set_blocking(self.reader, False)
        os.set_blocking(self.writer, False)

    def __enter__(self) -> SignalInbox:
        # A full pipe is no loss worth a warning: the loop is awake then anyway.
        self._previous_wakeup = signal.set_wakeup_fd(self.writer, warn_on_full_buffer=False)
        for number in self._signals:
            self._previous[number] = signal.signal(number, self._handle)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)
        signal.set_wakeup_fd(self._previous_wakeup)
        self.close()

    def close(self) -> None:
        """Close the pipe alone: for a forked child, which has handlers of its own."""
        os.close(self.reader)
        os.close(self.writer)

    def _handle(self, number: int, _frame: object) -> None:
        if self._handler is not None:
            self._handler(number)

    def read(self) -> list[int]:
        """Return the numbers of the signals that arrived since the last call, oldest first."""
        try:
            return list(os.read(self.reader, 4096))
        except BlockingIOError:
            return []
