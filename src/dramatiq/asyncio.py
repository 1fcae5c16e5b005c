"""One event loop per process, on a thread of its own, and the way onto it from other threads.

Who runs here: the loop's thread runs coroutines; any other thread may hand it one. The standard
asyncio package is imported when a loop is made, not before: it is a third of the import time of
an application that has no async actor.
"""

from __future__ import annotations

import functools
import threading
from collections.abc import Awaitable, Callable, Coroutine
from typing import TYPE_CHECKING, Generic, TypeVar

from .threading import Interrupt

if TYPE_CHECKING:
    import asyncio
    import logging
    from typing import ParamSpec

    P = ParamSpec("P")

__all__ = ["EventLoopThread", "async_to_sync", "get_event_loop_thread", "set_event_loop_thread"]

R = TypeVar("R")

#: Seconds an interrupted coroutine gets to clean up before its waiting thread gives up on it.
CLEANUP_TIMEOUT_S = 1.0

_event_loop_thread: EventLoopThread | None = None

#: Makes the event loops; None stands for what asyncio makes.
_loop_factory: Callable[[], asyncio.AbstractEventLoop] | None = None


def get_event_loop_thread() -> EventLoopThread | None:
    """Return the process-wide event loop thread, or None when there is none."""
    return _event_loop_thread


def set_event_loop_thread(event_loop_thread: EventLoopThread | None) -> None:
    """Make ``event_loop_thread`` the process-wide one; None unsets it."""
    global _event_loop_thread  # noqa: PLW0603 (there is one per process, by contract)
    _event_loop_thread = event_loop_thread


def set_loop_factory(factory: Callable[[], asyncio.AbstractEventLoop] | None) -> None:
    """Have the event loops that are made from now on made by ``factory``; None unsets it."""
    global _loop_factory  # noqa: PLW0603 (there is one per process)
    _loop_factory = factory


def async_to_sync(async_fn: Callable[P, Awaitable[R]]) -> Callable[P, R]:
    """Return a plain function that runs ``async_fn`` on the process-wide event loop thread.

    Raises:
        RuntimeError: When called while there is no such thread.
    """

    @functools.wraps(async_fn)
    def wrapper(*args: P.args, **kwargs: P.kwargs) -> R:
        event_loop_thread = get_event_loop_thread()
        if event_loop_thread is None:
            name = getattr(async_fn, "__name__", async_fn)
            raise RuntimeError(
                f"Async function {name!r} needs a running event loop thread and there is none. A "
                "dramatiq worker provides it; elsewhere add the AsyncIO middleware to the broker, "
                "or start an EventLoopThread and pass it to set_event_loop_thread()."
            )
        return event_loop_thread.run_coroutine(async_fn(*args, **kwargs))

    return wrapper


class EventLoopThread(threading.Thread):
    """A thread that owns a new event loop.

    Args:
        logger: Where it reports start and stop.
        interrupt_check_ival: Seconds between two looks at whether a waiting thread was
            interrupted; an interrupt is noticed that much later at most.

    Attributes:
        loop: The event loop.
    """

    def __init__(self, logger: logging.Logger, interrupt_check_ival: float = 0.1) -> None:
        import asyncio

        super().__init__(name="dramatiq-event-loop", daemon=True)
        self.loop: asyncio.AbstractEventLoop = (_loop_factory or asyncio.new_event_loop)()
        self.logger = logger
        self.interrupt_check_ival = interrupt_check_ival
        self._running = threading.Event()

    def run(self) -> None:
        """Run the loop until `stop`."""
        import asyncio

        asyncio.set_event_loop(self.loop)
        self.logger.info("Starting event loop...")
        self.loop.call_soon(self._running.set)
        try:
            self.loop.run_forever()
        finally:
            self._running.clear()

    def start(self, *, timeout: float | None = None) -> None:
        """Start the thread and wait until the loop runs.

        Args:
            timeout: Seconds to wait; None waits for ever.

        Raises:
            RuntimeError: If it does not run in time, or was started before.
        """
        super().start()
        if not self._running.wait(timeout=timeout):
            raise RuntimeError("Event loop failed to start.")

    def stop(self) -> None:
        """Stop the loop, wait for the thread, close the loop. Harmless when not running."""
        if not self.is_alive():
            return
        self.logger.info("Stopping event loop...")
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.join()
        if not self.loop.is_running():
            self.loop.run_until_complete(self.loop.shutdown_asyncgens())
        self.loop.close()

    def run_coroutine(self, coro: Awaitable[R]) -> R:
        """Run ``coro`` on the loop and wait for its result; from any thread but the loop's.

        The caller's context variables are visible inside. An `Interrupt` raised in the waiting
        thread cancels the coroutine, gives it a second to clean up, and goes on to the caller.

        Raises:
            RuntimeError: If the loop does not run, or the cleanup takes too long.
        """
        if not self._running.is_set():
            if isinstance(coro, Coroutine):
                coro.close()
            raise RuntimeError("Event loop is not running.")
        run = _Run(coro)
        # An interrupt may arrive at any line: from here on the coroutine may be running.
        try:
            self.loop.call_soon_threadsafe(run.start)
            # Short waits: an interrupt can only be delivered between them.
            while not run.finished.wait(self.interrupt_check_ival):
                if not self.is_alive():
                    raise RuntimeError("Event loop stopped before the coroutine was done.")
            return run.result()
        except Interrupt as interrupt:
            self.loop.call_soon_threadsafe(run.cancel)
            is_clean = run.finished.wait(CLEANUP_TIMEOUT_S)
            run.forget()
            if not is_clean:
                raise RuntimeError(
                    "Timed out while waiting for the cancelled coroutine to finish."
                ) from interrupt
            raise


class _Run(Generic[R]):
    """One coroutine on its way over the loop and back to the thread that waits for it."""

    __slots__ = ("_awaitable", "_exception", "_is_forgotten", "_result", "_task", "finished")

    def __init__(self, awaitable: Awaitable[R]) -> None:
        self._awaitable = awaitable
        self._task: asyncio.Task[None] | None = None
        self._exception: BaseException | None = None
        self._is_forgotten = False
        self._result: R
        #: Set when the coroutine has ended, its cleanup included.
        self.finished = threading.Event()

    def start(self) -> None:
        """Make it a task; the loop's thread only."""
        import asyncio

        self._task = asyncio.get_running_loop().create_task(self._run())

    async def _run(self) -> None:
        try:
            self._result = await self._awaitable
        except BaseException as exception:
            if not self._is_forgotten:
                self._exception = exception
        finally:
            self.finished.set()

    def cancel(self) -> None:
        """Cancel the task, or never make it one; the loop's thread only."""
        if self._task is not None:
            self._task.cancel()
            return
        if isinstance(self._awaitable, Coroutine):
            self._awaitable.close()
        self.finished.set()

    def forget(self) -> None:
        """Drop what came out: nobody will ask, and its traceback leads back to this object."""
        self._is_forgotten = True
        self._exception = None

    def result(self) -> R:
        """Return or raise what came out, once."""
        exception, self._exception = self._exception, None
        if exception is None:
            return self._result
        try:
            raise exception
        finally:
            # The exception's traceback holds this frame, which must not hold the exception:
            # such a cycle would keep both until the cyclic collector runs.
            del exception
