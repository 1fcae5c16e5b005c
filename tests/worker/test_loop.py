from __future__ import annotations

import asyncio
import contextvars
import threading
import time

import pytest

from dramatiq.asyncio import get_event_loop_thread
from dramatiq.middleware import (
    AsyncIO,
    CurrentMessage,
    Middleware,
    TimeLimitExceeded,
)
from dramatiq.rate_limits import Barrier
from dramatiq.rate_limits.backends import StubBackend as LimiterBackend
from dramatiq.results import Results
from dramatiq.results.backends import StubBackend
from dramatiq.testing.waiting import wait_until
from dramatiq.worker.prefetch import LEAST_MIXED, MAX_PREFETCH
from tests.worker.brokers import OwnedStubBroker

AT_ONCE = {"min_backoff": 1, "max_backoff": 1}


# -- where they run


def test_async_actors_run_on_the_loop_without_any_middleware(broker, declare, start_worker, ledger):
    async def work():
        ledger.write(threading.current_thread())

    declare(broker, work).send()

    start_worker(broker)

    (thread,) = ledger.wait_for(1)
    assert thread is get_event_loop_thread()


def test_they_hold_no_thread_while_they_wait(broker, declare, start_worker, ledger):
    async def work(index):
        await asyncio.sleep(0.3)
        ledger.write(index)

    actor = declare(broker, work)
    start_worker(broker, worker_threads=1, async_slots=200)
    started_at = time.monotonic()

    actor.send_many([(index,) for index in range(200)])

    assert sorted(ledger.wait_for(200)) == list(range(200))
    assert time.monotonic() - started_at < 5


def test_thousands_run_at_a_time(broker, declare, start_worker):
    """More than a consumer may hold of what has to wait."""
    count, present = 2 * MAX_PREFETCH + 1, 0
    everybody = asyncio.Event()

    async def work():
        nonlocal present
        present += 1
        if present == count:
            everybody.set()
        await everybody.wait()

    declare(broker, work).send_many([()] * count)

    start_worker(broker, async_slots=count)

    broker.join("default", timeout=20_000)
    assert present == count


def test_free_slots_do_not_pile_up_messages_before_threads(declare, start_worker):
    broker = OwnedStubBroker(fail_fast_default=False)
    gate = threading.Event()
    plain = declare(broker, lambda: gate.wait(10), "plain")

    async def work():
        pass

    declare(broker, work)
    plain.send_many([()] * 6 * MAX_PREFETCH)

    worker = start_worker(broker, async_slots=6 * MAX_PREFETCH)

    consumer = worker.consumers["default"]
    wait_until(lambda: worker.free_slots(consumer) == 0)
    # Another process may be idle.
    assert worker.work_queue.qsize() <= 2 * LEAST_MIXED
    gate.set()
    broker.join("default", timeout=20_000)


def test_no_more_run_at_a_time_than_there_are_slots(broker, declare, start_worker, ledger):
    running, highest = 0, 0

    async def work():
        nonlocal running, highest
        running += 1
        highest = max(highest, running)
        await asyncio.sleep(0.01)
        running -= 1
        ledger.write("ran")

    actor = declare(broker, work)
    start_worker(broker, async_slots=3)

    actor.send_many([()] * 30)

    ledger.wait_for(30)
    assert highest == 3


def test_plain_actors_stay_on_threads_beside_them(broker, declare, start_worker, ledger):
    async def work():
        ledger.write(("async", threading.current_thread()))

    def plain():
        ledger.write(("plain", threading.current_thread()))

    async_actor, plain_actor = declare(broker, work), declare(broker, plain, "plain")
    worker = start_worker(broker)

    async_actor.send()
    plain_actor.send()

    threads = dict(ledger.wait_for(2))
    assert threads["async"] is get_event_loop_thread()
    assert threads["plain"] in worker.workers


def test_the_lower_priority_number_starts_first(broker, declare, start_worker, ledger):
    released = asyncio.Event()

    async def block():
        ledger.write("blocked")
        await released.wait()

    async def work(name):
        ledger.write(name)

    blocker = declare(broker, block, "block")
    low, high = declare(broker, work, "low", priority=9), declare(broker, work, "high", priority=1)
    blocker.send()
    worker = start_worker(broker, async_slots=1, queue_prefetch=20)
    ledger.wait_for(1)
    for _ in range(3):
        low.send("low")
        high.send("high")
    wait_until(lambda: worker._loop.unfinished == 7)

    get_event_loop_thread().loop.call_soon_threadsafe(released.set)

    assert ledger.wait_for(7) == ["blocked", *["high"] * 3, *["low"] * 3]


def test_an_actor_declared_while_the_worker_runs_finds_a_loop(
    broker, declare, start_worker, ledger
):
    async def work():
        ledger.write("ran")

    start_worker(broker)

    declare(broker, work).send()

    assert ledger.wait_for(1) == ["ran"]


def test_the_loop_of_the_asyncio_middleware_is_used(broker, declare, start_worker, ledger):
    broker.add_middleware(AsyncIO())

    async def work():
        ledger.write(threading.current_thread())

    declare(broker, work).send()
    worker = start_worker(broker)

    (thread,) = ledger.wait_for(1)
    assert thread is get_event_loop_thread()
    worker.stop()
    assert not thread.is_alive()


def test_workers_share_a_loop_and_the_last_one_stops_it(broker, declare, start_worker, ledger):
    async def work(name):
        ledger.write(name)

    actor = declare(broker, work)
    first, second = start_worker(broker), start_worker(broker)

    first.stop()
    actor.send("after the first stopped")

    assert ledger.wait_for(1) == ["after the first stopped"]
    second.stop()
    assert get_event_loop_thread() is None


# -- hooks


def test_hooks_and_actor_run_in_one_thread_and_context_with_one_proxy(
    broker, declare, start_worker, ledger
):
    variable = contextvars.ContextVar("variable", default=None)

    class Trace(Middleware):
        is_loop_safe = True

        def before_process_message(self, broker, message):
            assert variable.get() is None
            variable.set(message.message_id)
            message.span = message.message_id
            ledger.write(("before", message.message_id, threading.current_thread()))

        def after_process_message(self, broker, message, *, result=None, exception=None):
            assert variable.get() == message.span == message.message_id
            ledger.write(("after", message.message_id, threading.current_thread()))

    async def work():
        await asyncio.sleep(0.01)
        ledger.write(("during", variable.get(), threading.current_thread()))

    broker.add_middleware(Trace())
    actor = declare(broker, work)
    start_worker(broker)

    messages = actor.send_many([()] * 20)

    entries = ledger.wait_for(60)
    assert {thread for _, _, thread in entries} == {get_event_loop_thread()}
    for message in messages:
        mine = [moment for moment, message_id, _ in entries if message_id == message.message_id]
        assert mine == ["before", "during", "after"]


def test_the_current_message_is_each_ones_own(broker, declare, start_worker, ledger):
    broker.add_middleware(CurrentMessage())

    async def work(index):
        await asyncio.sleep(0.01)
        ledger.write((index, CurrentMessage.get_current_message().args[0]))

    actor = declare(broker, work)
    start_worker(broker)

    actor.send_many([(index,) for index in range(20)])

    assert all(mine == current for mine, current in ledger.wait_for(20))


def test_hooks_after_settling_run_off_the_loop(broker, declare, start_worker, ledger):
    class Confirm(Middleware):
        def after_ack(self, broker, message):
            ledger.write(threading.current_thread())

    async def work():
        pass

    broker.add_middleware(Confirm())
    declare(broker, work).send()

    worker = start_worker(broker)

    assert worker.async_mode_summary() == "on one event loop with 100 slots"
    (thread,) = ledger.wait_for(1)
    assert thread is not get_event_loop_thread()


def test_results_are_stored_before_the_message_is_acknowledged(broker, declare, start_worker):
    backend = StubBackend()
    broker.add_middleware(Results(backend=backend))

    async def work(x):
        await asyncio.sleep(0)
        return x * 2

    actor = declare(broker, work, store_results=True)
    start_worker(broker)

    messages = actor.send_many([(index,) for index in range(10)])
    broker.join("default", timeout=5000)

    assert [backend.get_result(message) for message in messages] == [i * 2 for i in range(10)]


# -- failures


def test_failures_are_retried_and_then_dead_letters(broker, declare, start_worker, ledger):
    async def fail():
        ledger.write("attempt")
        await asyncio.sleep(0)
        raise RuntimeError("failed")

    declare(broker, fail, max_retries=2, **AT_ONCE).send()

    start_worker(broker)

    broker.join("default", timeout=5000)
    assert len(ledger.entries) == 3
    (dead,) = broker.dead_letters
    assert str(dead._exception) == "failed"


@pytest.mark.parametrize(
    "error", [SystemExit, KeyboardInterrupt, GeneratorExit, asyncio.CancelledError]
)
def test_nothing_an_actor_raises_ends_the_loop(broker, declare, start_worker, ledger, error):
    async def fail():
        ledger.write("attempt")
        raise error

    async def work():
        ledger.write("ran")

    failing = declare(broker, fail, "fail", max_retries=0)
    actor = declare(broker, work)
    start_worker(broker)

    failing.send()
    actor.send()

    broker.join("default", timeout=5000)
    assert sorted(ledger.entries) == ["attempt", "ran"]
    assert isinstance(broker.dead_letters[0]._exception, error)


@pytest.mark.parametrize("hook", ["before_process_message", "after_process_message"])
def test_nothing_a_hook_raises_ends_the_loop(broker, declare, start_worker, ledger, hook):
    class Broken(Middleware):
        is_loop_safe = True

    def raise_always(self, broker, message, **outcome):
        raise SystemExit

    setattr(Broken, hook, raise_always)
    broker.add_middleware(Broken())

    async def work():
        ledger.write("ran")

    actor = declare(broker, work, max_retries=0)
    start_worker(broker)

    actor.send()
    actor.send()

    broker.join("default", timeout=5000)
    assert get_event_loop_thread().is_alive()


def test_a_time_limit_cancels_the_coroutine_and_nothing_else(
    broker, declare, start_worker, ledger, enforce_time_limits
):
    enforce_time_limits(broker)

    async def sleep():
        try:
            await asyncio.sleep(30)
        except asyncio.CancelledError:
            ledger.write("cancelled")
            raise

    async def work():
        await asyncio.sleep(0.2)
        ledger.write("ran")

    declare(broker, sleep, "sleep", time_limit=50, max_retries=0).send()
    declare(broker, work).send()
    start_worker(broker)

    broker.join("default", timeout=5000)

    assert ledger.entries == ["cancelled", "ran"]
    (dead,) = broker.dead_letters
    assert isinstance(dead._exception, TimeLimitExceeded)
    assert dead._exception.__cause__ is None
    assert dead._exception.__suppress_context__


def test_an_actor_may_catch_the_cancellation_of_its_time_limit(
    broker, declare, start_worker, ledger, enforce_time_limits
):
    enforce_time_limits(broker)

    async def work():
        try:
            await asyncio.sleep(30)
        except asyncio.CancelledError:
            ledger.write("cleaned up")

    declare(broker, work, time_limit=50).send()
    start_worker(broker)

    broker.join("default", timeout=5000)

    assert ledger.entries == ["cleaned up"]
    assert broker.dead_letters == []


def test_a_barrier_is_met_by_coroutines(broker, declare, start_worker, ledger):
    barrier = Barrier(LimiterBackend(), "barrier", ttl=10_000)
    barrier.create(parties=5)

    async def work():
        ledger.write(barrier.wait(block=False))

    declare(broker, work).send_many([()] * 5)
    start_worker(broker)

    assert sorted(ledger.wait_for(5)) == [False] * 4 + [True]


# -- what blocks the loop


@pytest.fixture
def impatient(monkeypatch):
    """Complain of a blocked loop within a fraction of a second."""
    for name in ("INTERVAL_S", "PATIENCE_S", "GRACE_S"):
        monkeypatch.setattr(f"dramatiq.worker.loop_watch.{name}", 0.05)


def test_an_actor_that_blocks_the_loop_is_named_once(
    broker, declare, start_worker, ledger, impatient, caplog
):
    def complaints():
        return [line for line in caplog.messages if "blocks the event loop" in line]

    async def work(number):
        # Until it is noticed, then for as long again as that took.
        started_at = time.monotonic()
        wait_until(complaints)
        time.sleep(time.monotonic() - started_at)  # noqa: ASYNC251 (that is what it is about)
        ledger.write(number)

    declare(broker, work, "greedy").send_many([(1,), (2,)])
    start_worker(broker)

    ledger.wait_for(2)

    (complaint,) = complaints()
    assert complaint.startswith("Actor 'greedy' blocks the event loop for more than a second, in ")
    assert __file__ in complaint


def test_an_actor_that_waits_is_not_complained_of(
    broker, declare, start_worker, ledger, impatient, caplog
):
    async def work():
        await asyncio.sleep(0.5)  # several times as long as the loop's watch waits
        ledger.write("done")

    declare(broker, work).send()
    start_worker(broker)

    ledger.wait_for(1)

    assert "blocks the event loop" not in caplog.text
