from __future__ import annotations

from dramatiq.errors import BrokerConnectionError
from dramatiq.testing.broker_suite import Recorder
from dramatiq.testing.waiting import wait_until
from tests.worker.brokers import OwnedStubBroker, fail_times

# -- owned consumers


class FlakyStore(OwnedStubBroker):
    """Its consumers stay good over errors, and fail to settle when told so."""

    def __init__(self):
        super().__init__(fail_fast_default=False)
        self.failures = 0
        self.consumers = []

    def consume(self, queue_name, prefetch=1, timeout=100):
        consumer = super().consume(queue_name, prefetch, timeout)
        exchange = consumer.exchange

        def exchange_or_fail(settlements, max_messages, timeout_ms):
            if settlements and self.failures:
                self.failures -= 1
                raise BrokerConnectionError("the store is locked")
            return exchange(settlements, max_messages, timeout_ms)

        consumer.exchange = exchange_or_fail
        self.consumers.append(consumer)
        return consumer


def test_what_could_not_be_settled_is_settled_after_the_error_and_does_not_run_again(
    declare, start_worker, ledger, restart_delay
):
    broker = FlakyStore()
    actor = declare(broker, ledger.write)
    broker.failures = 3
    start_worker(broker)

    actor.send_many([(index,) for index in range(20)])

    broker.join("default", timeout=10_000)
    assert sorted(ledger.entries) == list(range(20))
    assert broker.failures == 0
    assert len(broker.consumers) == 2


def test_a_consumer_that_recovers_keeps_what_is_parked(
    declare, start_worker, ledger, restart_delay, monkeypatch
):
    broker = FlakyStore()
    actor = declare(broker, ledger.write)
    worker = start_worker(broker)
    consumer_thread = worker.consumers["default.DQ"]
    actor.send_with_options(args=("delayed",), delay=200)
    wait_until(lambda: consumer_thread.delay_queue.qsize() == 1)

    fail_times(monkeypatch, consumer_thread.consumer, "fetch", BrokerConnectionError("cut"))
    consumer_thread.consumer.wake()

    assert ledger.wait_for(1, timeout_s=5) == ["delayed"]
    broker.join("default", timeout=5000)
    assert ledger.entries == ["delayed"]


def test_outcomes_are_settled_with_the_next_fetch(declare, start_worker, ledger):
    """Many outcomes at a time, not one call each."""
    broker = FlakyStore()
    sizes = []
    actor = declare(broker, ledger.write)
    original = broker.consume

    def consume(**options):
        consumer = original(**options)
        settle = consumer.settle

        def count(settlements):
            sizes.append(len(settlements))
            return settle(settlements)

        consumer.settle = count
        return consumer

    broker.consume = consume
    actor.send_many([(index,) for index in range(2000)])
    start_worker(broker, worker_threads=4)

    broker.join("default", timeout=10_000)

    assert sum(sizes) == 2000
    assert len(sizes) < 1500


def test_a_lost_lease_is_reported_and_its_after_hooks_do_not_run(
    declare, start_worker, ledger, caplog
):
    broker = OwnedStubBroker(fail_fast_default=False)
    recorder = Recorder()
    broker.add_middleware(recorder)
    worker = None

    def lose_lease():
        consumer = worker.consumers["default"].consumer
        (data,) = consumer._outstanding.values()
        consumer._outstanding.clear()
        broker.queues["default"].task_done()
        ledger.write(data)

    actor = declare(broker, lose_lease)
    worker = start_worker(broker)
    actor.send()

    ledger.wait_for(1)
    wait_until(lambda: "no longer ours" in caplog.text)
    assert recorder.hooks[-1] == "before_ack"
