"""Interrupt actors that run for too long."""

from __future__ import annotations

import threading
import time
import warnings
from typing import TYPE_CHECKING, Any

from ..logging import get_logger
from ..threading import (
    Interrupt,
    InterruptTarget,
    current_interrupt_target,
    current_platform,
    has_green_threads,
    start_green_timer,
    unsupported_platform,
)
from .middleware import Middleware

if TYPE_CHECKING:
    import logging
    from collections.abc import Hashable

    from ..broker import Broker, MessageProxy

__all__ = ["TimeLimit", "TimeLimitExceeded"]

#: Milliseconds from which on there is no timer: a year, longer than any process runs. What is said
#: with ``float("inf")`` too, which timers do not take.
LONGEST_TIMER_MS = 365 * 86_400_000


class TimeLimitExceeded(Interrupt):
    """Raised in actors that exceeded their time limit."""


class TimeLimitManager:
    """Knows until when each message may run, and interrupts those that are overdue.

    ``deadlines`` is written by the threads that process messages and read by the enforcing one;
    each of its operations is a single dictionary call.
    """

    def __init__(self, logger: logging.Logger, interval_ms: float) -> None:
        self.logger = logger
        self.interval_s = interval_ms / 1000
        self.deadlines: dict[Hashable, tuple[float, InterruptTarget]] = {}
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Start the thread that enforces the limits; once."""
        if self._thread is None or not self._thread.is_alive():
            self._thread = threading.Thread(
                target=self._enforce, name="dramatiq-time-limits", daemon=True
            )
            self._thread.start()

    def add(self, target: InterruptTarget, limit_ms: float) -> None:
        """Let ``target`` run ``limit_ms`` from now."""
        self.deadlines[target.key] = (time.monotonic() + limit_ms / 1000, target)

    def remove(self, key: Hashable) -> None:
        """Forget the deadline of a target."""
        self.deadlines.pop(key, None)

    def interrupt_overdue(self, now: float) -> None:
        """Interrupt every target whose deadline has passed, once each.

        Args:
            now: The monotonic clock, in seconds.
        """
        for key, (deadline, target) in list(self.deadlines.items()):
            if now >= deadline and self.deadlines.pop(key, None) is not None:
                self.warn(target)
                target.interrupt(TimeLimitExceeded)

    def warn(self, target: InterruptTarget) -> None:
        """Log that a target is going to be interrupted."""
        self.logger.warning("Time limit exceeded. Raising exception in %s.", target.description)

    def _enforce(self) -> None:
        waiter = threading.Event()
        while True:
            try:
                self.interrupt_overdue(time.monotonic())
            except Exception:
                self.logger.exception("Unexpected failure while enforcing time limits.")
            waiter.wait(self.interval_s)


class GreenTimeLimitManager(TimeLimitManager):
    """The same in a process patched by gevent: a timer for each message, and no looking around."""

    def __init__(self, logger: logging.Logger) -> None:
        super().__init__(logger, interval_ms=0)
        self._timers: dict[Hashable, tuple[object, Any]] = {}

    def start(self) -> None:
        """Do nothing: the timers work by themselves."""

    def add(self, target: InterruptTarget, limit_ms: float) -> None:
        """Let ``target`` run ``limit_ms`` from now."""
        key = target.key
        self.remove(key)
        if limit_ms < LONGEST_TIMER_MS:
            super().add(target, limit_ms)
            # It tells this message's timer from those of others that ran here.
            ticket = object()
            timer = start_green_timer(limit_ms / 1000, self._expire, key, ticket)
            self._timers[key] = (ticket, timer)

    def remove(self, key: Hashable) -> None:
        """Forget the deadline of a target."""
        super().remove(key)
        if key in self._timers:
            _, timer = self._timers.pop(key)
            timer.close()

    def _expire(self, key: Hashable, ticket: object) -> None:
        if self._is_due(key, ticket):
            _, target = self.deadlines[key]
            self.warn(target)
            # A handler of the log may have waited, and the message may have ended meanwhile.
            if self._is_due(key, ticket):
                self.remove(key)
                target.interrupt(TimeLimitExceeded)

    def _is_due(self, key: Hashable, ticket: object) -> bool:
        return key in self._timers and self._timers[key][0] is ticket


class TimeLimit(Middleware):
    """Raises `TimeLimitExceeded` in actors that run longer than ``time_limit``.

    It is delivered when the actor next runs Python code: a blocking system call is not cut short.
    The limit is enforced from `after_process_boot` on, as the command line emits it.

    An actor that still runs when ``grace`` has passed too, because native code does not return or
    because it goes on all the same, cannot be ended but with its process: the main process of the
    command line kills that, which counts as a crash of this message alone, and starts another.

    Args:
        time_limit: Milliseconds, ten minutes by default; ``float("inf")`` or None for no limit.
            Actors and messages may have an option of that name.
        interval: Milliseconds between two looks at what is overdue; under gevent, where each
            message has a timer of its own, it says nothing.
        grace: Milliseconds after the limit at which the process is killed; None to never do that.
    """

    is_loop_safe = True

    def __init__(
        self,
        *,
        time_limit: float | None = 600_000,
        interval: int = 1000,
        grace: float | None = 30_000,
    ) -> None:
        self.logger = get_logger(__name__, type(self))
        self.time_limit = time_limit
        self.grace = grace
        self.manager = (
            GreenTimeLimitManager(self.logger)
            if has_green_threads()
            else TimeLimitManager(self.logger, interval)
        )

    @property
    def actor_options(self) -> set[str]:
        """The option ``time_limit``."""
        return {"time_limit"}

    def after_process_boot(self, broker: Broker) -> None:
        """Start enforcing; warn where threads cannot be interrupted."""
        unsupported = unsupported_platform(current_platform)
        if unsupported is not None:
            warnings.warn(
                f"TimeLimit cannot kill threads on your current platform ({unsupported!r}).",
                RuntimeWarning,
                stacklevel=2,
            )
            return
        self.manager.start()

    def before_process_message(self, broker: Broker, message: MessageProxy) -> None:
        """Set the deadline."""
        limit = message.options.get("time_limit")
        if not limit:
            actor = broker.get_actor(message.actor_name)
            limit = actor.options.get("time_limit", self.time_limit)
        if limit is not None:
            self.manager.add(current_interrupt_target(), limit)
            record = getattr(message, "_record", None)  # a tool's own message may have none
            if record is not None and self.grace is not None:
                record.kill_at(time.monotonic() + (limit + self.grace) / 1000)

    def after_process_message(
        self,
        broker: Broker,
        message: MessageProxy,
        *,
        result: Any = None,
        exception: BaseException | None = None,
    ) -> None:
        """Drop the deadline."""
        self.manager.remove(current_interrupt_target().key)

    def after_skip_message(self, broker: Broker, message: MessageProxy) -> None:
        """Drop the deadline."""
        self.manager.remove(current_interrupt_target().key)
