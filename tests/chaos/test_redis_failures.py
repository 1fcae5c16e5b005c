"""A replica takes over, another machine dies, a write is refused: what becomes of messages."""

from __future__ import annotations

import json
import time
from contextlib import contextmanager

import pytest
import redis

from dramatiq import pipeline
from dramatiq.errors import BrokerConnectionError
from dramatiq.message import Message
from dramatiq.testing.waiting import wait_until
from tests.chaos.harness import open_site
from tests.chaos.program import declare
from tests.chaos.redis_harness import IS_FULL, RedisSite, now_ns, show
from tests.chaos.trees import elsewhere
from tests.proxy import Proxy
from tests.servers import RedisServer, SentinelServer

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(900)]

#: Seconds between a server's return and the first message that starts.
RESUME_BOUND_S = 5.0
#: Messages sent per second meanwhile.
PER_SECOND = 1000 if IS_FULL else 200
#: How often master and replica change places.
SWAPS = 6 if IS_FULL else 2
#: Seconds without the server: longer than the timeout, and than anybody's turn to look for dead.
AWAY_S = 6
#: Milliseconds without heartbeat after which a worker counts as dead.
TIMEOUT = 1500


@contextmanager
def running(*servers):
    try:
        yield [server.start() for server in servers]
    finally:
        for server in servers:
            server.kill()


@pytest.fixture
def server(tmp_path):
    with running(RedisServer(tmp_path / "redis")) as [server]:
        yield server


def figures_of(site):
    sent, ended = site.ledger.numbers("sent"), site.ledger.numbers("end")
    return {
        "accepted": len(sent),
        "in doubt": site.ledger.count("unknown"),
        "lost": len(site.lost()),
        "duplicates": len(ended) - len(set(ended)),
    }


def start_load(site):
    """Start two workers and a producer that sends all the time."""
    workers = [site.start_worker(threads=8) for _ in range(2)]
    producer = site.start("produce", 1, 10**6, 2, PER_SECOND)
    site.wait_until(lambda: site.ledger.count("end") > 50, "it runs")
    return workers, producer


def end_load(site, workers, producer):
    producer.kill()
    site.wait_until_drained(60)
    assert [each.stop() for each in workers] == [0] * len(workers)
    site.check_store()


def promote(new, old):
    """Make a replica the master, as a failover does that does not wait for the old one."""
    with new.client() as client:
        client.replicaof("NO", "ONE")
    old.kill()
    old.start()
    with old.client() as client:
        client.replicaof("127.0.0.1", new.port)


def wait_until_in_step(master):
    def is_in_step():
        try:
            with master.client() as client:
                replica = client.info("replication").get("slave0", {})
        except (redis.ConnectionError, redis.exceptions.BusyLoadingError):
            return False
        return replica.get("state") == "online"

    wait_until(is_in_step, timeout_s=20)


@contextmanager
def pair(directory):
    """Run a master and its replica, which is in step with it at once."""
    servers = [RedisServer(directory / name, repl_diskless_sync_delay=0) for name in "ab"]
    with running(*servers) as [master, replica]:
        with replica.client() as client:
            client.replicaof("127.0.0.1", master.port)
        wait_until_in_step(master)
        yield servers


def test_a_role_swap_loses_nothing_that_a_replica_confirmed(tmp_path, capsys):
    with pair(tmp_path) as servers, Proxy(servers[0].port) as proxy:
        master, replica = servers
        resumed = []
        url = f"redis://127.0.0.1:{proxy.port}/0"
        with open_site(
            tmp_path / "site", RedisSite, server=master, url=url, min_replicas=1
        ) as site:
            workers, producer = start_load(site)
            for index in range(SWAPS):
                time.sleep(1)
                if index % 2:
                    # Both are there all the time, and the old one says READONLY.
                    with replica.client() as new, master.client() as old:
                        new.replicaof("NO", "ONE")
                        old.replicaof("127.0.0.1", replica.port)
                else:
                    promote(replica, master)
                proxy.target_port = replica.port
                master, replica = replica, master
                resumed.append(site.wait_for_work(now_ns()))
                wait_until_in_step(master)
                site.client.close()
                site.client = master.client()
            accepted = site.ledger.count("sent")
            site.wait_until(lambda: site.ledger.count("sent") > accepted + 50, "it is accepted")
            end_load(site, workers, producer)
            figures = figures_of(site)

    figures |= {"swaps": SWAPS, "resumed after s, at most": round(max(resumed), 2)}
    show(capsys, "role swaps, with one replica to confirm", figures)
    assert figures["lost"] == 0, figures
    assert max(resumed) <= RESUME_BOUND_S, figures


def test_a_failover_by_sentinels_loses_nothing_that_a_replica_confirmed(tmp_path, capsys):
    with (
        pair(tmp_path) as [master, replica],
        running(SentinelServer(tmp_path / "sentinel", master.port)) as [sentinel],
        redis.Redis(port=sentinel.port, decode_responses=True) as watch,
    ):
        wait_until(lambda: watch.sentinel_slaves("mymaster"), timeout_s=20)
        url = f"sentinel://127.0.0.1:{sentinel.port}"
        options = {"server": replica, "url": url, "min_replicas": 1}
        with open_site(tmp_path / "site", RedisSite, **options) as site:
            workers, producer = start_load(site)
            time.sleep(1)
            master.kill()
            address = ("127.0.0.1", replica.port)
            wait_until(
                lambda: watch.sentinel_get_master_addr_by_name("mymaster") == address, timeout_s=30
            )
            resumed_s = site.wait_for_work(now_ns())
            master.start()
            with master.client() as client:
                client.replicaof(*address)
            wait_until_in_step(replica)
            accepted = site.ledger.count("sent")
            site.wait_until(lambda: site.ledger.count("sent") > accepted + 50, "it is accepted")
            end_load(site, workers, producer)
            figures = figures_of(site)

    figures["resumed after s"] = round(resumed_s, 2)
    show(capsys, "failover by sentinels, with one replica to confirm", figures)
    assert figures["lost"] == 0, figures
    assert resumed_s <= RESUME_BOUND_S, figures


def message(number, duration_ms=0):
    return Message("default", "work", (number, duration_ms), {}, {})


@pytest.fixture
def site(tmp_path, server):
    options = {"heartbeat_timeout": TIMEOUT}
    with open_site(tmp_path / "site", RedisSite, server=server, **options) as site:
        yield site


@pytest.fixture
def broker(site):
    broker = site.make_broker()
    broker.declare_queue("default")
    yield broker
    broker.close()
    broker.client.close()


def start_elsewhere(site):
    """Start a worker on another machine, as far as others can tell."""
    return site.start_worker(prefix=elsewhere())


def test_what_a_dead_machine_ran_is_taken_back_while_memory_is_full(site, server, broker):
    victim = start_elsewhere(site)
    broker.enqueue_many([message(number, 60_000 if number < 4 else 0) for number in range(8)])
    site.wait_until(lambda: site.ledger.count("start") == 4, "it is busy")
    victim.kill()
    with server.client() as client:
        client.config_set("maxmemory", client.info("memory")["used_memory"] // 2)
    with pytest.raises(BrokerConnectionError, match="maxmemory"):
        broker.enqueue(message(9))

    heir = site.start_worker(threads=8)

    site.wait_until(lambda: len(site.running(heir.pid)) == 4, "it runs what the other ran", 15)
    site.check_store()


def test_machines_that_lost_the_server_for_long_do_not_take_each_other_for_dead(
    site, server, broker, capsys
):
    workers = [site.start_worker(threads=8), start_elsewhere(site)]
    broker.enqueue_many([message(number, 9000) for number in range(12)])
    site.wait_until(lambda: site.ledger.count("start") == 12, "they are busy")
    names = {name for each in workers for name in site.workers_of(each.pid)}

    server.kill()
    time.sleep(AWAY_S)
    server.start()
    site.wait_until_drained()

    figures = {"away s": AWAY_S, "duplicates": len(site.ledger.duplicates())}
    show(capsys, f"a server that is away, timeout {TIMEOUT} ms", figures)
    assert site.ledger.count("start") == 12
    assert {name for each in workers for name in site.workers_of(each.pid)} == names
    assert [each.stop() for each in workers] == [0, 0]


def is_complete(site):
    """Tell whether a worker has registered as a consumer of both queues."""
    return any(
        json.loads(text)["queues"] == ["default", "default.DQ"]
        for text in site.client.hvals(site.layout.workers)
    )


@pytest.mark.parametrize("outcome", ["follow-up", "dead letter", "retry"])
def test_nothing_is_settled_before_its_consequences_are_stored(site, server, broker, outcome):
    with server.client() as client:
        client.acl_setuser(
            "fragile", enabled=True, passwords=["+secret"], keys=["*"], categories=["+@all"]
        )
        actors = declare(broker, site.ledger.path)
        site.database = f"redis://fragile:secret@127.0.0.1:{server.port}/0"
        worker = site.start_worker()
        site.wait_until(lambda: is_complete(site), "it consumes both queues")
        # Whatever stores anything fails, though the server is there.
        client.acl_setuser("fragile", enabled=True, commands=["-hset"])
        if outcome == "follow-up":
            steps = [actors["pass_on"].message(1), actors["work"].message()]
            pipeline(steps, broker=broker).run()
        elif outcome == "retry":
            actors["fail_once"].send(1)
        else:
            actors["fail"].send(1)
        site.wait_until(lambda: worker.output.count("unexpected error") >= 4, "it failed often")

        assert site.counts() == [0, 0, 1, 0]
        site.check_store()
        client.acl_setuser("fragile", enabled=True, commands=["+hset"])
        site.wait_until_drained()
        assert worker.stop() == 0
        site.check_store()
        expected = {"follow-up": [1, 1001], "retry": [1], "dead letter": []}[outcome]
        assert site.ledger.numbers("end") == expected
        assert site.counts()[3] == (outcome == "dead letter")
