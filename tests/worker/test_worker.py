from __future__ import annotations

import threading
import time

import pytest

import dramatiq.worker
from dramatiq.testing.waiting import wait_until
from dramatiq.worker import ConsumerThread, Worker, WorkerThread
from tests.worker.brokers import OwnedStubBroker

# -- before anything is started


def test_making_a_worker_starts_nothing(stub_broker):
    before = threading.enumerate()

    worker = Worker(stub_broker, queues=["a"], worker_timeout=50, worker_threads=3)

    assert threading.enumerate() == before
    assert (worker.broker, worker.worker_timeout, worker.worker_threads) == (stub_broker, 50, 3)
    assert (worker.consumers, worker.workers, worker.consumer_whitelist) == ({}, [], {"a"})
    assert worker.work_queue.empty()
    assert len(stub_broker.middleware) == 6


@pytest.mark.parametrize(
    ("threads", "prefetch", "delay_prefetch"), [(1, 2, 1000), (8, 16, 8000), (70, 140, 65535)]
)
def test_prefetches_follow_the_number_of_threads(stub_broker, threads, prefetch, delay_prefetch):
    worker = Worker(stub_broker, worker_threads=threads)

    assert (worker.queue_prefetch, worker.delay_prefetch) == (prefetch, delay_prefetch)


def test_prefetches_can_be_fixed(stub_broker, monkeypatch):
    monkeypatch.setattr(dramatiq.worker, "QUEUE_PREFETCH", 7)
    monkeypatch.setattr(dramatiq.worker, "DELAY_QUEUE_PREFETCH", 9)

    worker = Worker(stub_broker)

    assert (worker.queue_prefetch, worker.delay_prefetch) == (7, 9)


def test_the_names_that_tools_wrap_are_the_classes(stub_broker):
    assert dramatiq.worker._WorkerThread is WorkerThread
    assert dramatiq.worker._ConsumerThread is ConsumerThread


# -- starting and stopping


def test_starting_does_not_block_and_stopping_leaves_nothing(broker, declare, start_worker):
    declare(broker, print)
    middleware = list(broker.middleware)

    worker = start_worker(broker, worker_threads=3)

    threads = [*worker.workers, *worker.consumers.values()]
    assert len(worker.workers) == 3
    assert set(worker.consumers) == {"default", "default.DQ"}
    assert all(thread.is_alive() and thread.daemon for thread in threads)
    worker.stop()
    assert not any(thread.is_alive() for thread in threads)
    assert broker.middleware == middleware


def test_a_worker_can_be_stopped_twice_and_before_it_was_started(broker, declare, start_worker):
    declare(broker, print)
    Worker(broker).stop()
    worker = start_worker(broker)

    worker.stop()
    worker.stop()

    assert not any(thread.is_alive() for thread in worker.workers)


def test_workers_may_share_a_broker(broker, declare, start_worker, ledger, caplog):
    actor = declare(broker, ledger.write)
    first, second = start_worker(broker), start_worker(broker)

    first.stop()
    actor.send("still here")

    assert ledger.wait_for(1) == ["still here"]
    second.stop()
    assert "same type twice" not in caplog.text
    assert len(broker.middleware) == 6


def test_a_queue_declared_after_the_stop_is_not_consumed(broker, declare, start_worker):
    worker = start_worker(broker)
    worker.stop()

    broker.declare_queue("late")

    assert worker.consumers == {}


def test_middleware_that_was_replaced_meanwhile_does_not_stop_the_stop(
    broker, declare, start_worker
):
    worker = start_worker(broker)

    broker.middleware = []
    worker.stop()

    assert broker.middleware == []


def test_stopping_gives_back_unstarted_messages_while_others_still_run(
    declare, start_worker, ledger
):
    broker = OwnedStubBroker(fail_fast_default=False)
    running, released = threading.Event(), threading.Event()

    def block():
        running.set()
        released.wait(20)

    actor = declare(broker, block)
    worker = start_worker(broker, worker_threads=1, queue_prefetch=5)
    for _ in range(5):
        actor.send()
    assert running.wait(5)
    wait_until(lambda: worker.work_queue.qsize() == 4)

    stopping = threading.Thread(target=worker.stop)
    stopping.start()

    wait_until(lambda: broker.queues["default"].qsize() == 4)
    assert stopping.is_alive()
    released.set()
    stopping.join(10)
    assert broker.queues["default"].unfinished_tasks == 4


def test_consumers_keep_settling_while_running_messages_are_waited_for(
    broker, declare, start_worker
):
    running = threading.Semaphore(0)
    is_stopping, released = threading.Event(), threading.Event()

    def block(event):
        running.release()
        event.wait(20)

    slow = declare(broker, lambda: block(released), "slow")
    quick = declare(broker, lambda: block(is_stopping), "quick")
    worker = start_worker(broker, worker_threads=2)
    slow.send()
    quick.send()
    assert running.acquire(timeout=5)
    assert running.acquire(timeout=5)
    stopping = threading.Thread(target=worker.stop)
    stopping.start()
    wait_until(lambda: not worker.consumers["default"]._fetching)

    is_stopping.set()

    wait_until(lambda: broker.queues["default"].unfinished_tasks == 1)
    assert stopping.is_alive()
    released.set()
    stopping.join(10)
    assert broker.queues["default"].unfinished_tasks == 0


def test_a_stop_keeps_its_timeout(broker, declare, start_worker):
    running, released = threading.Event(), threading.Event()

    def block():
        running.set()
        released.wait(20)

    declare(broker, block).send()
    worker = start_worker(broker, worker_threads=1)
    assert running.wait(5)
    started_at = time.monotonic()

    worker.stop(timeout=200)

    assert 0.2 <= time.monotonic() - started_at < 5
    assert broker.queues["default"].qsize() == 1
    released.set()


def test_delayed_messages_are_back_in_their_queue_after_a_stop(broker, declare, start_worker):
    actor = declare(broker, print)
    for _ in range(3):
        actor.send_with_options(delay=60_000)
    worker = start_worker(broker)
    parked = worker.consumers["default.DQ"].delay_queue
    wait_until(lambda: parked.qsize() == 3)

    worker.stop()

    assert broker.queues["default.DQ"].qsize() == 3
    assert parked.unfinished_tasks == 0


# -- queues


def test_a_worker_restricted_to_queues_consumes_no_other(broker, start_worker):
    for queue_name in ("a", "b", "c"):
        broker.declare_queue(queue_name)

    worker = start_worker(broker, queues={"a", "b"})
    broker.declare_queue("d")

    assert set(worker.consumers) == {"a", "a.DQ", "b", "b.DQ"}


def test_a_queue_declared_twice_has_one_consumer(broker, start_worker):
    worker = start_worker(broker)

    broker.declare_queue("late")
    consumer = worker.consumers["late"]
    broker.emit_after("declare_queue", "late")

    assert worker.consumers["late"] is consumer


def test_delay_queues_have_the_delay_prefetch_however_they_were_declared(broker, start_worker):
    broker.declare_queue("early")
    worker = start_worker(broker, worker_threads=2)
    broker.declare_queue("late")

    prefetches = {name: thread.prefetch for name, thread in worker.consumers.items()}

    assert prefetches == {"early": 4, "early.DQ": 2000, "late": 4, "late.DQ": 2000}
