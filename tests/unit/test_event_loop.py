from __future__ import annotations

import asyncio
import contextlib
import contextvars
import functools
import gc
import threading
import time
import traceback
import weakref

import pytest

from dramatiq import asyncio as event_loops
from dramatiq import get_logger
from dramatiq.asyncio import (
    EventLoopThread,
    async_to_sync,
    get_event_loop_thread,
    set_event_loop_thread,
)
from dramatiq.middleware import AsyncIO
from dramatiq.threading import Interrupt, raise_thread_exception

#: Seconds after which a test gives up.
DEADLINE_S = 5


@pytest.fixture
def loop_thread():
    thread = EventLoopThread(get_logger("tests"), interrupt_check_ival=0.01)
    thread.start(timeout=DEADLINE_S)
    set_event_loop_thread(thread)
    yield thread
    set_event_loop_thread(None)
    thread.stop()


# -- the process-wide thread


def test_there_is_none_at_first():
    assert get_event_loop_thread() is None


def test_the_process_wide_thread_can_be_set_and_unset():
    thread = object()

    set_event_loop_thread(thread)
    assert get_event_loop_thread() is thread

    set_event_loop_thread(None)
    assert get_event_loop_thread() is None


# -- its life


def test_the_thread_has_what_it_was_given():
    logger = get_logger("tests")
    thread = EventLoopThread(logger)

    assert (thread.logger, thread.interrupt_check_ival) == (logger, 0.1)
    thread.loop.close()


def test_starting_waits_until_the_loop_runs(loop_thread):
    assert loop_thread.is_alive()
    assert loop_thread.loop.is_running()


def test_starting_twice_is_an_error(loop_thread):
    with pytest.raises(RuntimeError):
        loop_thread.start(timeout=DEADLINE_S)


def test_a_loop_that_does_not_run_in_time_is_an_error():
    may_run = threading.Event()

    class Slow(EventLoopThread):
        def run(self):
            may_run.wait(DEADLINE_S)
            super().run()

    thread = Slow(get_logger("tests"))

    with pytest.raises(RuntimeError, match="Event loop failed to start"):
        thread.start(timeout=0.01)

    may_run.set()
    assert thread._running.wait(DEADLINE_S)
    thread.stop()


def test_stopping_ends_the_thread_and_closes_the_loop(loop_thread):
    loop_thread.stop()

    assert not loop_thread.is_alive()
    assert loop_thread.loop.is_closed()


def test_stopping_twice_is_harmless(loop_thread):
    loop_thread.stop()
    loop_thread.stop()


def test_stopping_a_thread_that_was_not_started_is_harmless():
    thread = EventLoopThread(get_logger("tests"))

    thread.stop()

    thread.loop.close()


# -- running coroutines


def test_a_coroutine_runs_on_the_loop_and_its_result_comes_back(loop_thread):
    async def where():
        return threading.current_thread(), asyncio.get_running_loop()

    assert loop_thread.run_coroutine(where()) == (loop_thread, loop_thread.loop)


def test_coroutines_of_many_threads_run_at_the_same_time(loop_thread):
    all_here = asyncio.Event()
    arrived = []

    async def meet(n):
        arrived.append(n)
        if len(arrived) == 10:
            all_here.set()
        await all_here.wait()
        return n

    results = []
    threads = [
        threading.Thread(
            target=lambda n=n: results.append(loop_thread.run_coroutine(meet(n))), daemon=True
        )
        for n in range(10)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(DEADLINE_S)

    assert sorted(results) == list(range(10))


def test_the_callers_context_is_visible_inside(loop_thread):
    variable = contextvars.ContextVar("variable")
    variable.set("outer")

    async def read():
        return variable.get()

    assert loop_thread.run_coroutine(read()) == "outer"


def test_exceptions_end_in_the_frames_of_the_coroutine(loop_thread):
    async def inner():
        raise ValueError("wrong")

    async def outer():
        await inner()

    with pytest.raises(ValueError, match="wrong") as caught:
        loop_thread.run_coroutine(outer())

    frames = [frame.name for frame in traceback.extract_tb(caught.value.__traceback__)]
    assert frames[-2:] == ["outer", "inner"]


def test_a_timeout_inside_the_coroutine_comes_out(loop_thread):
    async def late():
        raise TimeoutError("inside")

    with pytest.raises(TimeoutError, match="inside"):
        loop_thread.run_coroutine(late())


def test_a_coroutine_that_cancels_itself_does_not_hang(loop_thread):
    async def cancelled():
        raise asyncio.CancelledError

    with pytest.raises(asyncio.CancelledError):
        loop_thread.run_coroutine(cancelled())


def test_a_loop_that_does_not_run_takes_no_coroutine():
    thread = EventLoopThread(get_logger("tests"))

    async def work():
        pass

    with pytest.raises(RuntimeError, match="not running"):
        thread.run_coroutine(work())

    thread.loop.close()


def test_a_loop_that_was_stopped_takes_no_coroutine(loop_thread):
    loop_thread.stop()

    async def work():
        pass

    with pytest.raises(RuntimeError, match="not running"):
        loop_thread.run_coroutine(work())


# -- interrupts


class Stop(Interrupt):
    pass


class Waiting(threading.Thread):
    """Runs a coroutine on the loop and keeps what came out."""

    def __init__(self, loop_thread, coroutine):
        super().__init__(daemon=True)
        self.loop_thread = loop_thread
        self.coroutine = coroutine
        self.result = None
        self.error = None

    def run(self):
        try:
            self.result = self.loop_thread.run_coroutine(self.coroutine)
        except BaseException as error:
            self.error = error


def test_an_interrupt_cancels_the_coroutine_and_waits_for_its_cleanup(loop_thread):
    started, seen = threading.Event(), []

    async def work():
        started.set()
        try:
            await asyncio.sleep(DEADLINE_S)
        except asyncio.CancelledError:
            await asyncio.sleep(0.02)
            seen.append("cleaned up")
            raise

    waiting = Waiting(loop_thread, work())
    waiting.start()
    assert started.wait(DEADLINE_S)

    raise_thread_exception(waiting.ident, Stop)
    waiting.join(DEADLINE_S)

    assert type(waiting.error) is Stop
    assert seen == ["cleaned up"]


def test_an_interrupt_wins_over_what_the_cleanup_raises_or_returns(loop_thread):
    started = threading.Event()

    async def work():
        started.set()
        try:
            await asyncio.sleep(DEADLINE_S)
        finally:
            return "swallowed"  # noqa: B012 (that is the point)

    waiting = Waiting(loop_thread, work())
    waiting.start()
    assert started.wait(DEADLINE_S)

    raise_thread_exception(waiting.ident, Stop)
    waiting.join(DEADLINE_S)

    assert type(waiting.error) is Stop


def test_a_cleanup_that_takes_too_long_is_an_error(loop_thread, monkeypatch):
    monkeypatch.setattr(event_loops, "CLEANUP_TIMEOUT_S", 0.05)
    started, may_end, ended = threading.Event(), asyncio.Event(), threading.Event()

    async def work():
        started.set()
        try:
            await asyncio.sleep(DEADLINE_S)
        finally:
            await may_end.wait()
            ended.set()

    waiting = Waiting(loop_thread, work())
    waiting.start()
    assert started.wait(DEADLINE_S)

    raise_thread_exception(waiting.ident, Stop)
    waiting.join(DEADLINE_S)

    assert type(waiting.error) is RuntimeError
    assert type(waiting.error.__cause__) is Stop
    loop_thread.loop.call_soon_threadsafe(may_end.set)
    assert ended.wait(DEADLINE_S)


# -- memory


class Witness:
    """Something a frame holds."""


@pytest.fixture
def without_collector():
    gc.collect()
    gc.disable()
    yield
    gc.enable()


def gone(reference):
    """Wait until what is referred to is gone: the loop's thread lets go of it a little later."""
    deadline = time.monotonic() + DEADLINE_S
    while reference() is not None and time.monotonic() < deadline:
        time.sleep(0.001)
    return reference() is None


def test_an_exception_is_not_kept_by_a_cycle(loop_thread, without_collector):
    references = []

    async def fail():
        witness = Witness()
        references.append(weakref.ref(witness))
        raise ValueError("wrong")

    with contextlib.suppress(ValueError):
        loop_thread.run_coroutine(fail())

    assert gone(references[0])


def test_an_interrupted_coroutine_is_not_kept_by_a_cycle(loop_thread, without_collector):
    started, references = threading.Event(), []

    async def work():
        witness = Witness()
        references.append(weakref.ref(witness))
        started.set()
        await asyncio.sleep(DEADLINE_S)

    waiting = Waiting(loop_thread, work())
    waiting.start()
    assert started.wait(DEADLINE_S)
    raise_thread_exception(waiting.ident, Stop)
    waiting.join(DEADLINE_S)

    waiting.error = waiting.coroutine = None

    assert gone(references[0])


# -- plain functions from coroutine functions


async def double(value, *, extra=0):
    """Double."""
    return 2 * value + extra


def test_a_plain_function_keeps_what_describes_the_coroutine_function():
    plain = async_to_sync(double)

    assert (plain.__name__, plain.__doc__, plain.__wrapped__) == ("double", "Double.", double)
    assert not asyncio.iscoroutinefunction(plain)


def test_a_plain_function_runs_on_the_process_wide_thread(loop_thread):
    assert async_to_sync(double)(2, extra=1) == 5


def test_the_thread_is_looked_up_at_every_call(monkeypatch):
    class Fake:
        def run_coroutine(self, coroutine):
            coroutine.close()
            return "fake"

    plain = async_to_sync(double)
    monkeypatch.setattr(event_loops, "get_event_loop_thread", Fake)

    assert plain(1) == "fake"


def test_without_a_thread_a_plain_function_says_what_to_do():
    with pytest.raises(RuntimeError, match=r"'double'.*AsyncIO"):
        async_to_sync(double)(1)


def test_what_has_no_name_says_what_to_do_too():
    with pytest.raises(RuntimeError, match="AsyncIO"):
        async_to_sync(functools.partial(double, 1))()


# -- the middleware


def test_the_middleware_runs_the_process_wide_thread():
    middleware = AsyncIO()

    middleware.before_worker_boot(None, None)
    thread = get_event_loop_thread()
    assert async_to_sync(double)(2) == 4
    assert thread.logger is middleware.logger

    middleware.after_worker_shutdown(None, None)
    assert get_event_loop_thread() is None
    assert not thread.is_alive()


def test_the_middleware_may_be_stopped_without_a_start():
    AsyncIO().after_worker_shutdown(None, None)

    assert get_event_loop_thread() is None
