"""Real workers on the stub broker; nothing of a worker may be left when its test ends."""

from __future__ import annotations

import sys
import threading
import traceback

import pytest

from dramatiq.actor import Actor
from dramatiq.asyncio import get_event_loop_thread
from dramatiq.brokers.stub import StubBroker
from dramatiq.middleware import AsyncIO, TimeLimit
from dramatiq.testing.broker_suite import Ledger
from dramatiq.testing.waiting import wait_until
from dramatiq.worker import Worker
from tests.worker.brokers import OwnedStubBroker

#: Threads of the library that outlive workers by design.
DAEMONS = {"dramatiq-time-limits"}


@pytest.fixture(autouse=True)
def no_thread_is_left():
    before = set(threading.enumerate())
    yield

    def left():
        return {t for t in threading.enumerate() if t.name not in DAEMONS} - before

    try:
        wait_until(lambda: not left())
    except AssertionError:
        # Which one, and where it stands.
        frames = sys._current_frames()
        stacks = [
            f"{thread}:\n{''.join(traceback.format_stack(frames[thread.ident]))}"
            if thread.ident in frames
            else f"{thread}, which has ended"
            for thread in left()
        ]
        raise AssertionError("threads are left:\n" + "\n".join(stacks)) from None
    assert get_event_loop_thread() is None


@pytest.fixture(params=[StubBroker, OwnedStubBroker], ids=["direct", "owned"])
def broker(request):
    """A broker for each of the two ways in which consumers are served."""
    return request.param(fail_fast_default=False)


@pytest.fixture
def stub_broker():
    return StubBroker(fail_fast_default=False)


@pytest.fixture
def ledger():
    return Ledger()


@pytest.fixture
def start_worker():
    """Start workers that are stopped at the end of the test."""
    workers = []

    def start_worker(broker, *, queue_prefetch=None, **options):
        worker = Worker(broker, **{"worker_timeout": 100, "worker_threads": 2, **options})
        if queue_prefetch is not None:
            worker.queue_prefetch = queue_prefetch
        workers.append(worker)
        worker.start()
        return worker

    yield start_worker
    for worker in workers:
        worker.stop(timeout=5000)


@pytest.fixture
def declare():
    """Make an actor of a function without the decorator's checks of options."""

    def declare(broker, fn, name="work", *, queue_name="default", priority=0, **options):
        return Actor(
            fn,
            broker=broker,
            actor_name=name,
            queue_name=queue_name,
            priority=priority,
            options=options,
        )

    return declare


@pytest.fixture
def restart_delay(monkeypatch):
    """Set the delay before consumers are started again, in seconds."""

    def restart_delay(seconds):
        monkeypatch.setattr("dramatiq.worker.CONSUMER_RESTART_DELAY_SECS", seconds)

    restart_delay(0.05)
    return restart_delay


@pytest.fixture
def event_loop():
    """The event loop thread of the AsyncIO middleware."""
    middleware = AsyncIO()
    middleware.before_worker_boot(None, None)
    yield get_event_loop_thread()
    middleware.after_worker_shutdown(None, None)


@pytest.fixture
def enforce_time_limits():
    """Look at time limits every few milliseconds."""

    def enforce_time_limits(broker):
        broker.middleware = [
            TimeLimit(interval=10) if isinstance(each, TimeLimit) else each
            for each in broker.middleware
        ]
        broker.emit_after("process_boot")

    return enforce_time_limits
