"""Results and rate limits on PostgreSQL."""

from __future__ import annotations

import subprocess
import sys

import pytest

import dramatiq
from dramatiq.brokers.postgres import PostgresBroker
from dramatiq.brokers.stub import StubBroker
from dramatiq.delivery import FollowUps
from dramatiq.rate_limits import Barrier
from dramatiq.rate_limits.backends import PostgresBackend as RateLimiterBackend
from dramatiq.results import ResultMissing, Results
from dramatiq.results.backends import PostgresBackend
from dramatiq.testing.rate_limiter_contract import RateLimiterBackendContract
from dramatiq.testing.result_contract import LONG, ResultBackendContract, make_message
from dramatiq.testing.waiting import run_together
from tests.contract.forking import FORK


@pytest.fixture
def broker(postgres_server, postgres):
    broker = PostgresBroker(postgres_server.url)
    yield broker
    broker.close()


def rows(postgres, table):
    [(count,)] = postgres.execute(f"SELECT count(*) FROM dramatiq.{table}").fetchall()  # noqa: S608
    return count


class TestResults(ResultBackendContract):
    @pytest.fixture
    def backend(self, broker):
        return PostgresBackend(broker=broker)

    def test_expired_results_do_not_pile_up(self, backend, postgres):
        for _ in range(300):
            backend.store_result(make_message(), 42, 0)

        assert rows(postgres, "results") <= 32

    def test_a_result_joins_the_settlement_of_a_message_in_the_same_schema(self, backend, broker):
        message = make_message()
        follow_ups = FollowUps(broker, collects=True)

        with follow_ups:
            backend.store_result(message, 42, LONG)

        with pytest.raises(ResultMissing):
            backend.get_result(message)
        assert not backend.may_block(follow_ups)
        [(store, operation)] = follow_ups.operations
        store.write(operation)
        assert backend.get_result(message) == 42

    def test_a_result_is_stored_at_once_beside_a_message_from_elsewhere(self, backend):
        message = make_message()
        follow_ups = FollowUps(StubBroker(middleware=[]), collects=True)

        with follow_ups:
            backend.store_result(message, 42, LONG)

        assert backend.may_block(follow_ups)
        assert backend.get_result(message) == 42

    def test_a_worker_stores_the_result_with_the_acknowledgement(self, backend, broker, postgres):
        broker.add_middleware(Results(backend=backend))
        double = dramatiq.actor(
            lambda number: 2 * number, actor_name="double", broker=broker, store_results=True
        )
        worker = dramatiq.Worker(broker, worker_threads=2)
        worker.start()

        messages = [double.send(number) for number in range(10)]
        results = [each.get_result(backend=backend, block=True) for each in messages]

        assert results == [2 * number for number in range(10)]
        found = postgres.execute(
            "SELECT count(*) FROM dramatiq.messages JOIN dramatiq.results ON true"
        ).fetchall()
        assert found == [(0,)]
        worker.stop()

    def test_a_fork_shares_no_connection(self, postgres_server, backend):
        made = f"PostgresBackend(url={postgres_server.url!r})"
        program = FORK.format(backend=made).replace("range(300)", "range(100)")

        subprocess.run([sys.executable, "-c", program], check=True, timeout=30)


#: Counts how often a process may increment a key, and prints it.
INCREMENT = """
import sys
from dramatiq.rate_limits.backends import PostgresBackend

backend = PostgresBackend(url=sys.argv[1])
print(sum(backend.incr("shared", 1, 100, 60_000) for _ in range(60)))
"""


class TestRateLimits(RateLimiterBackendContract):
    @pytest.fixture
    def backend(self, broker):
        return RateLimiterBackend(broker=broker)

    def test_processes_that_increment_never_pass_the_maximum(self, backend, postgres_server):
        command = [sys.executable, "-c", INCREMENT, postgres_server.url]
        processes = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(3)]
        counts = [int(process.communicate(timeout=30)[0]) for process in processes]

        assert sum(counts) == 100
        assert not backend.incr("shared", 1, 100, 60_000)

    def test_an_event_is_seen_by_those_who_wait_later(self, backend):
        backend.wait_notify("key", 60_000)

        assert backend.wait("key", 0)
        assert backend.wait("key", None)

    def test_a_party_that_waits_without_timeout_is_woken(self, backend):
        barrier = Barrier(backend, "key")
        barrier.create(parties=2)

        assert run_together(2, lambda _: barrier.wait()) == [True, True]

    def test_expired_rows_do_not_pile_up(self, backend, postgres):
        for index in range(150):
            backend.add(f"key-{index}", 1, 0)
            backend.wait_notify(f"event-{index}", 0)

        assert rows(postgres, "limits") <= 32
        assert rows(postgres, "limit_events") <= 32
