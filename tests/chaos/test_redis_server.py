"""What becomes of messages when the Redis server dies, changes its role, or has no memory left."""

from __future__ import annotations

import time
from contextlib import contextmanager

import pytest
import redis

from dramatiq.errors import BrokerConnectionError
from dramatiq.message import Message
from dramatiq.testing.waiting import wait_until
from tests.chaos.harness import open_site
from tests.chaos.program import declare, make_broker
from tests.chaos.redis_harness import IS_FULL, RedisSite, now_ns, show
from tests.proxy import Proxy
from tests.servers import RedisServer, SentinelServer

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(900)]

#: Seconds between a server's return and the first message that starts.
RESUME_BOUND_S = 5.0
KILLS, PAUSE_S, PER_SECOND = (12, 5.0, 1000) if IS_FULL else (2, 1.5, 400)
SWAPS = 6 if IS_FULL else 2


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


def start_load(site, seconds):
    """Start two workers and a producer that sends for so many seconds."""
    workers = [site.start_worker(threads=8) for _ in range(2)]
    count = int(PER_SECOND * seconds)
    producer = site.start("produce", 1, count, 2, PER_SECOND)
    site.wait_until(lambda: site.ledger.count("end") > 50, "it runs")
    return workers, producer


def end_load(site, workers, producer):
    assert producer.wait(120) == 0, producer.output
    site.wait_until_drained(60)
    assert [each.stop() for each in workers] == [0] * len(workers)
    site.check_store()


def test_a_server_that_is_killed_again_and_again_loses_nothing(tmp_path, server, capsys):
    resumed = []
    with open_site(tmp_path / "site", RedisSite, server=server) as site:
        workers, producer = start_load(site, (KILLS + 0.5) * (PAUSE_S + 0.5))
        for _ in range(KILLS):
            time.sleep(PAUSE_S)
            server.kill()
            time.sleep(0.3)
            server.start()
            resumed.append(site.wait_for_work(now_ns()))
        end_load(site, workers, producer)
        figures = figures_of(site)

    figures |= {"kills": KILLS, "resumed after s, at most": round(max(resumed), 2)}
    show(capsys, f"server killed at {PER_SECOND} messages/s", figures)
    assert figures["lost"] == figures["duplicates"] == 0, figures
    assert max(resumed) <= RESUME_BOUND_S, figures


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


def test_a_role_swap_loses_nothing_that_a_replica_confirmed(tmp_path, capsys):
    servers = RedisServer(tmp_path / "a"), RedisServer(tmp_path / "b")
    with running(*servers) as [master, replica], Proxy(master.port) as proxy:
        with replica.client() as client:
            client.replicaof("127.0.0.1", master.port)
        wait_until_in_step(master)
        resumed = []
        url = f"redis://127.0.0.1:{proxy.port}/0"
        with open_site(
            tmp_path / "site", RedisSite, server=master, url=url, min_replicas=1
        ) as site:
            workers, producer = start_load(site, SWAPS * 2.5)
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
            end_load(site, workers, producer)
            figures = figures_of(site)

    figures |= {"swaps": SWAPS, "resumed after s, at most": round(max(resumed), 2)}
    show(capsys, "role swaps, with one replica to confirm", figures)
    assert figures["lost"] == 0, figures
    assert max(resumed) <= RESUME_BOUND_S, figures


def test_a_failover_by_sentinels_loses_nothing_that_a_replica_confirmed(tmp_path, capsys):
    servers = RedisServer(tmp_path / "a"), RedisServer(tmp_path / "b")
    with running(*servers) as [master, replica]:
        with replica.client() as client:
            client.replicaof("127.0.0.1", master.port)
        wait_until_in_step(master)
        with running(SentinelServer(tmp_path / "sentinel", master.port)) as [sentinel]:
            with redis.Redis(port=sentinel.port, decode_responses=True) as watch:
                wait_until(lambda: watch.sentinel_slaves("mymaster"), timeout_s=20)
                url = f"sentinel://127.0.0.1:{sentinel.port}"
                with open_site(
                    tmp_path / "site", RedisSite, server=replica, url=url, min_replicas=1
                ) as site:
                    # Until the failover it is read from the replica.
                    workers, producer = start_load(site, 8)
                    master.kill()
                    address = ("127.0.0.1", replica.port)
                    wait_until(
                        lambda: watch.sentinel_get_master_addr_by_name("mymaster") == address,
                        timeout_s=30,
                    )
                    resumed_s = site.wait_for_work(now_ns())
                    master.start()
                    end_load(site, workers, producer)
                    figures = figures_of(site)

    figures["resumed after s"] = round(resumed_s, 2)
    show(capsys, "failover by sentinels, with one replica to confirm", figures)
    assert figures["lost"] == 0, figures
    assert resumed_s <= RESUME_BOUND_S, figures


def fill(broker):
    """Send until memory is full; return the numbers that were accepted."""
    accepted = []
    while True:
        number = len(accepted)
        name = ("work", "fail_once", "work", "fail")[number % 4]
        message = Message("default", name, (number,), {}, {"ballast": "x" * 1000})
        try:
            broker.enqueue(message, delay=50 if number % 3 == 0 else None)
        except BrokerConnectionError as error:
            assert "maxmemory" in str(error)
            return accepted
        accepted.append(number)


@pytest.mark.parametrize("has_dead_worker", [False, True])
def test_a_full_server_drains_unaided(tmp_path, capsys, has_dead_worker):
    server = RedisServer(tmp_path / "redis", maxmemory="6mb", maxmemory_policy="noeviction")
    options = {"heartbeat_timeout": 1000}
    with (
        running(server),
        open_site(tmp_path / "site", RedisSite, server=server, **options) as site,
    ):
        broker = site.make_broker()
        declare(broker, site.ledger.path)
        if has_dead_worker:
            # On another machine: nobody sees that its process is gone.
            victim = site.start_worker(prefix=("unshare", "--uts", "sh", "-c", ELSEWHERE, "sh"))
            broker.enqueue_many(
                Message("default", "work", (number, 60_000), {}, {}) for number in range(-4, 0)
            )
            site.wait_until(lambda: site.ledger.count("start") == 4, "it is busy")
        accepted = fill(broker)
        if has_dead_worker:
            victim.kill()
            site.client.hset(site.layout.queue("default").payloads, mapping=shortened(site))
        worker = site.start_worker(threads=8)
        site.wait_until_drained()
        broker.enqueue(Message("default", "work", (len(accepted),), {}, {}))
        site.wait_until(lambda: len(accepted) in site.ledger.numbers("end"), "it runs again")
        assert worker.stop() == 0
        broker.close()
        broker.client.close()

        ended = set(site.ledger.numbers("end"))
        figures = {
            "accepted": len(accepted),
            "dead": site.counts()[3],
            "lost": len({n for n in accepted if n % 4 != 3} - ended),
            "duplicates": len(site.ledger.duplicates()),
        }
        show(capsys, "server without memory", figures)
        assert figures["lost"] == figures["duplicates"] == 0, figures
        assert figures["dead"] == len(accepted) // 4
        assert not has_dead_worker or {*range(-4, 0)} <= ended
        site.check_store()


#: Runs a program on a machine with another name.
ELSEWHERE = 'hostname elsewhere; exec "$@"'


def shortened(site):
    raise NotImplementedError


@pytest.mark.parametrize("outcome", ["follow-up", "dead letter", "retry"])
def test_nothing_is_settled_before_its_consequences_are_stored(server, tmp_path, outcome):
    with (
        open_site(tmp_path / "site", RedisSite, server=server) as site,
        server.client() as client,
    ):
        client.acl_setuser("fragile", enabled=True, passwords=["+secret"], keys=["*"],
                           categories=["+@all"])
        broker = site.make_broker()
        actors = declare(broker, site.ledger.path)
        site.database = f"redis://fragile:secret@127.0.0.1:{server.port}/0"
        worker = site.start_worker()
        # Whatever stores anything fails, though the server is there.
        client.acl_setuser("fragile", enabled=True, commands=["-hset"])
        if outcome == "follow-up":
            steps = [actors["pass_on"].message(1), actors["work"].message()]
            pipeline = make_pipeline(broker, steps)
            pipeline.run()
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
        broker.close()
        broker.client.close()


def make_pipeline(broker, steps):
    from dramatiq import pipeline

    return pipeline(steps, broker=broker)
