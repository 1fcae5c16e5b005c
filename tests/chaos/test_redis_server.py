"""What a Redis server may do to its workers: die, fill up, keep a million delayed messages."""

from __future__ import annotations

import random
import time

import pytest
import redis

from dramatiq.brokers.redis import RedisBroker
from dramatiq.errors import BrokerConnectionError
from dramatiq.message import Message
from tests.chaos.harness import open_site
from tests.chaos.redis_harness import IS_FULL, SEED, RedisSite, now_ns, show
from tests.chaos.test_delayed_backlog import (
    GROWTH_BOUND_MIB,
    LATE_BOUND_MS,
    lateness_ms,
    resident_mib,
    send_near,
)
from tests.servers import RedisServer

#: How often the server is killed, and seconds between two kills.
KILLS, BETWEEN_KILLS_S = (12, 5.0) if IS_FULL else (3, 1.5)
#: Messages per second that are sent meanwhile, and for how many times as long as the kills should
#: take: a server that has much to load when it is back makes them take longer.
PER_SECOND, LONGER = 1000, 3 if IS_FULL else 1.5
#: Seconds after the server's return within which work must go on.
RESUME_BOUND_S = 5.0
#: Messages in a server that is full.
MESSAGES_IN_FULL_SERVER = 5000
#: Messages with a delay of an hour.
DELAYED = 1_000_000 if IS_FULL else 30_000
LATER = 3_600_000
#: Messages that are due together.
DUE = 6000


@pytest.fixture
def server(tmp_path):
    # Every write is on the disk before its answer: what the kernel keeps is not at stake here.
    server = RedisServer(tmp_path / "server").start()
    yield server
    server.kill()


@pytest.fixture
def site(tmp_path, server):
    with open_site(tmp_path / "site", RedisSite, server=server, namespace="server") as site:
        yield site


@pytest.fixture
def broker(server):
    broker = RedisBroker(url=server.url, namespace="server")
    broker.declare_queue("default")
    yield broker
    broker.close()
    broker.client.close()


def message(number, duration_ms=0):
    return Message("default", "work", (number, duration_ms), {}, {})


@pytest.mark.chaos
@pytest.mark.timeout(300)
def test_a_server_that_is_killed_again_and_again_loses_nothing(server, site, capsys):
    rng = random.Random(SEED)
    for _ in range(2):
        site.start_worker(threads=4)
    count = int(LONGER * KILLS * BETWEEN_KILLS_S * PER_SECOND)
    producers = [site.start("produce", 0, count, 1, PER_SECOND)]
    site.wait_until(lambda: site.ledger.count("end"), "work has begun")

    resumed = []
    for _ in range(KILLS):
        time.sleep(BETWEEN_KILLS_S * rng.uniform(0.8, 1.2))
        first = count * len(producers)
        if site.ledger.count("sent") + site.ledger.count("unknown") > first - PER_SECOND:
            # A slow machine takes so long that there would be no work to go on with.
            producers.append(site.start("produce", first, count, 1, PER_SECOND))
        server.restart()
        resumed.append(site.wait_for_work(now_ns()))
    for producer in producers:
        producer.wait(240)
    site.wait_until_drained(60)

    figures = {
        "sent": site.ledger.count("sent"),
        "kills": KILLS,
        "unknown": site.ledger.count("unknown"),
        "lost": len(site.lost()),
        "duplicates": len(site.ledger.duplicates()),
        "consuming again after s": [round(each, 2) for each in resumed],
    }
    show(capsys, "a server that is killed", figures)
    site.check_store()
    assert figures["lost"] == 0, figures
    assert max(resumed) <= RESUME_BOUND_S, figures


@pytest.mark.chaos
def test_a_full_server_is_emptied_unaided(server, site, broker, capsys):
    broker.enqueue_many([message(number) for number in range(MESSAGES_IN_FULL_SERVER)])
    broker.enqueue_many([message(-1 - number) for number in range(100)], delay=1000)
    with server.client() as client:
        client.config_set("maxmemory", client.info("memory")["used_memory"] - 1)
    with pytest.raises(BrokerConnectionError, match="maxmemory") as refused:
        broker.enqueue(message(10**6))
    assert isinstance(refused.value, redis.ResponseError)

    began_ns = now_ns()
    site.start_worker(threads=4)
    count = MESSAGES_IN_FULL_SERVER + 100
    site.wait_until(lambda: len(set(site.ledger.numbers("end"))) == count, "all have run")

    figures = {
        "messages": count,
        "run": len(set(site.ledger.numbers("end"))),
        "duplicates": len(site.ledger.duplicates()),
        "seconds": round((now_ns() - began_ns) / 1e9, 1),
    }
    show(capsys, "a server at its maxmemory", figures)
    assert figures["run"] == figures["messages"]
    assert figures["duplicates"] == 0


@pytest.mark.chaos
@pytest.mark.timeout(900)
def test_delayed_messages_are_kept_in_the_server_and_moved_in_time(site, broker, capsys):
    worker = site.start_worker(threads=4)
    send_near(broker, 1)
    site.wait_until(lambda: site.ledger.numbers("end") == [1], "a near message has run")
    before = resident_mib(worker.pid)

    for start in range(0, DELAYED, 10_000):
        broker.enqueue_many([message(number) for number in range(10_000)], delay=LATER + start)
    late = [lateness_ms(site, broker, number) for number in range(2, 7)]
    site.wait_until(lambda: parked(site) == DELAYED, "all are parked", 300)
    late += [lateness_ms(site, broker, number) for number in range(7, 12)]
    growth = resident_mib(worker.pid) - before
    broker.enqueue_many([message(100 + number) for number in range(DUE)], delay=2000)
    due_ns = now_ns() + 2_000_000_000
    site.wait_until(lambda: site.ledger.count("end") >= 11 + DUE, "those that are due have run", 60)
    starts = sorted(
        (each.at_ns - due_ns) / 1e9
        for each in site.ledger.entries()
        if each.kind == "start" and each.number >= 100
    )
    worker.kill()
    heir = site.start_worker(threads=4)
    late_after_restart = lateness_ms(site, broker, 99)

    figures = {
        "delayed": DELAYED,
        "worker grew by MiB": round(growth, 1),
        "near messages late by ms": [round(each) for each in late],
        "after a kill": round(late_after_restart),
        "due together": DUE,
        "the last started s after": round(starts[-1], 2),
    }
    show(capsys, "delayed messages", figures)
    assert growth < GROWTH_BOUND_MIB, figures
    assert max(late) < LATE_BOUND_MS, figures
    assert heir.stop() == 0
    assert site.counts() == [0, DELAYED, 0, 0]


def parked(site):
    return site.client.zcard(site.layout.queue("default.DQ").etas)
