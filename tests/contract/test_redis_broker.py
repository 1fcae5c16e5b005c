from __future__ import annotations

import pytest

from dramatiq.brokers.redis import RedisBroker
from dramatiq.testing.broker_contract import BrokerContract


class TestRedisBroker(BrokerContract):
    keeps_delays = True
    moves_delays = True
    checks_queues = False
    honours_prefetch = False
    supports_dead_letter_inspection = True
    supports_raw_payloads = True
    supports_inspection = True
    tells_running = True

    @pytest.fixture
    def broker(self, redis_server):
        broker = RedisBroker(url=redis_server.url)
        broker.client.flushdb()
        yield broker
        broker.close()
        broker.client.close()

    def dead_payloads(self, broker, queue_name):
        return [letter.payload for letter in broker.dead_letters(queue_name)]

    def store_raw(self, broker, queue_name, payload):
        broker.do_enqueue(queue_name, f"raw-{len(payload)}", payload)
