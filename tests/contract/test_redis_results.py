from __future__ import annotations

import hashlib
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from threading import Thread

import pytest
import redis

import dramatiq
from dramatiq.brokers.redis import RedisBroker
from dramatiq.brokers.redis.scripts import load
from dramatiq.errors import BrokerConnectionError
from dramatiq.results import ResultMissing, Results, ResultTimeout
from dramatiq.results.backends import RedisBackend
from dramatiq.testing.result_contract import LONG, ResultBackendContract, make_message
from dramatiq.testing.waiting import wait_until
from dramatiq.threading import Interrupt, raise_thread_exception
from tests.contract.forking import FORK
from tests.servers import RedisServer


def blocked_clients(server):
    with server.client() as client:
        return client.info("clients")["blocked_clients"]


def kill_clients(server):
    with server.client() as client:
        client.client_kill_filter(_type="normal", skipme=True)


def calls(client):
    """Return how often the commands that read a result were run."""
    stats = client.info("commandstats")
    return sum(stats.get(f"cmdstat_{name}", {"calls": 0})["calls"] for name in ("blmove", "lindex"))


class TestRedisBackend(ResultBackendContract):
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

    def test_a_result_is_a_list_of_one_element_that_expires(self, backend, client):
        message = make_message()
        name = f"dramatiq-results:default:add:{message.message_id}"
        key = hashlib.md5(name.encode(), usedforsecurity=False).hexdigest()

        for value in (1, {"a": [2]}):
            backend.store_result(message, value, LONG)

        assert client.lrange(key, 0, -1) == [b'{"a":[2]}']
        assert LONG - 10_000 < client.pttl(key) <= LONG

    def test_a_failure_is_stored_as_2_x_does(self, backend, client):
        message = make_message()

        backend.store_exception(message, ValueError("no"), LONG)

        assert client.lrange(backend.build_message_key(message), 0, -1) == [
            b'{"__t":"dramatiq.results.Result","exn":{"type":"ValueError","msg":"no"}}'
        ]

    @pytest.mark.parametrize("block", [False, True])
    def test_what_2_x_stored_is_read(self, backend, client, block):
        message = make_message()
        key = backend.build_message_key(message)
        with client.pipeline() as pipe:
            pipe.delete(key).rpush(key, b'"from 2.x"').pexpire(key, LONG).execute()

        assert backend.get_result(message, block=block) == "from 2.x"

    def test_reading_does_not_change_when_a_result_expires(self, backend, client):
        message = make_message()
        with ThreadPoolExecutor(1) as pool:
            reading = pool.submit(backend.get_result, message, block=True)
            backend.store_result(message, 42, LONG)
            reading.result(timeout=10)

        backend.get_result(message, block=True)

        assert 0 < client.pttl(backend.build_message_key(message)) <= LONG

    def test_a_waiting_reader_is_woken_instead_of_looking_again(
        self, backend, client, redis_server
    ):
        message = make_message()
        with ThreadPoolExecutor(1) as pool:
            calls_before = calls(client)
            reading = pool.submit(backend.get_result, message, block=True)
            wait_until(lambda: blocked_clients(redis_server) == 1)

            backend.store_result(message, 42, LONG)

            assert reading.result(timeout=10) == 42
            assert calls(client) - calls_before == 1

    def test_fifty_waiting_readers_all_get_the_result(self, backend, redis_server):
        message = make_message()
        with ThreadPoolExecutor(50) as pool:
            readings = [pool.submit(backend.get_result, message, block=True) for _ in range(50)]
            wait_until(lambda: blocked_clients(redis_server) == 50)

            backend.store_result(message, "for all", LONG)

            assert {reading.result(timeout=10) for reading in readings} == {"for all"}

    @pytest.mark.parametrize("timeout", [1, 300, 1_300])
    def test_a_blocking_read_waits_for_its_whole_timeout(self, backend, timeout):
        started_at_s = time.monotonic()

        with pytest.raises(ResultTimeout):
            backend.get_result(make_message(), block=True, timeout=timeout)

        assert timeout / 1000 <= time.monotonic() - started_at_s < timeout / 1000 + 2

    def test_a_blocking_read_outlasts_the_patience_of_its_client(self, redis_server):
        with redis_server.client(socket_timeout=0.3) as client:
            backend = RedisBackend(client=client)
            started_at_s = time.monotonic()

            with pytest.raises(ResultTimeout):
                backend.get_result(make_message(), block=True, timeout=2_500)

            assert 2.5 <= time.monotonic() - started_at_s < 4.5

    def test_a_reader_whose_connection_dies_gets_the_result_all_the_same(
        self, backend, redis_server
    ):
        message = make_message()
        with ThreadPoolExecutor(1) as pool:
            reading = pool.submit(backend.get_result, message, block=True, timeout=20_000)
            wait_until(lambda: blocked_clients(redis_server) == 1)

            kill_clients(redis_server)
            wait_until(lambda: blocked_clients(redis_server) == 1)
            backend.store_result(message, 42, LONG)

            assert reading.result(timeout=10) == 42

    def test_a_reader_waits_for_a_server_that_comes_back(self, own_server):
        backend = RedisBackend(url=own_server.url)
        message = make_message()
        with ThreadPoolExecutor(1) as pool:
            reading = pool.submit(backend.get_result, message, block=True, timeout=20_000)
            wait_until(lambda: blocked_clients(own_server) == 1)

            own_server.restart()
            backend.store_result(message, 42, LONG)

            assert reading.result(timeout=10) == 42

    def test_a_server_that_is_gone_is_an_error_of_both_libraries(self, own_server):
        backend = RedisBackend(url=own_server.url)
        message = make_message()
        own_server.kill()
        started_at_s = time.monotonic()

        with pytest.raises(BrokerConnectionError, match=f"127.0.0.1:{own_server.port}") as missing:
            backend.get_result(message)
        with pytest.raises(redis.ConnectionError):
            backend.store_result(message, 42, LONG)
        with pytest.raises(BrokerConnectionError):
            backend.get_result(message, block=True, timeout=500)

        assert isinstance(missing.value, redis.ConnectionError)
        assert time.monotonic() - started_at_s >= 0.5

    def test_a_server_that_hangs_delays_the_deadline_for_moments_only(self, own_server):
        backend = RedisBackend(url=own_server.url)
        message = make_message()
        with pytest.raises(ResultMissing):
            backend.get_result(message)
        own_server.send(signal.SIGSTOP)
        started_at_s = time.monotonic()

        with pytest.raises(redis.TimeoutError):
            backend.get_result(message, block=True, timeout=500)

        assert time.monotonic() - started_at_s < 6

    def test_an_interrupted_reader_leaves_no_answer_behind_for_others(self, backend, redis_server):
        interrupted, message = make_message(), make_message()
        reader = Thread(target=self._wait_to_be_interrupted, args=(backend, interrupted))
        reader.start()
        wait_until(lambda: blocked_clients(redis_server) == 1)

        raise_thread_exception(reader.ident, Interrupt)
        backend.store_result(interrupted, "not for others", LONG)
        reader.join(10)

        assert not reader.is_alive()
        backend.store_result(message, "mine", LONG)
        assert backend.get_result(message) == "mine"

    def _wait_to_be_interrupted(self, backend, message):
        with pytest.raises(Interrupt):
            backend.get_result(message, block=True, timeout=20_000)

    def test_a_connection_that_was_closed_while_idle_is_replaced(self, backend, redis_server):
        message = make_message()
        backend.store_result(message, 1, LONG)
        kill_clients(redis_server)

        backend.store_result(message, 2, LONG)
        kill_clients(redis_server)

        assert backend.get_result(message) == 2

    def test_results_are_stored_in_a_server_at_its_maxmemory(self, own_server):
        backend = RedisBackend(url=own_server.url)
        message = make_message()
        with own_server.client() as client:
            client.config_set("maxmemory", 1)
            with pytest.raises(redis.OutOfMemoryError):
                client.set("key", "value")

        backend.store_result(message, 42, LONG)

        assert backend.get_result(message) == 42
        assert backend.get_result(message, block=True) == 42
        with pytest.raises(ResultTimeout):
            backend.get_result(make_message(), block=True, timeout=500)

    def test_a_key_of_another_type_is_an_error(self, backend, client):
        message = make_message()
        client.set(backend.build_message_key(message), "no list", px=LONG)

        for block in (False, True):
            with pytest.raises(redis.ResponseError, match="WRONGTYPE"):
                backend.get_result(message, block=block)

    def test_a_fork_shares_no_connection(self, redis_server):
        script = FORK.format(backend=f"RedisBackend(url={redis_server.url!r})")

        subprocess.run([sys.executable, "-c", script], check=True, timeout=50)

    @pytest.mark.parametrize("how", ["url", "unix", "parameters", "client"])
    def test_a_server_is_named_in_four_ways(self, redis_server, how):
        with redis_server.client() as client:
            backend = RedisBackend(
                **{
                    "url": {"url": redis_server.url},
                    "unix": {"url": redis_server.unix_url},
                    "parameters": {"host": "127.0.0.1", "port": redis_server.port, "db": 1},
                    "client": {"client": client, "url": "redis://unused:1"},
                }[how]
            )

            assert backend.client.ping()
            assert (backend.client is client) == (how == "client")


class TestRedisBackendWithDecodingClient(ResultBackendContract):
    @pytest.fixture
    def backend(self, redis_server):
        with redis_server.client(decode_responses=True) as client:
            yield RedisBackend(client=client)


class TestRedisBackendInCluster(ResultBackendContract):
    @pytest.fixture
    def backend(self, redis_cluster):
        with redis_cluster.cluster_client(decode_responses=True) as client:
            yield RedisBackend(client=client)

    def test_a_blocking_read_outlasts_the_patience_of_its_client(self, redis_cluster):
        with redis_cluster.cluster_client(socket_timeout=1) as client:
            backend = RedisBackend(client=client)
            started_at_s = time.monotonic()

            with pytest.raises(ResultTimeout):
                backend.get_result(make_message(), block=True, timeout=2_500)

            assert 2.5 <= time.monotonic() - started_at_s < 4.5


def test_a_result_is_stored_where_the_server_knows_only_how_to_acknowledge(redis_server):
    broker = RedisBroker(url=redis_server.url, namespace="knows-ack")
    broker.add_middleware(Results(backend=RedisBackend(url=redis_server.url)))
    add = dramatiq.actor(broker=broker, actor_name="add", store_results=True)(lambda x, y: x + y)
    worker = dramatiq.Worker(broker, worker_threads=1, worker_timeout=100)
    worker.start()
    try:
        with redis_server.client() as client:
            # As a server that was started or promoted in between, which others have used since.
            client.script_flush()
            client.script_load(load("ack").text)
            client.script_load(load("fetch").text)

        message = add.send(1, 2)

        assert (
            message.get_result(backend=broker.get_results_backend(), block=True, timeout=5000) == 3
        )
    finally:
        worker.stop()
        broker.flush_all()
        broker.close()
