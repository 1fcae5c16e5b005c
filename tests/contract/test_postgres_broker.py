from __future__ import annotations

import os

import pytest

from dramatiq.brokers.postgres import PostgresBroker
from dramatiq.testing.broker_contract import BrokerContract


class TestPostgresBroker(BrokerContract):
    keeps_delays = True
    checks_queues = False
    honours_prefetch = False
    tells_deliveries_apart = False
    supports_dead_letter_inspection = True
    supports_raw_payloads = True
    supports_inspection = True
    tells_running = True

    @pytest.fixture
    def broker(self, postgres_server, postgres):
        broker = PostgresBroker(postgres_server.url)
        yield broker
        broker.close()

    def dead_payloads(self, broker, queue_name):
        return [dead_letter.payload for dead_letter in broker.dead_letters(queue_name)]

    def store_raw(self, broker, queue_name, payload):
        broker.database.run(
            lambda cursor: cursor.execute(
                "INSERT INTO dramatiq.messages (did, queue, state, prio, position, payload) "
                "VALUES (%s, %s, 0, 0, 0, %s)",
                (os.urandom(16), queue_name, payload),
            )
        )
