from __future__ import annotations

import threading
import time

import pytest

import dramatiq.worker
from dramatiq.brokers.stub import StubBroker
from dramatiq.errors import QueueJoinTimeout
from dramatiq.middleware import Middleware
from dramatiq.testing.waiting import wait_until
from dramatiq.worker import ConsumerThread, Worker, WorkerThread

#: Hooks of workers and their threads.
LIFE_HOOKS = (
    "before_worker_boot",
    "after_worker_boot",
    "before_worker_shutdown",
    "after_worker_shutdown",
    "after_consumer_thread_boot",
    "before_consumer_thread_shutdown",
    "after_worker_thread_boot",
    "before_worker_thread_shutdown",
)


class LifeRecorder(Middleware):
    """Writes down the hooks of a worker's life, and the thread each ran in."""

    def __init__(self):
        self.events = []

    @property
    def hooks(self):
        return [hook for hook, _, _ in self.events]


def _recording(hook):
    def record(self, broker, subject):
        self.events.append((hook, subject, threading.current_thread()))

    return record


for each in LIFE_HOOKS:
    setattr(LifeRecorder, each, _recording(each))


# -- before anything is started


def test_making_a_worker_starts_nothing(stub_broker):
    before = threading.enumerate()

    worker = Worker(stub_broker, queues=["a"], worker_timeout=50, worker_threads=3)

    assert threading.enumerate() == before
    assert (worker.broker, worker.worker_timeout, worker.worker_threads) == (stub_broker, 50, 3)
    assert (worker.consumers, worker.workers, worker.consumer_whitelist) == ({}, [], {"a"})
    assert worker.work_queue.empty()
    assert stub_broker.middleware == StubBroker().middleware or len(stub_broker.middleware) == 6


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


def test_hooks_of_a_workers_life_run_in_order(broker, declare, start_worker):
    recorder = LifeRecorder()
    broker.add_middleware(recorder)
    declare(broker, print)

    worker = start_worker(broker, worker_threads=2)
    threads = [*worker.workers, *worker.consumers.values()]
    wait_until(lambda: len(recorder.events) == 6)
    boot = recorder.hooks
    worker.stop()

    assert boot[0] == "before_worker_boot"
    assert sorted(boot[1:]) == sorted(
        ["after_worker_boot"]
        + ["after_consumer_thread_boot"] * 2
        + ["after_worker_thread_boot"] * 2
    )
    assert recorder.hooks[6:] == [
        "before_worker_shutdown",
        *["before_worker_thread_shutdown"] * 2,
        *["before_consumer_thread_shutdown"] * 2,
        "after_worker_shutdown",
    ]
    for hook, subject, thread in recorder.events:
        if "thread" in hook:
            assert subject is thread
            assert thread in threads
        else:
            assert subject is worker
            assert thread is threading.current_thread()


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
    from tests.worker.brokers import OwnedStubBroker

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
    running, released = threading.Event(), threading.Event()

    def block():
        running.set()
        released.wait(20)

    slow = declare(broker, block, "slow")
    quick = declare(broker, lambda: running.wait(5), "quick")
    worker = start_worker(broker, worker_threads=2)
    slow.send()
    quick.send()

    stopping = threading.Thread(target=worker.stop)
    assert running.wait(5)
    stopping.start()

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
    from tests.worker.brokers import OwnedStubBroker

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
    from tests.worker.brokers import OwnedStubBroker

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
