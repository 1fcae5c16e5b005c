from __future__ import annotations

import pytest

from dramatiq.brokers.sqlite import SQLiteBroker
from dramatiq.testing.broker_contract import BrokerContract


class TestSQLiteBroker(BrokerContract):
    keeps_delays = True
    checks_queues = False
    honours_prefetch = False
    tells_deliveries_apart = False
    supports_dead_letter_inspection = True
    supports_raw_payloads = True
    supports_inspection = True
    tells_running = True

    @pytest.fixture
    def broker(self, tmp_path):
        broker = SQLiteBroker(tmp_path / "dramatiq.db")
        yield broker
        broker.close()

    def dead_payloads(self, broker, queue_name):
        return [dead_letter.payload for dead_letter in broker.dead_letters(queue_name)]

    def store_raw(self, broker, queue_name, payload):
        broker.database.write(
            lambda connection: connection.execute(
                "INSERT INTO messages (did, queue, state, prio, position, payload) "
                "VALUES (randomblob(16), ?, 0, 0, 0, ?)",
                (queue_name, payload),
            )
        )
