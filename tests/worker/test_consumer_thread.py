from __future__ import annotations

import logging
import threading
import time

import pytest

from dramatiq.broker import MessageProxy
from dramatiq.brokers.stub import StubBroker
from dramatiq.common import current_millis
from dramatiq.errors import BrokerConnectionError, ConnectionClosed
from dramatiq.message import Message
from dramatiq.middleware import Middleware, MiddlewareError
from dramatiq.testing.broker_suite import Recorder
from dramatiq.testing.waiting import wait_until
from dramatiq.worker import ConsumerThread
from dramatiq.worker.work_queue import WorkQueue
from tests.worker.brokers import fail_times


def make_message(*args, actor_name="work", **options):
    return Message(
        queue_name="default", actor_name=actor_name, args=args, kwargs={}, options=options
    )


@pytest.fixture
def thread(stub_broker):
    """A consumer thread that is not started, on a declared queue."""
    stub_broker.declare_queue("default")
    return ConsumerThread(
        broker=stub_broker,
        queue_name="default",
        prefetch=5,
        work_queue=WorkQueue(),
        worker_timeout=100,
    )


# -- one message, without a running thread


def test_it_has_the_attributes_of_2x(thread, stub_broker):
    assert thread.daemon
    assert (thread.broker, thread.queue_name, thread.prefetch) == (stub_broker, "default", 5)
    assert (thread.worker_timeout, thread.consumer) == (100, None)
    assert (thread.running, thread.paused, thread.paused_event.is_set()) == (False, False, False)
    assert thread.delay_queue.empty()
    assert thread.work_queue.empty()


def test_a_message_that_can_run_is_queued_with_its_actors_priority(thread, stub_broker, declare):
    declare(stub_broker, print, priority=7)
    message = MessageProxy(make_message())

    thread.handle_message(message)

    item = thread.work_queue.get_nowait()
    assert (item.priority, item.message) == (7, message)


def test_a_message_with_an_eta_is_parked_before_its_actor_is_looked_up(thread, stub_broker):
    recorder = Recorder()
    stub_broker.add_middleware(recorder)

    thread.handle_message(MessageProxy(make_message(eta=99_999_999_999_999)))

    assert recorder.hooks == ["before_delay_message"]
    assert thread.delay_queue.get_nowait().priority == 99_999_999_999_999


def test_an_eta_of_none_is_removed(thread, stub_broker, declare):
    declare(stub_broker, print)

    thread.handle_message(MessageProxy(make_message(eta=None)))

    assert thread.work_queue.get_nowait().message.options == {}


@pytest.mark.parametrize("eta", ["soon", [1], {"at": 1}])
def test_an_eta_that_is_no_number_means_now(thread, eta, caplog):
    before = current_millis()

    thread.handle_message(MessageProxy(make_message(eta=eta)))

    assert before <= thread.delay_queue.get_nowait().priority <= current_millis()
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert "Invalid eta value for message" in record.message


def test_due_messages_are_enqueued_in_the_order_of_their_etas(thread, stub_broker):
    thread.consumer = stub_broker.consume("default", prefetch=10)
    for eta in (3, 1, 2, 99_999_999_999_999):
        thread.handle_message(MessageProxy(make_message(eta, eta=eta)))

    thread.handle_delayed_messages()

    queue = stub_broker.queues["default"]
    due = [Message.decode(queue.get_nowait()) for _ in range(3)]
    assert [message.args for message in due] == [(1,), (2,), (3,)]
    assert [message.options for message in due] == [{}, {}, {}]
    assert thread.delay_queue.qsize() == 1


def test_a_due_message_stays_parked_when_it_could_not_be_enqueued(thread, stub_broker, monkeypatch):
    thread.consumer = stub_broker.consume("default")
    thread.handle_message(MessageProxy(make_message(eta=1)))
    fail_times(monkeypatch, stub_broker, "enqueue", RuntimeError("full"))

    with pytest.raises(RuntimeError, match="full"):
        thread.handle_delayed_messages()

    assert thread.delay_queue.qsize() == 1


def test_an_unknown_actor_is_explained_and_kept_as_the_exception(broker, start_worker, caplog):
    broker.declare_queue("default")
    broker.enqueue(make_message(actor_name="missing"))

    start_worker(broker)

    broker.join("default", timeout=5000)
    wait_until(lambda: broker.dead_letters)
    assert str(broker.dead_letters[0]._exception) == "missing"
    assert "'missing', which is not declared here" in caplog.text


# -- errors


@pytest.mark.parametrize("error", [ConnectionClosed("cut"), RuntimeError("unexpected")])
def test_a_consumer_is_made_anew_after_an_error(
    broker, declare, start_worker, ledger, restart_delay, monkeypatch, caplog, error
):
    caplog.set_level(logging.INFO)
    actor = declare(broker, ledger.write)
    calls = fail_times(monkeypatch, broker, "consume", error, times=4)

    start_worker(broker)
    actor.send("ran")

    assert ledger.wait_for(1, timeout_s=5) == ["ran"]
    assert len(calls) >= 4
    critical = [each for each in caplog.records if each.levelno == logging.CRITICAL]
    assert all(bool(each.exc_info) == isinstance(error, RuntimeError) for each in critical)
    if isinstance(error, RuntimeError):
        assert "Restarting consumer in 0.05 seconds." in caplog.text
    else:
        assert caplog.text.count("Trying again every 0.05 seconds") == 1
        wait_until(lambda: "The broker is back after" in caplog.text, timeout_s=5)


def test_an_error_while_fetching_loses_nothing_and_repeats_nothing(
    broker, declare, start_worker, ledger, restart_delay, monkeypatch
):
    actor = declare(broker, ledger.write)
    original, calls = broker.consume, []

    def consume(**options):
        consumer = original(**options)
        consumer.recover = lambda: False
        if len(calls) < 6:
            fail_times(monkeypatch, consumer, "fetch", RuntimeError("broken"))
        calls.append(options["queue_name"])
        return consumer

    monkeypatch.setattr(broker, "consume", consume)
    start_worker(broker)

    actor.send_many([(index,) for index in range(20)])

    broker.join("default", timeout=10_000)
    assert sorted(ledger.entries) == list(range(20))
    assert calls.count("default") > 1


def test_an_error_while_fetching_gives_parked_messages_back(
    broker, declare, start_worker, ledger, restart_delay, monkeypatch
):
    actor = declare(broker, ledger.write)
    worker = start_worker(broker)
    consumer_thread = worker.consumers["default.DQ"]
    for delay in (300, 600_000):
        actor.send_with_options(args=(delay,), delay=delay)
    wait_until(lambda: consumer_thread.delay_queue.qsize() == 2)

    first = consumer_thread.consumer
    first.recover = lambda: False
    fail_times(monkeypatch, first, "fetch", BrokerConnectionError("cut"))
    first.wake()

    wait_until(lambda: consumer_thread.consumer is not first)
    assert ledger.wait_for(1, timeout_s=5) == [300]
    wait_until(lambda: consumer_thread.delay_queue.qsize() == 1)
    assert consumer_thread.delay_queue.unfinished_tasks == 1


def test_joining_a_worker_ends_though_parked_messages_were_given_back(
    broker, declare, start_worker, restart_delay, monkeypatch
):
    restart_delay(60)
    actor = declare(broker, print)
    worker = start_worker(broker)
    consumer_thread = worker.consumers["default.DQ"]
    actor.send_with_options(delay=600_000)
    wait_until(lambda: consumer_thread.delay_queue.qsize() == 1)
    joining = threading.Thread(target=worker.join)
    joining.start()

    consumer_thread.consumer.recover = lambda: False
    fail_times(monkeypatch, consumer_thread.consumer, "fetch", RuntimeError("broken"))
    consumer_thread.consumer.wake()

    joining.join(5)
    assert not joining.is_alive()


def test_a_hook_that_forbids_to_park_gives_the_message_back(
    broker, declare, start_worker, ledger, restart_delay
):
    class Veto(Middleware):
        refused = False

        def before_delay_message(self, broker, message):
            if not self.refused:
                Veto.refused = True
                raise MiddlewareError("not now")

    broker.add_middleware(Veto())
    actor = declare(broker, ledger.write)
    start_worker(broker)

    actor.send_with_options(args=("delayed",), delay=10)

    assert ledger.wait_for(1, timeout_s=5) == ["delayed"]
    assert Veto.refused
    broker.join("default", timeout=5000)


def test_stopping_does_not_wait_for_a_restart(broker, start_worker, restart_delay, monkeypatch):
    restart_delay(60)
    broker.declare_queue("default")
    calls = fail_times(monkeypatch, broker, "consume", RuntimeError("down"), times=1000)
    worker = start_worker(broker)
    wait_until(lambda: len(calls) == 2)
    started_at = time.monotonic()

    worker.stop()

    assert time.monotonic() - started_at < 5


def test_pausing_does_not_wait_for_a_restart(
    broker, declare, start_worker, ledger, restart_delay, monkeypatch
):
    restart_delay(1)
    actor = declare(broker, ledger.write)
    calls = fail_times(monkeypatch, broker, "consume", RuntimeError("down"), times=2)
    worker = start_worker(broker)
    wait_until(lambda: len(calls) == 2)
    started_at = time.monotonic()

    worker.pause()

    assert time.monotonic() - started_at < 0.9
    actor.send("after the restart")
    wait_until(lambda: len(calls) >= 4)
    assert ledger.entries == []
    worker.resume()
    assert ledger.wait_for(1) == ["after the restart"]


def test_a_veto_of_settling_leaves_the_message_until_the_consumer_closes(
    broker, declare, start_worker, ledger
):
    class Veto(Middleware):
        def before_ack(self, broker, message):
            raise MiddlewareError("keep it")

    broker.add_middleware(Veto())
    declare(broker, ledger.write).send("ran")
    worker = start_worker(broker)
    ledger.wait_for(1)

    worker.stop()

    assert broker.queues["default"].qsize() == 1
    assert broker.queues["default"].unfinished_tasks == 1


def test_consumers_of_the_stub_broker_are_not_owned():
    broker = StubBroker()
    broker.declare_queue("default")

    assert not broker.consume("default").is_owned


@pytest.mark.parametrize("hook", ["after_consumer_thread_boot", "recover", "fetch"])
def test_nothing_ends_a_consumer_thread(broker, start_worker, restart_delay, declare, hook):
    """A thread that was gone would leave its queue alone, in a process that looks healthy."""
    restart_delay(0.01)
    done = threading.Event()
    exits = iter([SystemExit, SystemExit])

    def exit_or(original):
        def call(*arguments, **options):
            for error in exits:
                raise error
            return original(*arguments, **options)

        return call

    class Broken(Middleware):
        pass

    if hook.startswith("after"):
        setattr(Broken, hook, exit_or(lambda *_: None))
    broker.add_middleware(Broken())
    actor = declare(broker, done.set)
    consume = broker.consume

    def consume_broken(*arguments, **options):
        consumer = consume(*arguments, **options)
        if hook in {"recover", "fetch"}:
            for name in {"fetch", "exchange", hook}:
                setattr(consumer, name, exit_or(getattr(consumer, name)))
        return consumer

    broker.consume = consume_broken
    worker = start_worker(broker)

    actor.send()

    assert done.wait(10)
    assert all(thread.is_alive() for thread in worker.consumers.values())
