from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from uuid import uuid4

import pytest
import redis

from dramatiq.errors import BrokerConnectionError
from dramatiq.rate_limits import Barrier, ConcurrentRateLimiter, WindowRateLimiter
from dramatiq.rate_limits.backends import RedisBackend
from dramatiq.testing.barrier_contract import LONG
from dramatiq.testing.rate_limiter_contract import RateLimiterBackendContract
from dramatiq.testing.waiting import wait_until
from tests.servers import RedisServer


class TestRedisBackend(RateLimiterBackendContract):
    smallest_timeout = 1000

    @pytest.fixture
    def backend(self, redis_server):
        return RedisBackend(url=redis_server.url)

    @pytest.fixture
    def client(self, redis_server):
        with redis_server.client() as client:
            yield client

    @pytest.fixture
    def own_server(self, tmp_path):
        server = RedisServer(tmp_path / "redis").start()
        yield server
        server.kill()

    def test_counters_are_plain_decimal_strings_that_expire(self, backend, client, key):
        stored = []
        for change in (
            lambda: backend.add(key, -1, LONG),
            lambda: backend.incr(key, 6, 5, LONG),
            lambda: backend.decr(key, 2, 0, LONG),
            lambda: backend.incr_and_sum(key, lambda: [key], 2**52, 2**53, LONG),
        ):
            assert change()
            stored.append(client.get(key))
            assert LONG - 10_000 < client.pttl(key) <= LONG

        assert stored == [b"-1", b"5", b"3", b"4503599627370499"]

    def test_what_is_refused_changes_nothing(self, backend, client, key):
        client.set(key, "5", px=LONG * 10)

        assert not backend.add(key, 1, LONG)
        assert not backend.incr(key, 1, 5, LONG)
        assert not backend.decr(key, 1, 5, LONG)
        assert not backend.incr_and_sum(key, lambda: [key, key], 1, 10, LONG)

        assert client.get(key) == b"5"
        assert client.pttl(key) > LONG

    @pytest.mark.parametrize("change", ["incr", "decr", "incr_and_sum", "arrive"])
    def test_who_changes_optimistically_as_2_x_does_sees_every_change(
        self, backend, client, key, change
    ):
        client.set(key, "5", px=LONG)
        changes = {
            "incr": lambda: backend.incr(key, 1, 9, LONG),
            "decr": lambda: backend.decr(key, 1, 1, LONG),
            "incr_and_sum": lambda: backend.incr_and_sum(key, lambda: [key], 1, 99, LONG),
            "arrive": lambda: backend.arrive(key, "member", LONG),
        }
        with client.pipeline() as pipe:
            pipe.watch(key)
            value = int(pipe.get(key))

            changes[change]()

            pipe.multi()
            pipe.set(key, value + 1, px=LONG)
            with pytest.raises(redis.WatchError):
                pipe.execute()
        assert client.get(key) in {b"6", b"4"}

    def test_a_barrier_keeps_its_count_and_its_events_where_2_x_does(self, backend, client, key):
        barrier = Barrier(backend, key, ttl=LONG)
        barrier.create(parties=3)
        assert client.get(key) == b"3"

        assert not barrier.arrive("a")
        assert not barrier.wait(block=False)
        assert client.get(key) == b"1"
        assert client.lrange(f"{key}@events", 0, -1) == []

        assert barrier.arrive("b")
        assert client.get(key) == b"1"
        assert client.lrange(f"{key}@events", 0, -1) == [b"x"]
        assert 0 < client.pttl(f"{key}@events") <= LONG

    def test_parties_of_2_x_clear_a_barrier_too(self, backend, client, key):
        barrier = Barrier(backend, key, ttl=LONG)
        barrier.create(parties=2)
        with ThreadPoolExecutor(1) as pool:
            waiting = pool.submit(barrier.wait, timeout=20_000)
            wait_until(lambda: client.get(key) == b"1")

            client.rpush(f"{key}@events", "x")

            assert waiting.result(timeout=10)

    def test_what_members_were_told_expires_with_the_barrier(self, backend, client, key):
        barrier = Barrier(backend, key, ttl=LONG)
        barrier.create(parties=2)

        for member in ("a", "a", "b"):
            barrier.arrive(member)

            assert 0 < client.pttl(f"{{{key}}}#arrived") <= LONG

    def test_waits_below_a_second_are_refused(self, backend, key):
        with pytest.raises(AssertionError, match="1000 milliseconds"):
            backend.wait(key, 999)

    def test_an_event_is_seen_by_all_who_wait_later(self, backend, key):
        backend.wait_notify(key, LONG)

        assert [backend.wait(key, timeout) for timeout in (1000, 1000, None)] == [True] * 3

    def test_an_event_is_forgotten_after_its_time_to_live(self, backend, key):
        backend.wait_notify(key, 50)

        wait_until(lambda: not backend.wait(key, 1000))

    def test_a_wait_outlasts_the_patience_of_its_client(self, redis_server, key):
        with redis_server.client(socket_timeout=0.3) as client:
            started_at_s = time.monotonic()

            assert not RedisBackend(client=client).wait(key, 2_500)

            assert 2.5 <= time.monotonic() - started_at_s < 4.5

    def test_who_waits_for_ever_survives_a_server_that_comes_back(self, own_server, key):
        backend = RedisBackend(url=own_server.url)
        with ThreadPoolExecutor(1) as pool, own_server.client() as client:
            waiting = pool.submit(backend.wait, key, None)
            wait_until(lambda: client.info("clients")["blocked_clients"] == 1)

            own_server.restart()
            backend.wait_notify(key, LONG)

            assert waiting.result(timeout=10)

    def test_a_server_that_is_gone_is_an_error_of_both_libraries(self, own_server, key):
        backend = RedisBackend(url=own_server.url)
        backend.add(key, 1, LONG)
        own_server.kill()

        for error in (BrokerConnectionError, redis.ConnectionError):
            with pytest.raises(error):
                backend.incr(key, 1, 9, LONG)
        with pytest.raises(BrokerConnectionError):
            backend.wait(key, 1000)

    def test_a_connection_that_was_closed_while_idle_is_replaced(self, backend, client, key):
        for _ in range(3):
            assert backend.incr(key, 1, 9, LONG)
            client.client_kill_filter(_type="normal", skipme=True)

        assert client.get(key) == b"3"

    def test_slots_are_given_back_to_a_server_at_its_maxmemory(self, own_server, key):
        backend = RedisBackend(url=own_server.url)
        mutex = ConcurrentRateLimiter(backend, key, limit=2, ttl=LONG)
        barrier = Barrier(backend, f"{key}-barrier", ttl=LONG)
        barrier.create(parties=2)
        with own_server.client() as client:
            with mutex.acquire():
                client.config_set("maxmemory", 1)
                with pytest.raises(BrokerConnectionError, match="maxmemory"):
                    backend.incr(key, 1, 2, LONG)

            assert [barrier.arrive(member) for member in ("a", "a", "b")] == [False, False, True]
            assert client.get(key) == b"0"

    def test_scripts_survive_a_server_that_forgets_them(self, backend, client, key):
        assert backend.incr(key, 1, 9, LONG)

        client.script_flush()

        assert backend.incr(key, 1, 9, LONG)
        assert client.get(key) == b"2"


class TestRedisBackendWithDecodingClient(RateLimiterBackendContract):
    smallest_timeout = 1000

    @pytest.fixture
    def backend(self, redis_server):
        with redis_server.client(decode_responses=True) as client:
            yield RedisBackend(client=client)


class TestRedisBackendInCluster(RateLimiterBackendContract):
    smallest_timeout = 1000

    @pytest.fixture
    def backend(self, redis_cluster):
        with redis_cluster.cluster_client(decode_responses=True) as client:
            yield RedisBackend(client=client)

    @pytest.fixture
    def key(self):
        return f"{{key-{uuid4()}}}"

    def test_a_window_says_how_to_name_its_key(self, backend):
        limiter = WindowRateLimiter(backend, "search-api", limit=2, window=60)

        with pytest.raises(ValueError, match=r"'\{search-api\}'"), limiter.acquire():
            pass

    @pytest.mark.parametrize("key", ["plain", "{tagged}-1", "tagged-{2}"])
    def test_members_are_kept_beside_their_barrier(self, backend, key):
        barrier = Barrier(backend, key, ttl=LONG)
        barrier.create(parties=2)

        assert [barrier.arrive(member) for member in ("a", "a", "b")] == [False, False, True]
