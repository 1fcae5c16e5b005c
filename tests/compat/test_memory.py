"""Nothing of a message that has ended stays in memory, with the cyclic collector off."""

from __future__ import annotations

import gc
import logging
import threading
import time
import weakref

import pytest

import dramatiq
from dramatiq import MessageProxy
from dramatiq.brokers.sqlite import SQLiteBroker
from dramatiq.brokers.stub import StubBroker
from dramatiq.middleware import AsyncIO, TimeLimit, TimeLimitExceeded

#: Milliseconds after which a join gives up.
DEADLINE = 10_000
#: Seconds after which waiting for memory to be released gives up.
RELEASE_S = 5


class Witness:
    """Something that the frame of an actor holds."""


@pytest.fixture(autouse=True)
def without_collector():
    # Captured log records would keep the exceptions they are about.
    logging.disable(logging.CRITICAL)
    gc.collect()
    gc.disable()
    yield
    gc.enable()
    logging.disable(logging.NOTSET)


@pytest.fixture(params=["stub", "sqlite"])
def broker(request, monkeypatch, tmp_path):
    """The process-wide broker; also one in memory that does not keep exceptions for tests."""
    if request.param == "stub":
        broker = StubBroker()
        monkeypatch.setattr(
            "dramatiq.brokers.stub._StubMessageProxy.clear_exception",
            MessageProxy.clear_exception,
        )
    else:
        broker = SQLiteBroker(tmp_path / "messages.db")
    monkeypatch.setattr("dramatiq.broker.global_broker", broker)
    yield broker
    broker.close()


@pytest.fixture
def witnesses():
    return []


def make_witness(witnesses):
    witness = Witness()
    witnesses.append(weakref.ref(witness))
    return witness


def released(witnesses):
    """Wait until all are gone: the worker lets go a little after the broker's join."""
    deadline = time.monotonic() + RELEASE_S
    while any(each() for each in witnesses) and time.monotonic() < deadline:
        time.sleep(0.001)
    return not any(each() for each in witnesses)


def wait(broker):
    """Wait until nothing is left to run, whatever became of it."""
    is_stub = isinstance(broker, StubBroker)
    broker.join("default", timeout=DEADLINE, **({"fail_fast": False} if is_stub else {}))


def declare(is_async, body, **options):
    """Declare an actor, plain or async, that does what ``body`` does."""
    if is_async:

        async def work():
            body()
    else:

        def work():
            body()

    return dramatiq.actor(work, **options)


#: How the actor runs: (whether it is async, options of the worker, whether AsyncIO is added).
MODES = {
    "plain": (False, {}, False),
    "async on slots": (True, {}, False),
    "async on threads": (True, {"async_slots": 0}, True),
}
each_mode = pytest.mark.parametrize(
    ("is_async", "worker_options", "adds_asyncio"), MODES.values(), ids=MODES.keys()
)


@each_mode
@pytest.mark.parametrize("max_retries", [None, 0, 2], ids=["no retries", "dead", "retried"])
def test_an_exception_is_released(
    broker, running, witnesses, is_async, worker_options, adds_asyncio, max_retries
):
    options = {"max_retries": max_retries, "max_backoff": 0}
    if max_retries is None:
        broker.middleware = []
        options = {}
    if adds_asyncio:
        broker.add_middleware(AsyncIO())

    def body():
        witness = make_witness(witnesses)
        raise ValueError(witness)

    actor = declare(is_async, body, **options)

    with running(broker, **worker_options):
        actor.send()
        wait(broker)

        assert len(witnesses) == (max_retries or 0) + 1
        assert released(witnesses)


@each_mode
def test_a_chained_exception_is_released(
    broker, running, witnesses, is_async, worker_options, adds_asyncio
):
    if adds_asyncio:
        broker.add_middleware(AsyncIO())

    def body():
        witness = make_witness(witnesses)
        try:
            raise KeyError(witness)
        except KeyError as error:
            raise ValueError from error

    actor = declare(is_async, body, max_retries=0)

    with running(broker, **worker_options):
        actor.send()
        wait(broker)

        assert released(witnesses)


@each_mode
def test_a_result_is_released(broker, running, witnesses, is_async, worker_options, adds_asyncio):
    if adds_asyncio:
        broker.add_middleware(AsyncIO())

    if is_async:

        async def work():
            return make_witness(witnesses)
    else:

        def work():
            return make_witness(witnesses)

    actor = dramatiq.actor(work)

    with running(broker, **worker_options):
        actor.send()
        wait(broker)

        assert released(witnesses)


@each_mode
def test_a_skip_is_released(broker, running, witnesses, is_async, worker_options, adds_asyncio):
    if adds_asyncio:
        broker.add_middleware(AsyncIO())

    def body():
        witness = make_witness(witnesses)
        raise dramatiq.middleware.SkipMessage(witness)

    actor = declare(is_async, body)

    with running(broker, **worker_options):
        actor.send()
        wait(broker)

        assert released(witnesses)


@each_mode
def test_an_interrupt_is_released(
    broker, running, witnesses, is_async, worker_options, adds_asyncio
):
    broker.middleware = [TimeLimit(time_limit=20, interval=5)]
    if adds_asyncio:
        broker.add_middleware(AsyncIO())
    broker.emit_after("process_boot")
    caught = threading.Event()

    if is_async:
        import asyncio

        async def work():
            witness = make_witness(witnesses)
            try:
                await asyncio.sleep(RELEASE_S)
            finally:
                caught.set()
                del witness
    else:

        def work():
            witness = make_witness(witnesses)
            deadline = time.monotonic() + RELEASE_S
            try:
                while time.monotonic() < deadline:
                    time.sleep(0.001)
            except TimeLimitExceeded:
                caught.set()
                raise
            del witness

    actor = dramatiq.actor(work)

    with running(broker, **worker_options):
        actor.send()
        wait(broker)

        assert caught.wait(RELEASE_S)
        assert released(witnesses)


def test_an_exception_in_a_hook_is_released(broker, running, witnesses):
    class Failing(dramatiq.Middleware):
        def before_process_message(self, broker, message):
            witness = make_witness(witnesses)
            raise ValueError(witness)

        def after_process_message(self, broker, message, *, result=None, exception=None):
            witness = make_witness(witnesses)
            raise ValueError(witness)

    broker.add_middleware(Failing())
    actor = declare(False, lambda: None)

    with running(broker):
        actor.send()
        wait(broker)

        assert len(witnesses) == 2
        assert released(witnesses)


def test_arguments_are_released(broker, running, witnesses):
    """What is decoded from a message lives as long as the message runs."""

    class Decoder(dramatiq.JSONEncoder):
        def decode(self, data):
            decoded = super().decode(data)
            decoded["kwargs"]["witness"] = make_witness(witnesses)
            return decoded

    encoder = dramatiq.get_encoder()
    dramatiq.set_encoder(Decoder())
    actor = dramatiq.actor(lambda witness: None, actor_name="work")
    try:
        with running(broker):
            actor.send()
            wait(broker)

            assert len(witnesses) == 1
            assert released(witnesses)
    finally:
        dramatiq.set_encoder(encoder)
