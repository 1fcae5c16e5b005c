from __future__ import annotations

import subprocess
import sys

import pytest

from dramatiq.brokers.stub import StubBroker
from dramatiq.rate_limits import Barrier
from dramatiq.rate_limits.backends import SQLiteBackend, StubBackend
from dramatiq.sqlite import open_database
from dramatiq.testing.rate_limiter_contract import RateLimiterBackendContract
from dramatiq.testing.waiting import run_together, wait_until


class TestStubBackend(RateLimiterBackendContract):
    @pytest.fixture
    def backend(self):
        return StubBackend()

    def test_waiting_needs_a_timeout(self, backend):
        with pytest.raises(TypeError):
            backend.wait("key", None)

    def test_events_that_nobody_waits_for_are_lost(self, backend):
        backend.wait_notify("key", 60_000)

        assert not backend.wait("key", 10)

    def test_nothing_is_left_of_waits_that_ended(self, backend):
        backend.wait("key", 10)

        assert backend.conditions == {}

    def test_the_database_may_be_replaced(self, backend):
        backend.add("key", 1, 60_000)

        backend.db = {}

        assert backend.add("key", 1, 60_000)

    def test_expired_keys_do_not_pile_up(self, backend):
        for index in range(1000):
            backend.add(f"key-{index}", 1, 0)

        assert len(backend.db) <= 200


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "limits.db"
    yield path
    open_database(path).close()


#: Counts how often a process may increment a key, and prints it.
INCREMENT = """
import sys
from dramatiq.rate_limits.backends import SQLiteBackend

backend = SQLiteBackend(path=sys.argv[1])
print(sum(backend.incr("shared", 1, 100, 60_000) for _ in range(60)))
"""


class TestSQLiteBackend(RateLimiterBackendContract):
    @pytest.fixture
    def backend(self, path):
        return SQLiteBackend(path=path)

    def test_processes_that_increment_never_pass_the_maximum(self, backend, path):
        processes = [
            subprocess.Popen(
                [sys.executable, "-c", INCREMENT, path], stdout=subprocess.PIPE, text=True
            )
            for _ in range(3)
        ]
        counts = [int(process.communicate(timeout=30)[0]) for process in processes]

        assert sum(counts) == 100
        assert not backend.incr("shared", 1, 100, 60_000)

    def test_an_event_is_seen_by_those_who_wait_later(self, backend):
        backend.wait_notify("key", 60_000)

        assert backend.wait("key", 0)
        assert backend.wait("key", None)

    def test_an_event_is_forgotten_after_its_time_to_live(self, backend):
        backend.wait_notify("key", 50)

        wait_until(lambda: not backend.wait("key", 0))

    def test_a_party_that_waits_without_timeout_is_woken(self, backend):
        barrier = Barrier(backend, "key")
        barrier.create(parties=2)

        assert run_together(2, lambda _: barrier.wait()) == [True, True]

    def test_a_broker_lends_its_file(self, path):
        broker = StubBroker(middleware=[])
        broker.database = open_database(path)

        assert SQLiteBackend(broker=broker).database is SQLiteBackend(path=path).database

    def test_expired_rows_do_not_pile_up(self, backend):
        for index in range(300):
            backend.add(f"key-{index}", 1, 0)
            backend.wait_notify(f"event-{index}", 0)

        def count(connection):
            return [
                connection.execute(f"SELECT count(*) FROM {table}").fetchone()[0]  # noqa: S608
                for table in ("limits", "limit_events")
            ]

        assert max(backend.database.read(count)) <= 32
