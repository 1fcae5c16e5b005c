from __future__ import annotations

import pytest

from dramatiq.brokers.stub import StubBroker
from dramatiq.testing.broker_contract import BrokerContract
from tests.worker.brokers import OwnedStubBroker


class TestStubBroker(BrokerContract):
    supports_dead_letter_inspection = True
    supports_raw_payloads = True
    supports_inspection = True

    @pytest.fixture
    def broker(self):
        broker = StubBroker(fail_fast_default=False)
        yield broker
        broker.close()

    def dead_payloads(self, broker, queue_name):
        return [
            message.args[0] if message.actor_name == "undecodable" else message.encode()
            for message in broker.dead_letters_by_queue[queue_name]
        ]

    def store_raw(self, broker, queue_name, payload):
        broker.queues[queue_name].put(payload)


class TestStubBrokerWithOwnedConsumers(TestStubBroker):
    """The other way in which workers serve consumers, on the same store."""

    honours_prefetch = False

    @pytest.fixture
    def broker(self):
        broker = OwnedStubBroker(fail_fast_default=False)
        yield broker
        broker.close()

    def test_far_messages_do_not_hold_up_near_ones(self):
        pytest.skip("brokers with owned consumers keep delays themselves")
