from __future__ import annotations

import asyncio
import threading

from dramatiq.asyncio import get_event_loop_thread
from dramatiq.middleware import (
    Middleware,
    TimeLimitExceeded,
)
from dramatiq.worker import WorkerThread


class Foreign(Middleware):
    """Overrides a process hook and says nothing of event loops."""

    def __init__(self):
        self.threads = []

    def before_process_message(self, broker, message):
        self.threads.append(threading.current_thread())


# -- the way of 2.x


def test_a_foreign_middleware_keeps_async_actors_on_threads_and_is_named(
    broker, declare, start_worker, ledger
):
    foreign = Foreign()
    broker.add_middleware(foreign)

    async def work():
        ledger.write("ran")

    declare(broker, work).send()
    worker = start_worker(broker)

    ledger.wait_for(1)
    assert set(foreign.threads) <= set(worker.workers)
    assert worker.async_mode_summary() == (
        "one per worker thread, because Foreign does not declare is_loop_safe = True"
    )


def test_without_slots_async_actors_run_one_per_thread(broker, declare, start_worker, ledger):
    async def work():
        await asyncio.sleep(0.05)
        ledger.write("ran")

    actor = declare(broker, work)
    worker = start_worker(broker, async_slots=0)

    actor.send_many([()] * 4)

    assert ledger.wait_for(4) == ["ran"] * 4
    assert worker.async_mode_summary() == "one per worker thread (async slots are off)"


def test_a_time_limit_reaches_a_coroutine_that_has_a_thread(
    broker, declare, start_worker, ledger, enforce_time_limits
):
    enforce_time_limits(broker)

    async def work():
        try:
            await asyncio.sleep(30)
        except asyncio.CancelledError:
            ledger.write("cancelled")
            raise

    declare(broker, work, time_limit=50, max_retries=0).send()
    start_worker(broker, async_slots=0)

    broker.join("default", timeout=10_000)

    assert ledger.entries == ["cancelled"]
    assert isinstance(broker.dead_letters[0]._exception, TimeLimitExceeded)


def test_a_tool_that_wraps_process_message_sees_async_messages_too(
    broker, declare, start_worker, ledger, monkeypatch
):
    original, seen = WorkerThread.process_message, []

    def wrapped(self, message):
        seen.append(message.actor_name)
        return original(self, message)

    monkeypatch.setattr(WorkerThread, "process_message", wrapped)

    async def work():
        ledger.write("ran")

    declare(broker, work).send()
    worker = start_worker(broker)

    ledger.wait_for(1)
    assert seen == ["work"]
    assert "wraps WorkerThread.process_message" in worker.async_mode_summary()


def test_an_actor_whose_function_was_replaced_is_called_through_it(
    broker, declare, start_worker, ledger
):
    async def work():
        raise AssertionError("replaced")

    actor = declare(broker, work)
    actor.fn = lambda: ledger.write(threading.current_thread())
    worker = start_worker(broker)

    actor.send()

    assert ledger.wait_for(1)[0] in worker.workers


def test_there_is_nothing_to_say_without_async_actors(broker, declare, start_worker):
    declare(broker, print)

    assert start_worker(broker).async_mode_summary() is None
    assert get_event_loop_thread() is None
