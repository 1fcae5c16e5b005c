from __future__ import annotations

import subprocess
import sys

import pytest

from dramatiq.brokers.stub import StubBroker
from dramatiq.delivery import FollowUps
from dramatiq.errors import ConnectionFailed
from dramatiq.results import ResultMissing
from dramatiq.results.backends import SQLiteBackend, StubBackend
from dramatiq.sqlite import open_database
from dramatiq.testing.result_contract import LONG, ResultBackendContract, make_message


class TestStubBackend(ResultBackendContract):
    smallest_ttl = 1000

    @pytest.fixture
    def backend(self):
        yield StubBackend()
        StubBackend.results.clear()

    def test_instances_share_their_results(self, backend):
        message = make_message()

        StubBackend().store_result(message, 42, LONG)

        assert backend.get_result(message) == 42

    def test_a_time_to_live_below_a_second_is_none(self, backend):
        message = make_message()

        backend.store_result(message, 42, 999)

        with pytest.raises(ResultMissing):
            backend.get_result(message)

    def test_expired_results_do_not_pile_up(self, backend):
        for _ in range(1000):
            backend.store_result(make_message(), 42, 0)

        assert len(backend.results) <= 200


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "results.db"
    yield path
    open_database(path).close()


class TestSQLiteBackend(ResultBackendContract):
    @pytest.fixture
    def backend(self, path):
        return SQLiteBackend(path=path)

    def test_expired_results_do_not_pile_up(self, backend):
        for _ in range(300):
            backend.store_result(make_message(), 42, 0)

        def count(connection):
            return connection.execute("SELECT count(*) FROM results").fetchone()[0]

        assert backend.database.read(count) <= 32

    def test_results_outlive_the_process_that_stored_them(self, backend, path):
        message = make_message()
        script = f"""
import sys
from dramatiq.message import Message
from dramatiq.results.backends import SQLiteBackend

message = Message.decode(sys.stdin.buffer.read())
SQLiteBackend(path={str(path)!r}).store_result(message, "from elsewhere", {LONG})
"""
        subprocess.run(
            [sys.executable, "-c", script], input=message.encode(), check=True, timeout=30
        )

        assert backend.get_result(message) == "from elsewhere"

    def test_a_broker_lends_its_file(self, path):
        broker = StubBroker(middleware=[])
        broker.database = open_database(path)

        assert SQLiteBackend(broker=broker).database is SQLiteBackend(path=path).database

    def test_a_result_joins_the_settlement_of_a_message_in_the_same_file(self, backend):
        message = make_message()
        broker = StubBroker(middleware=[])
        broker.database = backend.database
        follow_ups = FollowUps(broker, collects=True)

        with follow_ups:
            backend.store_result(message, 42, LONG)

        with pytest.raises(ResultMissing):
            backend.get_result(message)
        assert not backend.may_block(follow_ups)
        [(store, operation)] = follow_ups.operations
        assert store is backend.database
        store.write(operation)
        assert backend.get_result(message) == 42

    def test_a_result_is_stored_at_once_beside_a_message_from_elsewhere(self, backend):
        message = make_message()
        follow_ups = FollowUps(StubBroker(middleware=[]), collects=True)

        with follow_ups:
            backend.store_result(message, 42, LONG)

        assert backend.may_block(follow_ups)
        assert follow_ups.operations == []
        assert backend.get_result(message) == 42

    def test_a_store_that_fails_says_what_is_wrong_with_which_file(self, path):
        path.write_bytes(b"no database at all" * 100)

        with pytest.raises(ConnectionFailed, match="not an SQLite database"):
            SQLiteBackend(path=path).store_result(make_message(), 42, LONG)
