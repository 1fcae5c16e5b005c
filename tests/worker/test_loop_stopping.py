from __future__ import annotations

import asyncio
import threading
import time

import pytest

from dramatiq.asyncio import get_event_loop_thread
from dramatiq.errors import QueueJoinTimeout
from dramatiq.middleware import (
    Shutdown,
)
from dramatiq.testing.waiting import wait_until
from tests.worker.brokers import OwnedStubBroker

# -- stopping


def test_a_stop_waits_for_what_is_running(broker, declare, start_worker, ledger):
    async def work():
        ledger.write("started")
        await asyncio.sleep(0.2)
        ledger.write("finished")

    declare(broker, work).send()
    worker = start_worker(broker)
    ledger.wait_for(1)

    worker.stop()

    assert ledger.entries == ["started", "finished"]
    assert broker.queues["default"].unfinished_tasks == 0


def test_a_stop_notifies_those_that_asked_for_it(broker, declare, start_worker, ledger):
    async def wait():
        ledger.write("started")
        await asyncio.sleep(30)

    declare(broker, wait, notify_shutdown=True, max_retries=0).send()
    worker = start_worker(broker)
    ledger.wait_for(1)

    worker.stop()

    (dead,) = broker.dead_letters
    assert isinstance(dead._exception, Shutdown)


def test_what_still_runs_at_the_end_of_a_stop_is_cancelled_and_given_back_without_blame(
    broker, declare, start_worker, ledger
):
    async def wait():
        ledger.write("started")
        try:
            await asyncio.sleep(30)
        finally:
            ledger.write("cancelled")

    message = declare(broker, wait).send()
    worker = start_worker(broker)
    ledger.wait_for(1)

    worker.stop(timeout=100)

    assert ledger.entries == ["started", "cancelled"]
    queue = broker.queues["default"]
    assert (queue.qsize(), queue.unfinished_tasks) == (1, 1)
    assert queue.queue[0] == message.encode()
    assert broker.queues["default.DQ"].qsize() == 0


def test_what_waits_for_a_slot_is_given_back_at_once(declare, start_worker, ledger):
    broker = OwnedStubBroker(fail_fast_default=False)
    released = asyncio.Event()

    async def block():
        ledger.write("started")
        await released.wait()

    declare(broker, block).send_many([()] * 5)
    worker = start_worker(broker, async_slots=1, queue_prefetch=5)
    ledger.wait_for(1)
    wait_until(lambda: worker._loop.unfinished == 5)
    stopping = threading.Thread(target=worker.stop)
    stopping.start()

    wait_until(lambda: broker.queues["default"].qsize() == 4)

    assert stopping.is_alive()
    get_event_loop_thread().loop.call_soon_threadsafe(released.set)
    stopping.join(10)
    assert ledger.entries == ["started"]


def test_an_actor_that_blocks_the_loop_cannot_block_a_stop_for_ever(
    broker, declare, start_worker, ledger, monkeypatch, caplog
):
    monkeypatch.setattr("dramatiq.worker.loop.LOOP_TIMEOUT_S", 0.2)
    released = threading.Event()

    async def block():
        ledger.write(get_event_loop_thread())
        released.wait(20)

    declare(broker, block).send()
    worker = start_worker(broker)
    (thread,) = ledger.wait_for(1)
    started_at = time.monotonic()

    worker.stop(timeout=100)

    assert time.monotonic() - started_at < 10
    assert "blocks the event loop" in caplog.text
    released.set()
    thread.stop()


def test_pausing_lets_what_runs_finish_and_starts_nothing(broker, declare, start_worker, ledger):
    async def work(name):
        ledger.write(name)
        await asyncio.sleep(0.1)
        ledger.write(name)

    actor = declare(broker, work)
    worker = start_worker(broker, async_slots=1)
    actor.send("first")
    ledger.wait_for(1)

    worker.pause()
    actor.send("second")
    with pytest.raises(QueueJoinTimeout):
        broker.join("default", timeout=150)

    assert ledger.entries == ["first", "first"]
    worker.resume()
    assert ledger.wait_for(4) == ["first", "first", "second", "second"]


def test_joining_a_worker_waits_for_its_coroutines(broker, declare, start_worker, ledger):
    async def work():
        ledger.write("started")
        await asyncio.sleep(0.2)
        ledger.write("finished")

    declare(broker, work).send()
    worker = start_worker(broker)
    ledger.wait_for(1)

    worker.join()

    assert ledger.entries == ["started", "finished"]
