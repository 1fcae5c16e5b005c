"""Notices when an async actor blocks the event loop, and says which one, once.

A thread of its own asks the loop for a sign of life while there is work on it. That costs a
message nothing, and an idle worker a glance a second.
"""

from __future__ import annotations

import asyncio
import sys
from threading import Event, Thread
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import logging
    from collections.abc import Callable
    from typing import Any

    from ..asyncio import EventLoopThread
    from ..broker import MessageProxy

__all__ = ["LoopWatch"]

#: The module that calls the actors.
RUNNER = "dramatiq.worker.loop"
#: Seconds between two looks, and without a sign of life until it is a complaint.
INTERVAL_S = 1.0
PATIENCE_S = 1.0
#: Seconds the loop gets after that: a process that was stopped may need just a moment.
GRACE_S = 0.1


class LoopWatch:
    """Watches one event loop for one runner.

    Args:
        thread: The loop's thread.
        message_of: Tells which message a task runs, None if it is not one of the runner's.
        is_busy: Tells whether the runner has anything on the loop.
        logger: Where to complain.
    """

    def __init__(
        self,
        thread: EventLoopThread,
        message_of: Callable[[asyncio.Task[Any]], MessageProxy | None],
        is_busy: Callable[[], bool],
        logger: logging.Logger,
    ) -> None:
        self._loop_thread = thread
        self._message_of = message_of
        self._is_busy = is_busy
        self._logger = logger
        self._named: set[str] = set()
        self._stopped = Event()
        self._thread = Thread(target=self._run, name="dramatiq-loop-watch", daemon=True)

    def start(self) -> None:
        """Start to watch."""
        self._thread.start()

    def stop(self) -> None:
        """Watch no more. Harmless when called twice."""
        self._stopped.set()
        if self._thread.is_alive():
            self._thread.join()

    def _run(self) -> None:
        while not self._stopped.wait(INTERVAL_S):
            if self._is_busy():
                self._ask()

    def _ask(self) -> None:
        answered = Event()
        try:
            self._loop_thread.loop.call_soon_threadsafe(answered.set)
        except RuntimeError:
            return  # it was closed meanwhile
        if not answered.wait(PATIENCE_S):
            before = asyncio.current_task(self._loop_thread.loop)
            if before is not None and not answered.wait(GRACE_S):
                self._complain(before)
        # One question at a time, however long the answer takes.
        while not answered.wait(INTERVAL_S) and not self._stopped.is_set():
            continue

    def _complain(self, task: asyncio.Task[Any]) -> None:
        message = self._message_of(task)
        if message is None or message.actor_name in self._named:
            return
        self._named.add(message.actor_name)
        self._logger.warning(
            "Actor %r blocks the event loop for more than a second%s: no other async actor of "
            "this process goes on meanwhile. Await instead of blocking, hand the work to "
            "asyncio.to_thread, or make it a plain function.",
            message.actor_name,
            _place(sys._current_frames().get(self._loop_thread.ident or 0)),
        )


def _place(frame: Any) -> str:
    """Say in which line the actor is, given the loop's innermost frame; nothing if in a hook."""
    inner = None
    while frame is not None and frame.f_globals.get("__name__") != RUNNER:
        inner, frame = frame, frame.f_back
    if inner is None or inner.f_globals.get("__name__", "").startswith("dramatiq."):
        return ""
    return f", in {inner.f_code.co_filename}, line {inner.f_lineno}"
