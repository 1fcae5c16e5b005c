from __future__ import annotations

from contextlib import suppress

import pytest
import redis as redis_package

import dramatiq
from dramatiq.brokers.redis import RedisBroker
from dramatiq.errors import BrokerConnectionError
from dramatiq.testing.waiting import wait_until
from tests.servers import RedisServer


class ClusterServer(RedisServer):
    """A cluster of one node that has all slots."""

    def __init__(self, directory, port=None, **options):
        super().__init__(directory, port, **{"cluster_enabled": "yes", **options})

    def start(self):
        super().start()
        with self.client() as client:
            if b"cluster_slots_assigned:0" in self.talk(b"CLUSTER INFO\r\n"):
                client.execute_command("CLUSTER", "ADDSLOTSRANGE", 0, 16383)
        wait_until(lambda: b"cluster_state:ok" in self.talk(b"CLUSTER INFO\r\n"))
        return self

    def cluster_client(self, **options):
        return redis_package.RedisCluster(host="127.0.0.1", port=self.port, **options)


@pytest.fixture(scope="session")
def redis_cluster(tmp_path_factory):
    """One cluster for all tests that do not harm it."""
    server = ClusterServer(tmp_path_factory.mktemp("redis-cluster")).start()
    yield server
    server.kill()


@pytest.fixture
def redis(redis_server):
    """A client of the shared server, which is empty."""
    with redis_server.client() as client:
        client.flushall()
        yield client


@pytest.fixture
def postgres(postgres_server):
    """A connection to the shared server, in which there is nothing of ours but empty tables."""
    with postgres_server.connect() as connection:
        found = connection.execute(
            "SELECT tablename FROM pg_tables "
            "WHERE schemaname = 'dramatiq' AND tablename <> 'version'"
        ).fetchall()
        # Truncating would make new files, which takes longer than most tests.
        for (name,) in found:
            connection.execute(f"DELETE FROM dramatiq.{name}")  # noqa: S608
        if found:
            connection.execute("ALTER TABLE dramatiq.messages ALTER seq RESTART")
        yield connection


@pytest.fixture
def make_broker(redis_server):
    """Makes brokers, on the shared server unless told otherwise, and closes them."""
    brokers = []

    def make(broker_class=RedisBroker, **options):
        if not {"url", "client", "host", "unix_socket_path"} & options.keys():
            options["url"] = redis_server.url
        broker = broker_class(**options)
        brokers.append(broker)
        return broker

    yield make
    for broker in brokers:
        with suppress(BrokerConnectionError):
            broker.close()
        broker.client.close()


@pytest.fixture
def start_worker():
    """Starts workers, and stops those that the test has not stopped."""
    workers = []

    def start(broker, **options):
        options = {"worker_timeout": 200, "worker_threads": 2, **options}
        worker = dramatiq.Worker(broker, **options)
        workers.append(worker)
        worker.start()
        return worker

    yield start
    for worker in workers:
        worker.stop()
