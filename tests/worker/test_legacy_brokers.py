from __future__ import annotations

import threading
import time

import pytest

import dramatiq.worker
from dramatiq.errors import BrokerConnectionError, ConnectionClosed
from dramatiq.middleware import Middleware
from dramatiq.testing.waiting import wait_until
from tests.worker.brokers import LegacyBroker

AT_ONCE = {"min_backoff": 1, "max_backoff": 1}


@pytest.fixture
def legacy_broker():
    return LegacyBroker()


def test_a_broker_that_knows_2x_only_works(legacy_broker, declare, start_worker, ledger):
    actor = declare(legacy_broker, ledger.write)
    worker = start_worker(legacy_broker, worker_threads=4)

    messages = actor.send_many([(index,) for index in range(50)])

    assert sorted(ledger.wait_for(50)) == list(range(50))
    wait_until(lambda: len(legacy_broker.acked) == 50)
    assert sorted(legacy_broker.acked) == sorted(message.message_id for message in messages)
    # It has no delay queues, and none is asked for.
    assert set(worker.consumers) == {"default"}


def test_its_retries_and_dead_letters_go_through_enqueue_and_nack(
    legacy_broker, declare, start_worker, ledger
):
    def fail():
        ledger.write("attempt")
        raise RuntimeError("failed")

    actor = declare(legacy_broker, fail, max_retries=2, **AT_ONCE)
    start_worker(legacy_broker)

    message = actor.send()

    wait_until(lambda: legacy_broker.nacked)
    assert len(ledger.entries) == 3
    assert legacy_broker.acked == [message.message_id] * 2
    assert legacy_broker.nacked == [message.message_id]


def test_acks_are_not_held_up_by_a_consumer_that_polls_for_long(declare, start_worker, ledger):
    broker = LegacyBroker(poll_s=2)
    actor = declare(broker, ledger.write)
    worker = start_worker(broker)
    wait_until(lambda: broker.consumers and broker.consumers[0].is_polling.is_set())
    started_at = time.monotonic()

    actor.send("ran")

    wait_until(lambda: broker.acked)
    assert time.monotonic() - started_at < 1
    assert broker.ack_threads <= set(worker.workers)


def test_an_ack_is_repeated_with_its_hooks_until_the_connection_is_back(
    legacy_broker, declare, start_worker, ledger, monkeypatch, caplog
):
    monkeypatch.setattr(dramatiq.worker, "POST_PROCESS_MESSAGE_RETRY_DELAY_SECS", 0.05)

    class Count(Middleware):
        def before_ack(self, broker, message):
            ledger.write("before_ack")

        def after_ack(self, broker, message):
            ledger.write("after_ack")

    legacy_broker.add_middleware(Count())
    actor = declare(legacy_broker, lambda: None)
    for error in (BrokerConnectionError("gone"), ConnectionClosed("still gone")):
        legacy_broker.errors.put(error)
    start_worker(legacy_broker)

    actor.send()

    assert ledger.wait_for(4) == ["before_ack"] * 3 + ["after_ack"]
    assert len(legacy_broker.acked) == 1
    assert "Trying again in 0.05 seconds" in caplog.text


def test_any_other_error_of_an_ack_is_given_up(
    legacy_broker, declare, start_worker, ledger, caplog
):
    actor = declare(legacy_broker, ledger.write)
    legacy_broker.errors.put(RuntimeError("no idea"))
    worker = start_worker(legacy_broker, worker_threads=1)

    actor.send("first")
    actor.send("second")

    ledger.wait_for(2)
    wait_until(lambda: len(legacy_broker.acked) == 1)
    assert "Unexpected failure while settling" in caplog.text
    assert worker.workers[0].is_alive()


def test_a_stop_ends_waiting_for_the_connection(
    legacy_broker, declare, start_worker, monkeypatch, caplog
):
    monkeypatch.setattr(dramatiq.worker, "POST_PROCESS_MESSAGE_RETRY_DELAY_SECS", 60)
    actor = declare(legacy_broker, lambda: None)
    legacy_broker.errors.put(BrokerConnectionError("gone"))
    worker = start_worker(legacy_broker)
    actor.send()
    wait_until(lambda: "Trying again" in caplog.text)
    started_at = time.monotonic()

    worker.stop(timeout=200)

    wait_until(lambda: not any(thread.is_alive() for thread in worker.workers))
    assert time.monotonic() - started_at < 10


def test_unstarted_messages_are_given_back_after_its_consumer_stopped(
    legacy_broker, declare, start_worker
):
    running, released = threading.Event(), threading.Event()

    def block():
        running.set()
        released.wait(10)

    actor = declare(legacy_broker, block)
    worker = start_worker(legacy_broker, worker_threads=1)
    sent = [actor.send().message_id for _ in range(4)]
    assert running.wait(5)
    wait_until(lambda: worker.work_queue.qsize() == 3)
    stopping = threading.Thread(target=worker.stop)
    stopping.start()

    released.set()

    stopping.join(10)
    assert legacy_broker.acked == sent[:1]
    assert legacy_broker.requeued == sent[1:]
    assert all(consumer.is_closed for consumer in legacy_broker.consumers)


def test_a_message_that_comes_while_stopping_is_given_back(declare, start_worker, ledger):
    broker = LegacyBroker(poll_s=1)
    actor = declare(broker, ledger.write)
    worker = start_worker(broker)
    wait_until(lambda: broker.consumers and broker.consumers[0].is_polling.is_set())
    stopping = threading.Thread(target=worker.stop)
    stopping.start()
    wait_until(lambda: not worker.consumers["default"]._fetching)

    message = actor.send("too late")

    stopping.join(10)
    assert ledger.entries == []
    assert message.message_id in broker.requeued or broker.queues["default"].qsize() == 1


def test_a_consumer_whose_requeue_fails_does_not_keep_others_from_closing(
    legacy_broker, declare, start_worker, monkeypatch
):
    running, released = threading.Event(), threading.Event()

    def block():
        running.set()
        released.wait(10)

    actor = declare(legacy_broker, block)
    worker = start_worker(legacy_broker, worker_threads=1)
    for _ in range(2):
        actor.send()
    assert running.wait(5)
    wait_until(lambda: worker.work_queue.qsize() == 1)

    def requeue(messages):
        raise RuntimeError("cannot")

    monkeypatch.setattr(legacy_broker.consumers[0], "requeue", requeue)
    released.set()

    worker.stop(timeout=5000)

    assert legacy_broker.consumers[0].is_closed


def test_a_failed_consumer_is_closed_and_replaced(
    legacy_broker, declare, start_worker, ledger, restart_delay, monkeypatch
):
    actor = declare(legacy_broker, ledger.write)
    worker = start_worker(legacy_broker)
    wait_until(lambda: legacy_broker.consumers)
    first = legacy_broker.consumers[0]
    thread = worker.consumers["default"]

    def raise_error(self):
        raise RuntimeError("broken")

    monkeypatch.setattr(type(first), "__next__", raise_error)
    wait_until(lambda: first.is_closed)
    monkeypatch.undo()
    monkeypatch.setattr(dramatiq.worker, "CONSUMER_RESTART_DELAY_SECS", 0.05)
    actor.send("ran")

    assert ledger.wait_for(1, timeout_s=10) == ["ran"]
    assert thread.is_alive()
    assert thread.consumer is not first


def test_messages_are_run_by_priority_though_they_come_one_by_one(
    legacy_broker, declare, start_worker, ledger
):
    running, released = threading.Event(), threading.Event()

    def block():
        running.set()
        released.wait(10)

    blocker = declare(legacy_broker, block, "block")
    low = declare(legacy_broker, ledger.write, "low", priority=9)
    high = declare(legacy_broker, ledger.write, "high", priority=1)
    blocker.send()
    worker = start_worker(legacy_broker, worker_threads=1)
    assert running.wait(5)
    for _ in range(3):
        low.send("low")
        high.send("high")
    wait_until(lambda: worker.work_queue.qsize() == 6)

    released.set()

    assert ledger.wait_for(6) == ["high"] * 3 + ["low"] * 3


def test_async_actors_run_as_many_at_a_time_as_there_are_slots(
    legacy_broker, declare, start_worker, ledger
):
    import asyncio

    async def work(index):
        ledger.write(index)
        await asyncio.sleep(0.3)

    actor = declare(legacy_broker, work)
    start_worker(legacy_broker, worker_threads=1, async_slots=30)
    started_at = time.monotonic()

    actor.send_many([(index,) for index in range(30)])

    ledger.wait_for(30)
    wait_until(lambda: len(legacy_broker.acked) == 30)
    assert time.monotonic() - started_at < 5


@pytest.mark.parametrize("error", [ConnectionClosed("gone"), RuntimeError("no idea")])
def test_a_consumer_that_cannot_be_closed_does_not_keep_its_worker_from_stopping(
    legacy_broker, declare, start_worker, monkeypatch, error
):
    declare(legacy_broker, print)
    worker = start_worker(legacy_broker)
    wait_until(lambda: legacy_broker.consumers)

    def close():
        raise error

    monkeypatch.setattr(legacy_broker.consumers[0], "close", close)

    worker.stop(timeout=5000)

    assert not worker.consumers["default"].is_alive()
