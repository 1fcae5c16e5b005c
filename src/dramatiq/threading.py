"""Interrupting running actors: exceptions raised in other threads, cancelled tasks.

Raising into a thread is a feature of CPython. The exception is delivered when that thread next
runs Python code, so a blocking system call is not cut short. A greenlet is interrupted where it
waits, and not at all while it computes.
"""

from __future__ import annotations

import contextvars
import sys
import threading
from contextlib import contextmanager
from queue import PriorityQueue as PriorityQueue  # noqa: PLC0414 (re-exported)
from queue import Queue as Queue  # noqa: PLC0414 (re-exported)
from typing import TYPE_CHECKING, Any, Protocol

from .logging import get_logger

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterator

__all__ = [
    "Interrupt",
    "current_platform",
    "is_gevent_active",
    "raise_thread_exception",
    "supported_platforms",
]

logger = get_logger(__name__)

if not TYPE_CHECKING and "gevent.monkey" in sys.modules:
    # gevent puts classes in their place that lack the parts which ours build upon. The standard
    # ones are made of the locks that it has patched, and so do not hold up other greenlets either.
    _originals = sys.modules["gevent.monkey"].saved.get("queue", {})
    Queue = _originals.get("Queue", Queue)
    PriorityQueue = _originals.get("PriorityQueue", PriorityQueue)

#: The Python implementation that is running.
current_platform = {"cpython": "CPython", "pypy": "PyPy"}.get(
    sys.implementation.name, sys.implementation.name
)
#: Where threads can be interrupted.
supported_platforms = {"CPython"}


class Interrupt(BaseException):
    """Base class of what interrupts an actor from outside.

    Not an `Exception`, so that an actor's broad ``except`` does not swallow it by accident.
    """


class InterruptTarget(Protocol):
    """What one message runs in: a thread, or a task on an event loop."""

    @property
    def key(self) -> Hashable:
        """What tells this target from others."""

    @property
    def description(self) -> str:
        """How people are told of it: "worker thread 140…"."""

    def interrupt(self, exception: type[BaseException]) -> None:
        """Raise ``exception`` in there as soon as it runs Python code again. Any thread."""


class ThreadTarget:
    """The thread that created this object."""

    __slots__ = ("thread_id",)

    def __init__(self) -> None:
        self.thread_id = threading.get_ident()

    @property
    def key(self) -> int:
        """The thread's id."""
        return self.thread_id

    @property
    def description(self) -> str:
        """The thread's name in logs."""
        return f"worker thread {self.thread_id}"

    def interrupt(self, exception: type[BaseException]) -> None:
        """Raise ``exception`` in the thread."""
        raise_thread_exception(self.thread_id, exception)


def _gevent() -> Any:
    """Return gevent, in a process that it has patched."""
    return sys.modules["gevent"]


def start_green_timer(delay_s: float, function: Callable[..., object], *args: object) -> Any:
    """Call a function in a greenlet of its own after so many seconds, unless it is closed before.

    Returns:
        What has `close`.
    """
    gevent = _gevent()
    timer = gevent.get_hub().loop.timer(max(0.0, delay_s))
    # Not in the hub, which calls back and must never wait.
    timer.start(gevent.spawn, function, *args)
    return timer


class GreenletTarget(ThreadTarget):
    """The greenlet that created this object: what threads are in a process patched by gevent."""

    __slots__ = ("_greenlet",)

    def __init__(self) -> None:
        super().__init__()
        self._greenlet = _gevent().getcurrent()

    @property
    def description(self) -> str:
        """The greenlet's name in logs."""
        return f"worker greenlet {self.thread_id}"

    def interrupt(self, exception: type[BaseException]) -> None:
        """Raise ``exception`` in the greenlet, at once: it waits for something, as we run."""
        gevent = _gevent()
        if not self._greenlet.dead:
            # Thrown into from here, so that nothing else runs between the caller's decision and
            # the throw. The greenlet goes back to the hub, as always, which then goes on here.
            gevent.get_hub().loop.run_callback(gevent.getcurrent().switch)
            self._greenlet.throw(exception)


_task_target: contextvars.ContextVar[InterruptTarget | None] = contextvars.ContextVar(
    "dramatiq_interrupt_target", default=None
)


def current_interrupt_target() -> InterruptTarget:
    """Return what the caller runs in: the task an event loop runs it as, else its thread."""
    return _task_target.get() or (GreenletTarget() if has_green_threads() else ThreadTarget())


@contextmanager
def waiting_for_others() -> Iterator[None]:
    """Wait inside for what other messages come to.

    A thread that runs messages has another one take its place meanwhile, or what it waits for
    might wait for a thread.
    """
    lend_place = getattr(threading.current_thread(), "lend_place", None)
    take_back = None if lend_place is None else lend_place()
    try:
        yield
    finally:
        if take_back is not None:
            take_back()


def unsupported_platform(platform_name: str) -> str | None:
    """Return the name of this platform if threads cannot be interrupted on it, else None.

    Args:
        platform_name: What the caller's module knows as `current_platform`; either that or ours
            may have been replaced.
    """
    for name in (platform_name, current_platform):
        if name not in supported_platforms:
            return name
    return None


def is_gevent_active() -> bool:
    """Tell whether gevent has monkey-patched this process. Never imports gevent by itself."""
    monkey = sys.modules.get("gevent.monkey")
    return bool(monkey is not None and monkey.saved)


def has_green_threads() -> bool:
    """Tell whether threads are greenlets here: gevent can be told to leave threads as they are."""
    return is_gevent_active() and "_thread" in sys.modules["gevent.monkey"].saved


def raise_thread_exception(thread_id: int, exception: type[BaseException] | BaseException) -> None:
    """Schedule ``exception`` in the thread with that id; may be called from any thread.

    An unknown thread or an unsupported platform is logged as CRITICAL; nothing is raised here.
    """
    name = exception.__name__ if isinstance(exception, type) else type(exception).__name__
    if current_platform not in supported_platforms:
        logger.critical(
            "Setting thread exceptions (%s) is not supported for your current platform (%r).",
            name,
            current_platform,
        )
        return
    import ctypes  # only here: a worker may never interrupt anything

    count = ctypes.pythonapi.PyThreadState_SetAsyncExc(
        ctypes.c_ulong(thread_id), ctypes.py_object(_class_raising(exception))
    )
    if count == 0:
        logger.critical("Failed to set exception (%s) in thread %r.", name, thread_id)


def _class_raising(exception: type[BaseException] | BaseException) -> type[BaseException]:
    """Return a class whose call gives ``exception``: the interpreter refuses instances."""
    if isinstance(exception, type):
        return exception
    exception_class = type(exception)
    return type(exception_class.__name__, (exception_class,), {"__new__": lambda _: exception})
