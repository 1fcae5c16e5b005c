"""Connections to PostgreSQL that break while something is on its way."""

from __future__ import annotations

from collections import Counter

import pytest

import dramatiq
from dramatiq.brokers.postgres import PostgresBroker
from dramatiq.errors import BrokerConnectionError
from dramatiq.testing.waiting import wait_until
from tests.proxy import REPLY, Proxy


@pytest.fixture
def proxy(postgres_server, postgres):
    with Proxy(postgres_server.port) as proxy:
        yield proxy


@pytest.fixture
def broker(proxy):
    """A broker whose connections break."""
    broker = PostgresBroker(f"postgresql://postgres@127.0.0.1:{proxy.port}/postgres")
    yield broker
    broker.close()


@pytest.fixture
def sender(postgres_server):
    """A broker whose connections do not."""
    broker = PostgresBroker(postgres_server.url)
    yield broker
    broker.close()


@pytest.fixture
def ran(broker, monkeypatch):
    monkeypatch.setattr("dramatiq.worker.consumer.settings.CONSUMER_RESTART_DELAY_SECS", 0.02)
    monkeypatch.setattr("dramatiq.brokers._leasing.CONFIRM_S", 0.05)
    ran = []
    dramatiq.actor(ran.append, actor_name="work", broker=broker)
    worker = dramatiq.Worker(broker, worker_threads=2, worker_timeout=50)
    worker.start()
    yield ran
    worker.stop()


def send(sender, numbers):
    sender.declare_queue("default")
    messages = [dramatiq.Message("default", "work", (number,), {}, {}) for number in numbers]
    sender.enqueue_many(messages)


@pytest.mark.parametrize("fault", ["drop_reply", "drop_request"])
def test_whatever_is_cut_each_message_runs_once(proxy, sender, ran, fault):
    for round_number in range(1, 16):
        struck = getattr(proxy, fault)(number=round_number)
        numbers = range(round_number * 10, round_number * 10 + 10)

        send(sender, numbers)

        wait_until(lambda numbers=numbers: set(numbers) <= set(ran), timeout_s=20)
        struck.wait(20)
    sender.join("default", timeout=20_000)
    assert {number: count for number, count in Counter(ran).items() if count > 1} == {}


def test_whatever_is_torn_each_message_runs_once(proxy, sender, ran):
    for round_number, count in enumerate([1, 5, 6, 20, 64, 100, 150, 400, 1000, 4096], 1):
        struck = proxy.cut_after(count, REPLY)
        numbers = range(round_number * 10, round_number * 10 + 10)

        send(sender, numbers)

        wait_until(lambda numbers=numbers: set(numbers) <= set(ran), timeout_s=20)
        struck.wait(20)
    sender.join("default", timeout=20_000)
    assert {number: count for number, count in Counter(ran).items() if count > 1} == {}


def test_a_sender_is_told_that_a_reply_was_lost_and_can_send_at_once(proxy, broker, sender):
    broker.declare_queue("default")
    message = dramatiq.Message("default", "work", (), {}, {})
    broker.enqueue(message)
    proxy.drop_reply(requesting=b"INSERT", number=1)

    with pytest.raises(BrokerConnectionError):
        broker.enqueue(message)

    broker.enqueue(message)
    assert sender.queue_counts("default").ready == 3
