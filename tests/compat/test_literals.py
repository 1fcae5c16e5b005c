"""Texts that others match on: in logs, warnings and errors."""

from __future__ import annotations

import logging
import threading
import time
from unittest import mock

import pytest

import dramatiq
from dramatiq import GenericActor, Middleware, RateLimitExceeded, Worker
from dramatiq.brokers.stub import StubBroker
from dramatiq.middleware import SkipMessage
from dramatiq.results import ResultFailure, Results
from dramatiq.results.backends import StubBackend

#: Milliseconds after which a join gives up.
DEADLINE = 10_000


@pytest.fixture
def results(stub_broker):
    stub_broker.add_middleware(Results(backend=StubBackend(), store_results=True))
    yield stub_broker
    StubBackend.results.clear()


def run(broker, running, actor, *args, **options):
    """Send one message, have it run to its end, and return it."""
    with running(broker) as worker:
        message = actor.send_with_options(args=args, **options)
        broker.join(actor.queue_name, timeout=DEADLINE, fail_fast=False)
        worker.join()
    return message


def logged(caplog, name):
    return [
        (record.levelno, record.msg, record.getMessage())
        for record in caplog.records
        if record.name == name
    ]


# -- errors


def test_a_duplicate_actor(stub_broker):
    dramatiq.actor(int, actor_name="foo")

    with pytest.raises(ValueError, match="registered") as caught:
        dramatiq.actor(int, actor_name="foo")

    assert str(caught.value) == "An actor named 'foo' is already registered."


def test_a_class_without_perform(stub_broker):
    class Foo(GenericActor):
        pass

    with pytest.raises(NotImplementedError) as caught:
        Foo()

    assert str(caught.value) == "Foo does not implement perform()"


def test_an_unknown_actor(stub_broker):
    with pytest.raises(dramatiq.ActorNotFound) as caught:
        stub_broker.get_actor("foo")

    assert str(caught.value) == "foo"


def test_an_unknown_queue(stub_broker):
    with pytest.raises(dramatiq.QueueNotFound) as caught:
        stub_broker.consume("foo")

    assert str(caught.value) == "foo"


def test_a_failed_actor(results, running):
    @dramatiq.actor(max_retries=0)
    def work():
        raise RuntimeError("failed")

    message = run(results, running, work)

    with pytest.raises(ResultFailure) as caught:
        message.get_result(block=True, timeout=DEADLINE)
    assert str(caught.value) == "actor raised RuntimeError: failed"
    assert (caught.value.orig_exc_type, caught.value.orig_exc_msg) == ("RuntimeError", "failed")


def test_a_message_that_is_too_old(results, running):
    @dramatiq.actor(max_age=1)
    def work():
        pass

    message = run(results, running, work, delay=20)

    with pytest.raises(ResultFailure) as caught:
        message.get_result(block=True, timeout=DEADLINE)
    assert str(caught.value) == "actor raised SkipMessage: Message age limit exceeded"


def test_an_event_loop_that_does_not_start():
    from dramatiq.asyncio import EventLoopThread

    class Stuck(EventLoopThread):
        def run(self):
            self.loop.close()

    with pytest.raises(RuntimeError, match="Event loop failed to start"):
        Stuck(logging.getLogger("tests")).start(timeout=0.01)


def test_a_rate_limit():
    from dramatiq.rate_limits import ConcurrentRateLimiter
    from dramatiq.rate_limits.backends import StubBackend as LimitsBackend

    limiter = ConcurrentRateLimiter(LimitsBackend(), "KEY", limit=1)

    with (
        limiter.acquire(),
        pytest.raises(RateLimitExceeded) as caught,
        limiter.acquire(),
    ):
        pass

    assert str(caught.value) == "rate limit exceeded for key 'KEY'"


# -- logs of the worker, matched before arguments are filled in


def test_a_rate_limit_in_an_actor_is_logged_quietly(stub_broker, running):
    @dramatiq.actor(max_retries=0)
    def work():
        raise RateLimitExceeded("exceeded")

    with (
        mock.patch("logging.Logger.debug") as log,
        mock.patch("logging.Logger.error") as error,
    ):
        run(stub_broker, running, work)

    assert "Rate limit exceeded in message %s: %s." in [call.args[0] for call in log.mock_calls]
    assert error.mock_calls == []


def test_an_expected_exception_is_logged_as_information(stub_broker, running):
    @dramatiq.actor(throws=KeyError)
    def work():
        raise KeyError("x")

    with (
        mock.patch("logging.Logger.info") as info,
        mock.patch("logging.Logger.error") as error,
    ):
        run(stub_broker, running, work)

    templates = [call.args[0] for call in info.mock_calls]
    assert "Failed to process message %s with expected exception %s." in templates
    assert "Aborting message %r." in templates
    assert error.mock_calls == []


def test_a_retry_is_no_error(stub_broker, running, caplog):
    @dramatiq.actor(max_retries=0)
    def work():
        raise dramatiq.Retry("again")

    run(stub_broker, running, work)

    assert [each for each in caplog.records if each.levelno >= logging.ERROR] == []


def test_any_other_exception_is_logged_with_its_traceback(stub_broker, running, caplog):
    @dramatiq.actor(max_retries=0)
    def work():
        raise ValueError("wrong")

    run(stub_broker, running, work)

    [record] = [each for each in caplog.records if each.levelno == logging.ERROR]
    assert record.name == "dramatiq.worker.WorkerThread"
    assert record.exc_info[0] is ValueError


def test_a_value_without_results_is_warned_of(stub_broker, running, caplog):
    @dramatiq.actor
    def work():
        return 1

    run(stub_broker, running, work)

    assert "Consider adding the Results middleware" in caplog.text


def test_no_value_without_results_is_not_warned_of(stub_broker, running, caplog):
    @dramatiq.actor
    def work():
        return None

    run(stub_broker, running, work)

    assert "Results" not in caplog.text


def test_a_value_that_is_not_stored_is_warned_of(stub_broker, running, caplog):
    stub_broker.add_middleware(Results(backend=StubBackend()))

    @dramatiq.actor
    def work():
        return 1

    run(stub_broker, running, work)

    assert "the value has been discarded" in caplog.text
    assert "Consider adding" not in caplog.text


def test_a_bad_eta_is_warned_of_and_runs_now(stub_broker, running, caplog):
    ran = []

    @dramatiq.actor
    def work():
        ran.append(1)

    run(stub_broker, running, work, eta="tomorrow")

    [record] = [each for each in caplog.records if "Invalid eta value for message" in each.message]
    assert record.levelno == logging.WARNING
    assert record.name.startswith("dramatiq.worker.ConsumerThread(default")
    assert ran == [1]


def test_middleware_of_the_same_type_twice(caplog):
    StubBroker(middleware=[Middleware(), Middleware()])

    [record] = caplog.records
    assert record.levelno == logging.WARNING
    assert "You're adding a middleware of the same type twice" in record.getMessage()


# -- interrupts


def worker_thread_of(worker: Worker) -> int:
    [thread] = worker.workers
    assert thread.ident is not None
    return thread.ident


def test_a_shutdown_notification(stub_broker, running, caplog):
    caplog.set_level(logging.DEBUG, logger="dramatiq.middleware")
    started = threading.Event()
    caught = []

    @dramatiq.actor(notify_shutdown=True, max_retries=0)
    def work():
        started.set()
        deadline = time.monotonic() + 10
        try:
            while time.monotonic() < deadline:
                time.sleep(0.001)
        except dramatiq.middleware.Shutdown as error:
            caught.append(error)

    with running(stub_broker, worker_threads=1) as worker:
        thread_id = worker_thread_of(worker)
        work.send()
        assert started.wait(5)

    assert len(caught) == 1
    name = "dramatiq.middleware.shutdown.ShutdownNotifications"
    assert [(level, text) for level, _, text in logged(caplog, name)] == [
        (logging.DEBUG, "Sending shutdown notification to worker threads..."),
        (
            logging.INFO,
            f"Worker shutdown notification. Raising exception in worker thread {thread_id}.",
        ),
    ]


def test_a_time_limit(stub_broker, running, caplog):
    stub_broker.middleware = [dramatiq.middleware.TimeLimit(time_limit=10, interval=5)]
    stub_broker.emit_after("process_boot")
    caught = []

    @dramatiq.actor
    def work():
        deadline = time.monotonic() + 10
        try:
            while time.monotonic() < deadline:
                time.sleep(0.001)
        except dramatiq.middleware.TimeLimitExceeded as error:
            caught.append(error)

    with running(stub_broker, worker_threads=1) as worker:
        thread_id = worker_thread_of(worker)
        work.send()
        stub_broker.join("default", timeout=DEADLINE)

    assert len(caught) == 1
    assert [
        (level, text)
        for level, _, text in logged(caplog, "dramatiq.middleware.time_limit.TimeLimit")
    ] == [
        (
            logging.WARNING,
            f"Time limit exceeded. Raising exception in worker thread {thread_id}.",
        )
    ]


# -- skipping


def test_a_skipped_message_is_warned_of(stub_broker, running, caplog):
    @dramatiq.actor
    def work():
        raise SkipMessage("not today")

    message = run(stub_broker, running, work)

    [record] = [each for each in caplog.records if each.levelno == logging.WARNING]
    assert record.name == "dramatiq.worker.WorkerThread"
    assert str(message) in record.getMessage()
    assert stub_broker.dead_letters == []
