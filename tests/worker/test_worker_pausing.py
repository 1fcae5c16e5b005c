from __future__ import annotations

import threading
import time

import pytest

from dramatiq.errors import QueueJoinTimeout
from dramatiq.testing.waiting import wait_until
from tests.worker.brokers import OwnedStubBroker

# -- pausing


def test_pausing_and_resuming_is_quick(broker, declare, start_worker, ledger):
    actor = declare(broker, ledger.write)
    worker = start_worker(broker)
    started_at = time.monotonic()

    worker.pause()
    paused_after = time.monotonic() - started_at
    actor.send("while paused")
    with pytest.raises(QueueJoinTimeout):
        broker.join("default", timeout=150)
    worker.resume()

    assert ledger.wait_for(1) == ["while paused"]
    assert paused_after < 1.5


def test_pausing_waits_for_what_is_running(broker, declare, start_worker):
    running, released, finished = threading.Event(), threading.Event(), threading.Event()

    def work():
        running.set()
        released.wait(10)
        finished.set()

    declare(broker, work).send()
    worker = start_worker(broker)
    assert running.wait(5)
    pausing = threading.Thread(target=worker.pause)
    pausing.start()
    pausing.join(0.2)
    assert pausing.is_alive()

    released.set()

    pausing.join(5)
    assert finished.is_set()
    worker.resume()


def test_a_paused_worker_can_be_stopped(broker, declare, start_worker):
    actor = declare(broker, print)
    worker = start_worker(broker)
    worker.pause()
    actor.send()

    worker.stop(timeout=5000)

    assert broker.queues["default"].qsize() == 1


def test_a_queue_declared_while_paused_waits_too(broker, declare, start_worker, ledger):
    worker = start_worker(broker)
    worker.pause()

    declare(broker, ledger.write, queue_name="late").send("late")
    with pytest.raises(QueueJoinTimeout):
        broker.join("late", timeout=150)
    worker.resume()

    assert ledger.wait_for(1) == ["late"]


def test_pausing_many_times_loses_and_repeats_nothing(broker, declare, start_worker, ledger):
    actor = declare(broker, ledger.write)
    worker = start_worker(broker)

    for index in range(10):
        actor.send_many([(index * 10 + each,) for each in range(10)])
        worker.pause()
        worker.resume()

    broker.join("default", timeout=10_000)
    assert sorted(ledger.entries) == list(range(100))


# -- joining


def test_joining_waits_for_parked_waiting_and_running_messages(
    broker, declare, start_worker, ledger
):
    actor = declare(broker, ledger.write)
    worker = start_worker(broker)
    actor.send_with_options(args=("delayed",), delay=200)
    wait_until(lambda: worker.consumers["default.DQ"].delay_queue.qsize() == 1)

    worker.join()
    broker.join("default", timeout=5000)

    assert ledger.entries == ["delayed"]


def test_joining_an_idle_worker_returns_at_once(broker, declare, start_worker):
    declare(broker, print)
    worker = start_worker(broker)
    joining = threading.Thread(target=worker.join)

    joining.start()

    joining.join(5)
    assert not joining.is_alive()


# -- slots


def test_a_queue_that_waits_for_a_free_thread_is_told_of_one(declare, start_worker, ledger):
    """The consumer of a queue sleeps while another queue's message has the only thread."""
    broker = OwnedStubBroker(fail_fast_default=False)
    running, released = threading.Event(), threading.Event()

    def block():
        running.set()
        released.wait(10)

    declare(broker, block, "block", queue_name="first").send()
    actor = declare(broker, ledger.write, queue_name="second")
    worker = start_worker(broker, worker_threads=1, worker_timeout=30_000)
    assert running.wait(5)
    actor.send("waiting")
    wait_until(lambda: worker.consumers["second"]._is_starving)

    released.set()

    assert ledger.wait_for(1, timeout_s=5) == ["waiting"]


def test_long_messages_are_not_hoarded_behind_a_busy_thread(declare, start_worker):
    broker = OwnedStubBroker(fail_fast_default=False)
    released, running = threading.Event(), threading.Semaphore(0)

    def block():
        running.release()
        released.wait(10)

    declare(broker, block).send_many([()] * 10)

    start_worker(broker, worker_threads=2)
    assert running.acquire(timeout=5)
    assert running.acquire(timeout=5)

    threading.Event().wait(0.3)
    assert broker.queues["default"].qsize() == 8
    released.set()
    broker.join("default", timeout=5000)
