from __future__ import annotations

import threading
import time

import pytest

from dramatiq.errors import Retry
from dramatiq.middleware import Middleware, MiddlewareError, Shutdown
from dramatiq.testing.waiting import wait_until
from dramatiq.worker import Worker

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


class Veto(Middleware):
    """Forbids one hook while it is on."""

    def __init__(self, hook):
        self.is_on = True
        setattr(self, hook, self.forbid)

    def forbid(self, broker, worker):
        if self.is_on:
            raise MiddlewareError("not now")


def test_a_hook_may_forbid_to_start_a_worker(broker, declare):
    broker.add_middleware(Veto("before_worker_boot"))
    declare(broker, print)
    worker = Worker(broker)

    with pytest.raises(MiddlewareError, match="not now"):
        worker.start()

    assert (worker.workers, worker.consumers) == ([], {})


def test_a_hook_may_forbid_to_stop_a_worker(broker, declare, start_worker):
    veto = Veto("before_worker_shutdown")
    broker.add_middleware(veto)
    declare(broker, print)
    worker = start_worker(broker)

    with pytest.raises(MiddlewareError, match="not now"):
        worker.stop()

    assert all(thread.is_alive() for thread in worker.workers)
    veto.is_on = False


def test_a_middleware_added_while_a_worker_runs_is_called(broker, declare, start_worker, ledger):
    class Late(Middleware):
        def before_process_message(self, broker, message):
            ledger.write("late hook")

    actor = declare(broker, ledger.write)
    start_worker(broker)
    actor.send("before")
    ledger.wait_for(1)

    broker.add_middleware(Late())
    actor.send("after")

    assert ledger.wait_for(3) == ["before", "late hook", "after"]


def test_actors_that_asked_for_it_are_told_of_a_shutdown(broker, declare, start_worker, ledger):
    def work():
        ledger.write("started")
        deadline = time.monotonic() + 10
        try:
            while time.monotonic() < deadline:
                time.sleep(0.001)
        except Shutdown:
            ledger.write("told")
            raise

    declare(broker, work, notify_shutdown=True, min_backoff=60_000).send()
    worker = start_worker(broker, worker_threads=1)
    ledger.wait_for(1)

    worker.stop()

    assert ledger.entries == ["started", "told"]
    assert broker.queues["default.DQ"].qsize() == 1


# -- how quickly


def test_a_retry_adds_little_to_its_delay(broker, declare, start_worker, ledger):
    def work():
        ledger.write(time.monotonic())
        if len(ledger.entries) < 2:
            raise Retry(delay=100)

    declare(broker, work).send()
    start_worker(broker)

    first, second = ledger.wait_for(2)

    assert 0.099 <= second - first < 0.3


def test_retries_without_backoff_follow_at_once(broker, declare, start_worker, ledger):
    def fail():
        ledger.write(time.monotonic())
        raise Retry

    declare(broker, fail, max_retries=10, min_backoff=0, max_backoff=0).send()
    start_worker(broker)

    entries = ledger.wait_for(11)

    assert entries[-1] - entries[0] < 0.5


def test_a_message_to_an_idle_worker_starts_at_once(broker, declare, start_worker, ledger):
    actor = declare(broker, lambda sent_at: ledger.write(time.monotonic() - sent_at))
    start_worker(broker, worker_timeout=10_000)

    for count in range(1, 6):
        actor.send(time.monotonic())
        ledger.wait_for(count)

    assert sorted(ledger.entries)[2] < 0.1
