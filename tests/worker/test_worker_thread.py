from __future__ import annotations

import contextvars
import gc
import sys
import threading
import time
import weakref

import pytest

from dramatiq.broker import MessageProxy
from dramatiq.errors import Retry
from dramatiq.message import Message
from dramatiq.middleware import CurrentMessage, Middleware, TimeLimit
from dramatiq.testing.waiting import wait_until
from dramatiq.threading import Interrupt, raise_thread_exception
from dramatiq.worker import WorkerThread, _WorkQueueItem
from tests.worker.brokers import LegacyBroker

AT_ONCE = {"min_backoff": 1, "max_backoff": 1}


class Failure(Retry):
    """Tells whether it is alive. Is not logged: what captures the log would keep it alive."""

    alive = []  # noqa: RUF012 (emptied by each test)

    def __init__(self, text):
        super().__init__(text)
        self.alive.append(weakref.ref(self))


# -- errors and interrupts


@pytest.mark.skipif(
    sys.gettrace() is not None,
    reason="a tracer lets interrupts hit between taking a lock and noting that it is taken",
)
def test_interrupts_outside_actors_end_no_thread_and_lose_no_message(
    broker, declare, start_worker, ledger
):
    """Idle threads and those between two messages are interrupted, again and again."""
    actor = declare(broker, ledger.write, **AT_ONCE)
    worker = start_worker(broker, worker_threads=2)

    for index in range(100):
        for thread in worker.workers:
            raise_thread_exception(thread.ident, Interrupt)
        actor.send(index)

    broker.join("default", timeout=15_000)
    assert set(ledger.entries) == set(range(100))
    assert all(thread.is_alive() for thread in worker.workers)
    worker.join()


@pytest.mark.parametrize("hook", ["before_process_message", "after_process_message"])
@pytest.mark.parametrize("error", [SystemExit, KeyboardInterrupt, Interrupt])
def test_nothing_a_hook_raises_ends_a_thread_or_loses_a_message(
    broker, declare, start_worker, ledger, hook, error
):
    class Broken(Middleware):
        raised = False

    def raise_once(self, broker, message, **outcome):
        if not self.raised:
            Broken.raised = True
            raise error

    setattr(Broken, hook, raise_once)
    broker.add_middleware(Broken())
    declare(broker, ledger.write, **AT_ONCE).send("ran")

    worker = start_worker(broker, worker_threads=1)

    broker.join("default", timeout=5000)
    assert Broken.raised
    assert "ran" in ledger.entries
    assert worker.workers[0].is_alive()


@pytest.mark.parametrize("hook", ["before_ack", "after_ack"])
def test_an_interrupt_while_settling_settles_all_the_same(
    broker, declare, start_worker, ledger, hook
):
    class Late(Middleware):
        raised = False

    def raise_once(self, broker, message):
        if not self.raised:
            Late.raised = True
            raise Interrupt

    setattr(Late, hook, raise_once)
    broker.add_middleware(Late())
    declare(broker, ledger.write).send("ran")

    worker = start_worker(broker, worker_threads=1)

    broker.join("default", timeout=5000)
    wait_until(lambda: Late.raised)
    assert ledger.entries == ["ran"]
    assert worker.workers[0].is_alive()


def test_a_time_limit_ends_an_actor_and_its_thread_goes_on(broker, declare, start_worker, ledger):
    broker.middleware = [
        TimeLimit(interval=10) if isinstance(each, TimeLimit) else each
        for each in broker.middleware
    ]
    broker.emit_after("process_boot")

    def spin():
        ledger.write("started")
        deadline = time.monotonic() + 10
        while time.monotonic() < deadline:
            time.sleep(0.001)
        ledger.write("finished")

    declare(broker, spin, "spin", time_limit=50, max_retries=1, **AT_ONCE).send()
    quick = declare(broker, ledger.write)
    worker = start_worker(broker, worker_threads=1)
    quick.send("quick")

    broker.join("default", timeout=10_000)
    assert sorted(ledger.entries) == ["quick", "started", "started"]
    (dead,) = broker.dead_letters
    assert type(dead._exception).__name__ == "TimeLimitExceeded"
    assert worker.workers[0].is_alive()


def test_a_message_of_a_queue_without_consumer_ends_no_thread(
    broker, declare, start_worker, caplog
):
    declare(broker, print)
    worker = start_worker(broker, worker_threads=1)
    stray = Message(queue_name="elsewhere", actor_name="work", args=(), kwargs={}, options={})
    worker.work_queue.put(_WorkQueueItem(priority=0, message=MessageProxy(stray)))

    worker.work_queue.join()
    assert "'elsewhere', which has no consumer in this worker" in caplog.text
    assert worker.workers[0].is_alive()


# -- the contract with tools


def test_process_message_is_called_on_the_class_with_the_proxy_alone(
    broker, declare, start_worker, ledger, monkeypatch
):
    actor = declare(broker, ledger.write)
    start_worker(broker)
    original, calls = WorkerThread.process_message, []

    def wrapped(self, *args, **kwargs):
        calls.append((args, kwargs))
        return original(self, *args, **kwargs)

    monkeypatch.setattr(WorkerThread, "process_message", wrapped)
    message = actor.send("ran")

    broker.join("default", timeout=5000)
    ((args, kwargs),) = calls
    assert args == (message,)
    assert kwargs == {}


def test_a_tool_that_breaks_around_process_message_makes_the_message_fail(
    broker, declare, start_worker, ledger, monkeypatch
):
    failures = []
    original = WorkerThread.process_message

    def broken(self, message):
        if not failures:
            failures.append(message)
            raise RuntimeError("the tool broke")
        return original(self, message)

    monkeypatch.setattr(WorkerThread, "process_message", broken)
    declare(broker, ledger.write, **AT_ONCE).send("ran")

    worker = start_worker(broker, worker_threads=1)

    broker.join("default", timeout=5000)
    assert ledger.entries == ["ran"]
    assert worker.workers[0].is_alive()


def test_hooks_and_actor_run_in_one_thread_and_context_with_one_proxy(
    broker, declare, start_worker, ledger
):
    variable = contextvars.ContextVar("variable", default=None)

    class Trace(Middleware):
        def before_process_message(self, broker, message):
            variable.set("before")
            message.span = "span"
            ledger.write((threading.current_thread(), id(message), None))

        def after_process_message(self, broker, message, *, result=None, exception=None):
            ledger.write((threading.current_thread(), id(message), message.span))

    def work():
        ledger.write((threading.current_thread(), variable.get(), None))

    broker.add_middleware(Trace())
    declare(broker, work).send()
    start_worker(broker)

    before, during, after = ledger.wait_for(3)

    assert before[0] is during[0] is after[0]
    assert before[1] == after[1]
    assert (during[1], after[2]) == ("before", "span")


def test_the_current_message_is_forgotten_after_a_skip(broker, declare, start_worker, ledger):
    broker.add_middleware(CurrentMessage())
    declare(broker, print, "old", max_age=1)
    broker.enqueue(broker.actors["old"].message().copy(message_timestamp=1))

    class Look(Middleware):
        def after_ack(self, broker, message):
            ledger.write(CurrentMessage.get_current_message())

        after_nack = after_ack

    broker.add_middleware(Look())
    start_worker(broker, worker_threads=1)

    assert ledger.wait_for(1) == [None]


def test_a_message_is_marked_failed_without_running(broker, declare, start_worker, ledger):
    class Fail(Middleware):
        def before_process_message(self, broker, message):
            message.fail()

    broker.add_middleware(Fail())
    declare(broker, ledger.write).send("never")

    start_worker(broker)

    broker.join("default", timeout=5000)
    assert ledger.entries == []
    assert len(broker.dead_letters) == 1


# -- memory


@pytest.mark.parametrize("is_async", [False, True], ids=["thread", "loop"])
def test_an_exception_is_freed_with_its_message_without_the_cyclic_collector(
    broker, declare, start_worker, is_async
):
    alive = Failure.alive
    alive.clear()

    def fail():
        raise Failure("failed")

    async def fail_async():
        raise Failure("failed")

    actor = declare(
        broker,
        fail_async if is_async else fail,
        max_retries=2,
        min_backoff=1,
        max_backoff=1,
    )
    start_worker(broker)
    gc.collect()
    gc.disable()
    try:
        actor.send()
        broker.join("default", timeout=5000)
        wait_until(lambda: len(broker.dead_letters) == 1)
        # The dead letters of this broker keep theirs for whoever tests.
        assert alive[-1]() is not None
        assert len(alive) == 3

        wait_until(lambda: all(failure() is None for failure in alive[:-1]))
    finally:
        gc.enable()


def test_arguments_are_freed_with_their_message(declare, start_worker, ledger):
    broker = LegacyBroker()
    proxies = []

    class Watch(Middleware):
        def before_process_message(self, broker, message):
            proxies.append(weakref.ref(message))

    def work():
        ledger.write("ran")
        raise Failure("failed")

    broker.add_middleware(Watch())
    actor = declare(broker, work, throws=Failure)
    start_worker(broker)
    gc.collect()
    gc.disable()
    try:
        actor.send()
        ledger.wait_for(1)
        wait_until(lambda: proxies[0]() is None)
    finally:
        gc.enable()


@pytest.mark.parametrize("error", [SystemExit, KeyboardInterrupt, ValueError])
def test_nothing_a_boot_hook_raises_ends_a_thread(broker, declare, start_worker, ledger, error):
    class Broken(Middleware):
        def after_worker_thread_boot(self, broker, thread):
            raise error

    broker.add_middleware(Broken())
    actor = declare(broker, ledger.write)
    worker = start_worker(broker, worker_threads=2)

    actor.send(1)

    broker.join("default", timeout=15_000)
    assert ledger.entries == [1]
    assert all(thread.is_alive() for thread in worker.workers)


def test_a_tool_that_exits_around_process_message_loses_no_message(
    broker, declare, start_worker, ledger, monkeypatch
):
    original = WorkerThread.process_message

    def exit_first(thread, message):
        if not ledger.entries:
            ledger.write("exit")
            raise SystemExit
        original(thread, message)

    monkeypatch.setattr(WorkerThread, "process_message", exit_first)
    actor = declare(broker, ledger.write, **AT_ONCE)
    worker = start_worker(broker, worker_threads=1)

    actor.send(1)

    wait_until(lambda: ledger.entries == ["exit", 1])
    assert all(thread.is_alive() for thread in worker.workers)
