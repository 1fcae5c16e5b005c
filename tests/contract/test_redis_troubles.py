"""What a Redis server can refuse, and what must not wear out."""

from __future__ import annotations

import gc
import threading
import time
from contextlib import suppress
from pathlib import Path

import pytest
import redis as redis_package
from redis.backoff import NoBackoff
from redis.cluster import ClusterNode, RedisCluster
from redis.retry import Retry

import dramatiq
from dramatiq.brokers.redis import RedisBroker
from dramatiq.errors import BrokerConnectionError
from dramatiq.message import Message
from dramatiq.redis import Link
from dramatiq.testing.waiting import run_together, wait_until
from tests.proxy import Proxy
from tests.servers import RedisServer, free_port


@pytest.fixture
def start_server(tmp_path):
    """Starts servers that end with the test."""
    servers = []

    def start(**options):
        servers.append(RedisServer(tmp_path / f"server-{len(servers)}", **options).start())
        return servers[-1]

    yield start
    for server in servers:
        server.kill()


@pytest.fixture(autouse=True)
def _restart_consumers_soon(monkeypatch):
    monkeypatch.setattr("dramatiq.worker.CONSUMER_RESTART_DELAY_SECS", 0.2)


@pytest.fixture
def server(start_server):
    return start_server()


@pytest.fixture
def client(server):
    with server.client() as client:
        yield client


@pytest.fixture
def broker(make_broker, server):
    broker = make_broker(url=server.url)
    broker.declare_queue("q")
    return broker


def message(number=1, queue_name="q"):
    return Message(queue_name, "note", (number,), {}, {})


def open_files():
    gc.collect()
    return len(list(Path("/proc/self/fd").iterdir()))


def note(broker, ran, queue_name="q"):
    return dramatiq.actor(ran.append, broker=broker, actor_name="note", queue_name=queue_name)


def enqueue_until(broker, number):
    """Enqueue until it succeeds once."""

    def is_enqueued():
        with suppress(BrokerConnectionError):
            return broker.enqueue(message(number))

    wait_until(is_enqueued, timeout_s=20)


# -- what a server says when it cannot


def test_a_server_that_became_a_replica(broker, client):
    client.replicaof("127.0.0.1", free_port())

    with pytest.raises(BrokerConnectionError, match="takes no writes") as raised:
        broker.enqueue(message())

    assert isinstance(raised.value, redis_package.ResponseError)


def test_a_server_at_its_maxmemory(broker, client):
    client.config_set("maxmemory", 1)
    started = time.monotonic()

    with pytest.raises(BrokerConnectionError, match="reached its maxmemory") as raised:
        broker.enqueue(message())

    assert isinstance(raised.value, redis_package.ResponseError)
    assert time.monotonic() - started < 0.3  # trying again does not help
    assert not client.exists("dramatiq:q", "dramatiq:q.msgs")


def test_a_server_that_cannot_save(broker, client):
    client.config_set("min-replicas-to-write", 1)

    with pytest.raises(BrokerConnectionError, match="too few replicas are connected"):
        broker.enqueue(message())


def test_a_server_in_a_script_without_end(broker, client, server):
    client.config_set("busy-reply-threshold", 1)
    with server.client(socket_timeout=30) as other:

        def loop():
            with suppress(redis_package.ResponseError):
                other.eval("while true do end", 0)

        thread = threading.Thread(target=loop)
        thread.start()

        def is_busy():
            try:
                client.ping()
            except redis_package.ResponseError:
                return True

        wait_until(is_busy)
        try:
            with pytest.raises(BrokerConnectionError, match="SCRIPT KILL ends it"):
                broker.enqueue(message())
        finally:
            client.script_kill()
            thread.join(10)


def test_a_server_that_loads_its_data(broker, client, server, start_worker):
    with client.pipeline() as pipeline:
        for number in range(20_000):
            pipeline.set(f"other-{number}", number)
        pipeline.execute()
    ran = []
    note(broker, ran)
    broker.enqueue(message(1))
    server.stop()
    server.options["key-load-delay"] = 50
    starting = threading.Thread(target=server.start)
    starting.start()

    def refusal():
        try:
            broker.do_qsize("q")
        except BrokerConnectionError as error:
            return error
        return None

    wait_until(lambda: "loading its data" in str(refusal()))
    start_worker(broker)
    starting.join(20)

    wait_until(lambda: ran == [1], timeout_s=20)


def test_a_mistake_in_a_command_is_no_connection_error(broker, client):
    client.set("dramatiq:q", "no list")

    with pytest.raises(redis_package.ResponseError, match="WRONGTYPE") as raised:
        broker.enqueue(message())

    assert not isinstance(raised.value, BrokerConnectionError)


def test_a_sender_does_not_wait_long_for_a_server_that_is_not_there(make_broker):
    broker = make_broker(host="127.0.0.1", port=free_port())
    started = time.monotonic()

    with pytest.raises(BrokerConnectionError, match="Does it run") as raised:
        broker.enqueue(message())

    assert isinstance(raised.value, redis_package.ConnectionError)
    # Whatever repetitions the client library likes.
    assert time.monotonic() - started < 2


# -- what happens once


@pytest.mark.parametrize("times", [1, 2])
def test_a_message_whose_confirmation_is_lost_is_stored_once(
    make_broker, redis, redis_server, times
):
    with Proxy(redis_server.port) as proxy:
        broker = make_broker(host="127.0.0.1", port=proxy.port)
        broker.enqueue(message(0))
        faults = [proxy.drop_reply(requesting=b"EVALSHA") for _ in range(times)]

        broker.enqueue(message(1))

        for fault in faults:
            fault.wait()
        assert 2 == redis.llen("dramatiq:q") == redis.hlen("dramatiq:q.msgs")


def test_many_messages_whose_confirmation_is_lost_are_stored_once(make_broker, redis, redis_server):
    with Proxy(redis_server.port) as proxy:
        broker = make_broker(host="127.0.0.1", port=proxy.port)
        broker.enqueue(message(0))
        fault = proxy.drop_reply(2, requesting=b"EVALSHA")

        broker.enqueue_many([message(number) for number in range(1200)])

        fault.wait()
        assert 1201 == redis.llen("dramatiq:q") == redis.hlen("dramatiq:q.msgs")


# -- a cluster that changes


def test_a_cluster_goes_on_with_the_replica_of_a_node_that_died(
    make_broker, start_server, start_worker
):
    ports = [free_port(), free_port()]
    nodes = [
        start_server(
            port=port, cluster_enabled="yes", cluster_node_timeout=1000, repl_diskless_sync_delay=0
        )
        for port in ports
    ]
    with nodes[0].client() as first, nodes[1].client() as second:
        first.execute_command("CLUSTER ADDSLOTSRANGE", 0, 16383)
        second.execute_command("CLUSTER MEET", "127.0.0.1", nodes[0].port)
        name = first.execute_command("CLUSTER MYID").decode()

        def is_replicating():
            with suppress(redis_package.ResponseError):
                second.execute_command("CLUSTER REPLICATE", name)
                return second.info("replication")["master_link_status"] == "up"

        wait_until(is_replicating, timeout_s=20)
        wait_until(lambda: first.execute_command("CLUSTER INFO")["cluster_state"] == "ok")
        # Clients learn of the replica from the first node, once it has something to replicate.
        first.set("{dramatiq}", 1)
        wait_until(lambda: b"%d" % ports[1] in nodes[0].talk(b"CLUSTER SLOTS\r\n"))
        starts = [ClusterNode("127.0.0.1", each.port) for each in nodes]
        cluster = RedisCluster(startup_nodes=starts, retry=Retry(NoBackoff(), 1))
        broker = make_broker(client=cluster, namespace="{dramatiq}")
        ran = []
        note(broker, ran)
        start_worker(broker)
        broker.enqueue(message(1))
        wait_until(lambda: ran == [1])

        nodes[0].kill()
        second.execute_command("CLUSTER FAILOVER", "TAKEOVER")
        wait_until(lambda: second.execute_command("CLUSTER INFO")["cluster_state"] == "ok")
        enqueue_until(broker, 2)

        wait_until(lambda: 2 in ran, timeout_s=20)


# -- what is not used up


def test_workers_that_come_and_go_leave_no_file_open(server, client):
    def run():
        broker = RedisBroker(url=server.url)
        ran = []
        actor = note(broker, ran)
        worker = dramatiq.Worker(broker, worker_threads=2, worker_timeout=200)
        worker.start()
        actor.send(1)
        actor.send_with_options(args=(2,), delay=10)
        wait_until(lambda: sorted(ran) == [1, 2])
        worker.stop()
        broker.close()
        broker.client.close()

    run()
    connections = client.info("clients")["connected_clients"]
    files = open_files()

    for _ in range(5):
        run()

    assert files == open_files()
    wait_until(lambda: connections == client.info("clients")["connected_clients"])


def test_lost_connections_leave_no_file_open(broker, client):
    consumer = broker.consume("q")

    def lose_connections():
        client.client_kill_filter(_type="normal", skipme=True)
        broker.enqueue(message())
        with suppress(BrokerConnectionError):
            consumer.fetch(1, 10)
        consumer.recover()
        consumer.fetch(10, 10)
        consumer.fetch(10, 10)

    lose_connections()
    files = open_files()

    for _ in range(20):
        lose_connections()

    assert open_files() <= files
    consumer.close()


def test_a_worker_gets_by_with_four_connections_a_queue_and_one_for_each_that_sends(
    make_broker, server, start_worker
):
    pool = redis_package.ConnectionPool(port=server.port, max_connections=6, socket_timeout=5)
    broker = make_broker(client=redis_package.Redis(connection_pool=pool))
    ran = []
    actor = note(broker, ran)
    start_worker(broker)
    actor.send(1)
    actor.send_with_options(args=(2,), delay=10)

    wait_until(lambda: sorted(ran) == [1, 2])
    pool.disconnect()


def test_a_pool_that_is_used_up_is_told_of(make_broker, server):
    pool = redis_package.ConnectionPool(port=server.port, max_connections=1, socket_timeout=5)
    broker = make_broker(client=redis_package.Redis(connection_pool=pool))

    with broker.links.borrow() as link:
        link.call([(b"PING",)])
        with pytest.raises(BrokerConnectionError, match="connections"):
            broker.enqueue(message())

    broker.enqueue(message())
    pool.disconnect()


def test_a_connection_goes_back_to_its_pool_as_patient_as_it_was(server):
    with server.client(socket_timeout=None) as client:
        link = Link(client, b"key")
        assert [b"PONG"] == link.call([(b"PING",)])

        link.close()

        [connection] = client.connection_pool._available_connections
        assert connection.socket_timeout is None


def test_threads_that_send_share_connections(broker, client):
    run_together(16, lambda index: [broker.enqueue(message(index)) for _ in range(20)])

    assert 320 == broker.do_qsize("q")
    assert client.info("clients")["connected_clients"] <= 1 + 16
