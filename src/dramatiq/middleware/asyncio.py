"""The event loop that async actors run on when they run one per worker thread."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..asyncio import EventLoopThread, get_event_loop_thread, set_event_loop_thread
from ..logging import get_logger
from .middleware import Middleware

if TYPE_CHECKING:
    from ..broker import Broker
    from ..worker import Worker

__all__ = ["AsyncIO"]

#: Seconds the loop has to start.
START_TIMEOUT_S = 1.0


class AsyncIO(Middleware):
    """Runs an event loop thread for as long as the worker runs.

    Workers run async actors without it too. It stays for applications that call
    `dramatiq.asyncio.async_to_sync` functions from plain actors.
    """

    def __init__(self) -> None:
        self.logger = get_logger(__name__, type(self))

    def before_worker_boot(self, broker: Broker | None, worker: Worker | None) -> None:
        """Start the loop and make it the process-wide one."""
        event_loop_thread = EventLoopThread(self.logger)
        event_loop_thread.start(timeout=START_TIMEOUT_S)
        set_event_loop_thread(event_loop_thread)

    def after_worker_shutdown(self, broker: Broker | None, worker: Worker | None) -> None:
        """Stop the loop and unset it."""
        event_loop_thread: Any = get_event_loop_thread()
        if event_loop_thread is not None:
            event_loop_thread.stop()
            event_loop_thread.join()
        set_event_loop_thread(None)
