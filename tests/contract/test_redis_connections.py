"""The servers a Redis broker can be on, and what it says of those that it cannot."""

from __future__ import annotations

import os
import shutil
import subprocess
import threading
from pathlib import Path

import pytest
import redis
from redis.cluster import ClusterNode, RedisCluster
from redis.sentinel import MasterNotFoundError, Sentinel

import dramatiq
from dramatiq.brokers.redis import RedisBroker
from dramatiq.errors import BrokerConnectionError
from dramatiq.redis.client import make_client
from dramatiq.redis.link import MAX_IDLE
from dramatiq.testing.waiting import wait_until
from dramatiq.worker import Worker
from tests.servers import RedisServer, SentinelServer, free_port


@pytest.fixture
def make_broker():
    """Make brokers that are closed at the end."""
    brokers = []

    def make_broker(**options):
        brokers.append(RedisBroker(**options))
        return brokers[-1]

    yield make_broker
    for broker in brokers:
        broker.close()
        broker.client.close()


@pytest.fixture
def start_server(tmp_path):
    """Start servers that end with the test."""
    servers = []

    def start_server(**options):
        servers.append(RedisServer(tmp_path / f"server-{len(servers)}", **options).start())
        return servers[-1]

    yield start_server
    for server in servers:
        server.kill()


def check_all_steps(broker):
    """Run a message that succeeds, one with a delay, one that is retried and one that dies."""
    ran = []

    @dramatiq.actor(broker=broker, max_retries=1, min_backoff=1, max_backoff=1)
    def work(number):
        ran.append(number)
        if number < 0:
            raise ValueError(number)

    worker = Worker(broker, worker_threads=2, worker_timeout=100)
    worker.start()
    try:
        work.send_many([(1,), (2,)])
        work.send_with_options(args=(3,), delay=50)
        work.send(-1)
        broker.join("default", timeout=20_000)
    finally:
        worker.stop()
    assert sorted(ran) == [-1, -1, 1, 2, 3]
    assert len(broker.dead_letters("default")) == 1
    broker.flush_all()


def test_a_socket_file(make_broker, redis_server):
    check_all_steps(make_broker(url=redis_server.unix_url, namespace="socket-file"))


def test_arguments_of_the_client(make_broker, redis_server):
    check_all_steps(make_broker(host="127.0.0.1", port=redis_server.port, db=3))


def test_a_client_that_decodes_answers(make_broker, redis_server):
    client = redis.Redis(port=redis_server.port, decode_responses=True, db=4)
    check_all_steps(make_broker(client=client))


def test_version_3_of_the_protocol(make_broker, redis_server):
    check_all_steps(make_broker(url=f"{redis_server.url}?protocol=3", namespace="version-3"))


def test_namespaces_and_databases_are_apart(make_broker, redis_server):
    brokers = [
        make_broker(url=redis_server.url, namespace="one"),
        make_broker(url=redis_server.url, namespace="two"),
        make_broker(host="127.0.0.1", port=redis_server.port, namespace="one", db=5),
    ]
    for broker in brokers:
        dramatiq.actor(broker=broker, actor_name="work")(print)
        broker.flush_all()

    brokers[0].actors["work"].send()

    assert [broker.do_qsize("default") for broker in brokers] == [1, 0, 0]
    brokers[0].flush_all()


def test_a_password_and_a_user(make_broker, start_server):
    server = start_server()
    with server.client() as client:
        client.acl_setuser("jo", enabled=True, passwords=["+word"], keys=["*"], commands=["+@all"])
        client.config_set("requirepass", "secret")

    check_all_steps(make_broker(url=f"redis://:secret@127.0.0.1:{server.port}/0"))
    check_all_steps(make_broker(url=f"redis://jo:word@127.0.0.1:{server.port}/0"))
    broker = make_broker(url=f"redis://:wrong@127.0.0.1:{server.port}/0")
    with pytest.raises(BrokerConnectionError, match="refuses the user or the password") as refused:
        broker.do_qsize("default")
    assert "wrong" not in str(refused.value)
    assert "wrong" not in broker.display_url


@pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl makes the certificate")
def test_tls(make_broker, start_server, tmp_path):
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1"),
            *("-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"),
            *("-keyout", key, "-out", certificate),
        ],
        check=True,
        capture_output=True,
    )
    port = free_port()
    start_server(
        tls_port=port,
        tls_cert_file=certificate,
        tls_key_file=key,
        tls_ca_cert_file=certificate,
        tls_auth_clients="no",
    )

    check_all_steps(make_broker(url=f"rediss://127.0.0.1:{port}/0?ssl_ca_certs={certificate}"))


def test_a_cluster(make_broker, start_server):
    server = start_server(cluster_enabled="yes", unixsocket=None)
    with server.client() as node:
        node.execute_command("CLUSTER ADDSLOTSRANGE", 0, 16383)
        wait_until(lambda: node.execute_command("CLUSTER INFO")["cluster_state"] == "ok")
    client = RedisCluster(startup_nodes=[ClusterNode("127.0.0.1", server.port)])

    check_all_steps(make_broker(client=client, namespace="{dramatiq}"))


def test_sentinels_lead_to_the_new_master_after_a_failover(make_broker, start_server, tmp_path):
    first = start_server(repl_diskless_sync_delay=0)
    second = start_server(replicaof=f"127.0.0.1 {first.port}")
    sentinel = SentinelServer(tmp_path / "sentinel", first.port).start()
    find = Sentinel([("127.0.0.1", sentinel.port)], socket_timeout=2)
    try:
        with second.client() as replica, first.client() as master:
            wait_until(lambda: replica.info("replication")["master_link_status"] == "up")
            wait_until(lambda: master.info("replication")["connected_slaves"] == 1)
        wait_until(lambda: find.discover_slaves("mymaster"), timeout_s=30)
        broker = make_broker(client=find.master_for("mymaster", socket_timeout=2), min_replicas=1)
        ran = []
        work = dramatiq.actor(broker=broker, actor_name="work")(ran.append)
        worker = Worker(broker, worker_threads=2, worker_timeout=100)
        worker.start()
        work.send(1)
        wait_until(lambda: ran == [1])

        first.kill()
        wait_until(lambda: _port_of_master(find) == second.port, timeout_s=40)
        broker.min_replicas = 0
        wait_until(lambda: _is_sent(work, 2), timeout_s=30)

        wait_until(lambda: 2 in ran, timeout_s=30)
        worker.stop()
    finally:
        for each in find.sentinels:
            each.close()
        sentinel.kill()


def _port_of_master(sentinels):
    try:
        return sentinels.discover_master("mymaster")[1]
    except MasterNotFoundError:
        return None


def _is_sent(actor, number):
    try:
        actor.send(number)
    except BrokerConnectionError:
        return False
    return True


def test_a_message_that_too_few_replicas_have_is_told_of(make_broker, redis_server):
    broker = make_broker(url=redis_server.url, namespace="replicas", min_replicas=1)
    work = dramatiq.actor(broker=broker, actor_name="work")(print)

    with pytest.raises(BrokerConnectionError, match="only 0 of 1 replicas"):
        work.send()

    # It was sent once, however often it was tried.
    assert broker.do_qsize("default") == 1
    broker.flush_all()


def test_a_server_that_is_not_there(make_broker):
    broker = make_broker(host="127.0.0.1", port=free_port())
    work = dramatiq.actor(broker=broker, actor_name="work")(print)

    with pytest.raises(BrokerConnectionError, match="Does it run") as refused:
        work.send()

    assert isinstance(refused.value, redis.ConnectionError)


def test_workers_go_on_after_a_restart_of_the_server(make_broker, start_server):
    server = start_server()
    broker = make_broker(url=server.url)
    ran = []
    work = dramatiq.actor(broker=broker, actor_name="work")(ran.append)
    work.send_with_options(args=(2,), delay=300)
    worker = Worker(broker, worker_threads=2, worker_timeout=100)
    worker.start()
    work.send(1)
    wait_until(lambda: ran == [1])

    server.restart()
    wait_until(lambda: _is_sent(work, 3))

    wait_until(lambda: sorted(ran) == [1, 2, 3], timeout_s=20)
    worker.stop()


def test_scripts_that_the_server_forgot_are_sent_again(make_broker, redis_server):
    broker = make_broker(url=redis_server.url, namespace="forgotten")
    work = dramatiq.actor(broker=broker, actor_name="work")(print)
    work.send()

    broker.client.script_flush()
    work.send()

    assert broker.do_qsize("default") == 2
    broker.flush_all()


def test_a_child_of_a_fork_has_connections_and_a_name_of_its_own(make_broker, redis_server):
    broker = make_broker(url=redis_server.url, namespace="fork")
    work = dramatiq.actor(broker=broker, actor_name="work")(print)
    work.send()
    name = broker.broker_id
    reader, writer = os.pipe()

    pid = os.fork()
    if pid == 0:
        try:
            work.send()
            os.write(writer, broker.broker_id.encode())
        finally:
            os._exit(0)
    os.waitpid(pid, 0)
    work.send()

    assert os.read(reader, 100).decode() not in {"", name}
    assert broker.broker_id == name
    assert broker.do_qsize("default") == 3
    broker.flush_all()
    os.close(reader)
    os.close(writer)


def test_many_threads_send_over_few_connections(make_broker, redis_server):
    broker = make_broker(url=redis_server.url, namespace="threads")
    work = dramatiq.actor(broker=broker, actor_name="work")(print)

    threads = [threading.Thread(target=lambda: [work.send() for _ in range(20)]) for _ in range(40)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)

    assert broker.do_qsize("default") == 800
    assert len(broker.links._idle) <= MAX_IDLE
    broker.flush_all()


def test_connecting_does_not_read_the_metadata_of_the_client_library(monkeypatch, redis_server):
    def complain():
        raise AssertionError("two megabytes and a millisecond for every connection")

    monkeypatch.setattr("redis.utils.get_lib_version", complain)

    client = make_client(url=f"redis://127.0.0.1:{redis_server.port}")

    assert client.ping()
    client.close()


def test_what_the_application_tells_of_itself_is_left_to_it():
    class Driver:
        formatted_name = lib_version = None

    client = make_client(url="redis://127.0.0.1", driver_info=Driver)

    assert client.connection_pool.connection_kwargs["driver_info"] is Driver


def test_open_connections_are_lent_before_those_that_could_not_be_opened(make_broker, redis_server):
    links = make_broker(url=redis_server.url, namespace="lent").links
    with links.borrow() as first, links.borrow() as second, links.borrow() as third:
        second.call([(b"PING",)])

    lent = []
    with links.borrow() as link:
        lent.append(link)

    assert lent == [second]
    assert not first.is_open
    assert not third.is_open


def test_a_child_of_a_fork_closes_its_copies_of_connections(make_broker, redis_server):
    links = make_broker(url=redis_server.url, namespace="copies").links
    with links.borrow() as link, links.borrow() as idle:
        for each in (link, idle):
            each.call([(b"PING",)])
    with links.borrow() as lent:
        descriptors = [link.fileno(), idle.fileno()]
        del link, idle

        pid = os.fork()
        if pid == 0:
            os._exit(any(Path(f"/proc/self/fd/{each}").exists() for each in descriptors))

        assert os.waitpid(pid, 0)[1] == 0
        assert lent.call([(b"PING",)]) == [b"PONG"]
