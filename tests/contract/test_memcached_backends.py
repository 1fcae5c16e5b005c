from __future__ import annotations

import subprocess
import sys

import pytest

from dramatiq import rate_limits, results
from dramatiq.rate_limits import Barrier
from dramatiq.testing.rate_limiter_contract import RateLimiterBackendContract
from dramatiq.testing.result_contract import LONG, ResultBackendContract, make_message
from dramatiq.testing.waiting import run_together, wait_until
from tests.contract.forking import FORK
from tests.servers import free_port

pylibmc = pytest.importorskip("pylibmc", reason="pylibmc has no wheel for this Python")


def disconnect(pool):
    while not pool.empty():
        pool.get().disconnect_all()


class TestMemcachedResults(ResultBackendContract):
    smallest_ttl = 2000  # A second may be almost over when it begins.

    @pytest.fixture
    def backend(self, memcached_server):
        backend = results.backends.MemcachedBackend(servers=[memcached_server.address])
        yield backend
        disconnect(backend.pool)

    def test_a_result_is_a_plain_value(self, backend, memcached_server):
        message = make_message()
        key = backend.build_message_key(message)

        backend.store_result(message, {"a": 1}, LONG)

        stored = memcached_server.talk(f"get {key}\r\n".encode())
        assert stored == f'VALUE {key} 0 7\r\n{{"a":1}}\r\nEND\r\n'.encode()

    def test_what_2_x_stored_is_read(self, backend, memcached_server):
        message = make_message()
        key = backend.build_message_key(message)
        memcached_server.talk(f'set {key} 0 60 10\r\n"from 2.x"\r\n'.encode())

        assert backend.get_result(message) == "from 2.x"

    @pytest.mark.parametrize(
        "message_id", ["with space", "new\r\nline", "tab\t", "x" * 300, "\x00", "\x7f"]
    )
    def test_names_that_are_no_keys_have_results_all_the_same(self, backend, message_id):
        backend.use_namespace_prefix_keys = True
        message = make_message(message_id=message_id)

        backend.store_result(message, 42, LONG)

        assert backend.get_result(message) == 42

    def test_a_time_to_live_below_a_second_is_not_for_ever(self, backend):
        message = make_message()

        backend.store_result(message, 42, 999)

        wait_until(lambda: self._is_missing(backend, message))

    def test_a_time_to_live_above_a_month_is_possible(self, backend):
        message = make_message()

        backend.store_result(message, 42, 40 * 24 * 60 * 60 * 1000)

        assert backend.get_result(message) == 42

    def test_more_threads_than_clients_take_turns(self, memcached_server):
        backend = results.backends.MemcachedBackend(servers=[memcached_server.address], pool_size=1)
        messages = [make_message() for _ in range(8)]

        run_together(8, lambda index: backend.store_result(messages[index], index, LONG))

        assert [backend.get_result(message) for message in messages] == list(range(8))
        disconnect(backend.pool)

    def test_a_pool_can_be_given(self, memcached_server):
        pool = pylibmc.ClientPool(pylibmc.Client([memcached_server.address]), 2)

        assert results.backends.MemcachedBackend(pool=pool).pool is pool

    def test_a_server_that_is_gone_is_an_error_of_its_client(self):
        backend = results.backends.MemcachedBackend(servers=[f"127.0.0.1:{free_port()}"])

        with pytest.raises(pylibmc.Error):
            backend.get_result(make_message())
        with pytest.raises(pylibmc.Error):
            backend.store_result(make_message(), 42, LONG)

    def test_a_fork_shares_no_connection(self, memcached_server):
        script = FORK.format(backend=f"MemcachedBackend(servers=[{memcached_server.address!r}])")

        subprocess.run([sys.executable, "-c", script], check=True, timeout=50)


class TestMemcachedRateLimits(RateLimiterBackendContract):
    smallest_ttl = 2000  # A second may be almost over when it begins.
    counts_members_once = False
    has_events = False
    sums_in_one_step = False

    @pytest.fixture
    def backend(self, memcached_server):
        backend = rate_limits.backends.MemcachedBackend(servers=[memcached_server.address])
        yield backend
        disconnect(backend.pool)

    def test_counters_are_plain_decimal_strings_marked_as_integers(
        self, backend, memcached_server, key
    ):
        backend.add(key, 5, LONG)
        backend.incr(key, 1, 9, LONG)

        stored = memcached_server.talk(f"get {key}\r\n".encode())
        assert stored == f"VALUE {key} 4 1\r\n6\r\nEND\r\n".encode()

    def test_what_2_x_counts_is_seen(self, backend, memcached_server, key):
        backend.add(key, 10, LONG)

        # The server pads a number that has become shorter with a space.
        assert memcached_server.talk(f"decr {key} 1\r\n".encode()) == b"9\r\n"

        assert not backend.incr(key, 1, 9, LONG)
        assert backend.incr(key, 1, 10, LONG)
        assert memcached_server.talk(f"incr {key} 1\r\n".encode()) == b"11\r\n"

    def test_a_barrier_that_2_x_left_at_zero_is_clear(self, backend, memcached_server, key):
        barrier = Barrier(backend, key, ttl=LONG)
        barrier.create(parties=1)

        memcached_server.talk(f"decr {key} 1\r\n".encode())

        assert barrier.wait(block=False)

    def test_there_is_nothing_to_wait_for(self, backend, key):
        with pytest.raises(NotImplementedError, match="block=False"):
            backend.wait(key, 1000)
        backend.wait_notify(key, LONG)

    def test_a_time_to_live_below_a_second_is_not_for_ever(self, backend, key):
        backend.add(key, 1, 999)

        wait_until(lambda: backend.add(key, 1, LONG))

    def test_a_pool_can_be_given(self, memcached_server, key):
        pool = pylibmc.ClientPool(pylibmc.Client([memcached_server.address]), 2)
        backend = rate_limits.backends.MemcachedBackend(pool=pool)

        assert backend.pool is pool
        assert [backend.incr(key, 1, 2, LONG) for _ in range(3)] == [True, True, False]
        disconnect(pool)

    def test_more_threads_than_clients_take_turns(self, memcached_server, key):
        backend = rate_limits.backends.MemcachedBackend(
            servers=[memcached_server.address], pool_size=2
        )

        answers = run_together(8, lambda _: backend.incr(key, 1, 5, LONG))

        assert answers.count(True) == 5
        disconnect(backend.pool)
