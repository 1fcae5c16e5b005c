from __future__ import annotations

import pytest

from dramatiq.brokers.rabbitmq import RabbitmqBroker
from dramatiq.testing.broker_contract import BrokerContract
from tests.rabbitmq import QuickBroker, delete_queues, publish_raw, read_all


class TestRabbitmqBroker(BrokerContract):
    keeps_delays = True
    moves_delays = True
    checks_queues = False
    # They go back to their places, but the server has pushed those behind them already.
    requeues_to_front = False
    supports_dead_letter_inspection = True
    supports_raw_payloads = True

    @pytest.fixture
    def broker(self, rabbitmq_server):
        broker = QuickBroker(url=rabbitmq_server.url)
        yield broker
        delete_queues(broker)
        broker.close()

    def dead_payloads(self, broker, queue_name):
        return [body for body, _ in read_all(broker, f"{queue_name}.XQ")]

    def store_raw(self, broker, queue_name, payload):
        broker.declare_queue(queue_name, ensure=True)
        publish_raw(broker, queue_name, payload)


def test_the_broker_is_the_one_of_2x_by_name():
    assert RabbitmqBroker.__module__.startswith("dramatiq.brokers.rabbitmq")
