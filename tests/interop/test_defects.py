"""Defects of the published 2.2.1, one test each, run by both fleets against the same fault.

This library has to survive the fault. For 2.2.1 the same test demands that the defect shows: so it
is certain that the fault was one, and that the test can fail. The first comment of each test says
what goes wrong there.
"""

from __future__ import annotations

import time
import uuid

import pytest

from tests.interop.harness import OLD, OURS, RemoteError
from tests.proxy import Proxy
from tests.servers import RedisServer

#: Heartbeats that are missed soon, maintenance with every command of 2.x (it comes by chance
#: otherwise), and a client that does not try again by itself.
QUICK = {"heartbeat": 1000, "maintenance": 1_000_000, "retries": 0}
#: Seconds in which 2.2.1 is given the chance to recover: twice its heartbeat timeout.
PATIENCE_S = 2.0


@pytest.fixture
def proxy(redis_server):
    with Proxy(redis_server.port) as proxy:
        yield proxy


@pytest.fixture
def make_site(proxy, make_site):
    """Make sites that end before the proxy does: workers stop slowly without a server."""
    del proxy
    return make_site


@pytest.fixture
def site(make_site):
    return make_site(**QUICK)


@pytest.fixture
def console(site, proxy, fleet):
    """The fleet under test, which reaches the server through the proxy."""
    return site.console(fleet, port=proxy.port)


def check(site, fleet, condition, what):
    """Demand that the condition comes true; of 2.2.1, that it does not."""
    if fleet == OURS:
        site.wait_until(condition, what)
    else:
        assert not site.comes_true(condition, PATIENCE_S), f"no defect: {what}"


def leases(site, *names):
    return sum(len(ids) for name in names for ids in site.leased(name).values())


def all_ended(site, count):
    return lambda: set(range(count)) == set(site.ledger.numbers())


def test_e1_messages_whose_fetch_lost_its_reply_are_run(site, proxy, console, fleet):
    # They stay leased to the worker, which lives and holds nothing of them.
    console("for n in range(10): work.send(n)")
    fault = proxy.drop_reply(matching=b'"actor_name"')

    console("start(threads=2, prefetch=4)")
    fault.wait()

    check(site, fleet, all_ended(site, 10), "all have run")
    assert not site.ledger.repeated("start")
    console("stop()")
    assert (0 if fleet == OURS else 4) == leases(site, "default")


def test_e2_w3_a_malformed_payload_harms_nothing_but_itself(site, console, fleet):
    # DecodeError ends the consumer; what was fetched with the bad payload stays leased.
    bad = str(uuid.uuid4())
    site.redis.hset(site.key("default.msgs"), bad, "{bad")
    site.redis.rpush(site.key("default"), bad)
    console("for n in range(3): work.send(n)")

    console("start(threads=2, prefetch=4)")

    check(site, fleet, all_ended(site, 3), "its neighbours have run")
    console("stop()")
    if fleet == OURS:
        site.wait_until_drained()
        assert {bad: "{bad"} == site.redis.hgetall(site.key("default.XQ.msgs"))
    else:
        assert 4 == leases(site, "default")


def test_e3_w1_delayed_messages_survive_a_connection_error(site, proxy, console, fleet):
    # The list of delayed messages in memory is dropped, their leases are not.
    console("start()")
    console("for n in range(5): work.send_with_options(args=(n,), delay=1000)")
    site.wait_until(lambda: 0 == site.waiting("default.DQ"), "they are taken up")

    proxy.refuse()
    noticed = "Consumer encountered a connection error"
    if fleet != OURS:  # ours says it once, for all queues
        noticed = f"ConsumerThread(default.DQ) {noticed}"
    site.wait_until(lambda: noticed in console.output, "the consumer has noticed")
    proxy.accept()

    check(site, fleet, all_ended(site, 5), "all have run")
    assert not site.ledger.repeated()
    console("stop()")
    assert (0 if fleet == OURS else 5) == leases(site, "default.DQ")


def test_e4_a_retry_that_cannot_be_stored_at_first_is_not_lost(site, proxy, console, fleet):
    # The error of the middleware is logged, and the message acknowledged all the same.
    fault = proxy.drop_request(requesting=b'"retries":1')
    console("start()")

    console("fail_twice.send(1)")
    fault.wait()

    check(site, fleet, lambda: [1] == site.ledger.numbers(), "it has run to its end")
    if fleet == OURS:
        assert 3 == site.ledger.count("start")
    else:
        assert not any(site.left().values())
        assert not site.dead()


def test_e6_messages_are_acknowledged_when_the_servers_memory_is_full(tmp_path, make_site, fleet):
    # Each command begins with a write of the heartbeat, which the server then refuses.
    server = RedisServer(tmp_path / "full", maxmemory_policy="noeviction").start()
    try:
        site = make_site(server, **QUICK)
        console = site.console(fleet)
        console("for n in range(4): work.send(n, 500)")
        console("start(threads=4)")
        site.wait_for(4, "start")

        def none_left():
            return not site.redis.exists(site.key("default.msgs"))

        site.redis.config_set("maxmemory", 1)

        check(site, fleet, none_left, "all are acknowledged")

        assert [0, 1, 2, 3] == site.ledger.numbers()
        # With memory again, 2.2.1 does not come back to what it gave up.
        site.redis.config_set("maxmemory", 0)
        check(site, fleet, none_left, "all are acknowledged")
        console("stop()")
    finally:
        site.close()
        server.kill()


def test_e7_a_near_message_is_not_blocked_by_far_ones(site, console, fleet):
    # A worker reads delayed messages in the order of their arrival until its memory is full.
    console("for n in range(1, 21): work.send_with_options(args=(n,), delay=3_600_000)")
    console("start(delay_prefetch=10)")
    site.wait_until(lambda: site.waiting("default.DQ") <= 10, "the far ones are taken up")

    console("work.send_with_options(args=(0,), delay=200)")

    check(site, fleet, lambda: [0] == site.ledger.numbers(), "the near one has run")


def test_e8_w5_a_busy_worker_is_not_taken_for_dead(site, console, fleet):
    # Heartbeats come with fetches, and who has all it may hold does not fetch.
    console("work.send_with_options(args=(9,), delay=3_600_000)")
    console("for n in range(2): work.send(n, 3000)")
    console("start(threads=2, prefetch=2, delay_prefetch=1, queues={'default'})")
    site.wait_for(2, "start")

    site.console(fleet, 1)("start()")

    site.wait_for(2)
    assert ([] if fleet == OURS else [0, 1]) == site.ledger.repeated("start")


def test_w2_a_worker_that_stops_gives_back_what_it_has_just_fetched(site, proxy, console, fleet):
    # The consumer runs what it is at, and forgets what it fetched along with that.
    console("start()")
    fault = proxy.hold_reply(matching=b'"actor_name"')
    with site.redis.pipeline() as pipeline:
        pipeline.rpush(site.key("default"), *[site.store_raw(n) for n in range(4)])
        pipeline.execute()
    fault.wait()

    console(
        "import threading\n"
        "consumers = list(worker.consumers.values())\n"
        "stopping = threading.Thread(target=stop)\n"
        "stopping.start()"
    )
    site.wait_until(
        lambda: not console("any(each.running for each in consumers)"), "its consumers stop"
    )
    fault.release()
    console("stopping.join(20)")

    assert not console("stopping.is_alive()")
    has_all = not leases(site, "default") and 4 == site.waiting() + site.ledger.count()
    assert (fleet == OURS) == has_all


def test_w4_an_acknowledgement_that_times_out_is_repeated(make_site, proxy, fleet):
    # The client's TimeoutError is none that a worker knows; the message stays leased.
    site = make_site(**QUICK, timeout=0.5)
    console = site.console(fleet, port=proxy.port)
    identifier = site.store_raw(0)
    fault = proxy.hold_request(requesting=identifier.encode())
    console("start()")

    site.redis.rpush(site.key("default"), identifier)
    fault.wait()

    check(site, fleet, lambda: not any(site.left().values()), "it is acknowledged")
    assert [0] == site.ledger.numbers()


@pytest.mark.parametrize("lost", ["request", "reply"])
def test_w4_an_enqueue_whose_connection_breaks_is_repeated(site, proxy, console, fleet, lost):
    # The client's error goes straight to the caller.
    if lost == "request":
        proxy.drop_request(requesting=b'"actor_name"')
    else:
        proxy.drop_reply(requesting=b'"actor_name"')

    if fleet == OURS:
        console("work.send(0)")
        assert 1 == site.waiting() == site.left()["default"]
    else:
        with pytest.raises(RemoteError) as caught:
            console("work.send(0)")
        assert "redis.exceptions.ConnectionError" == caught.value.bases[0]


def test_w4_an_enqueue_without_a_server_raises_an_error_of_the_library(site, proxy, console, fleet):
    # It is the client's alone, which callers have to know then.
    proxy.refuse()

    with pytest.raises(RemoteError) as caught:
        console("work.send(0)")

    assert "redis.exceptions.ConnectionError" in caught.value.bases
    assert (fleet == OURS) == ("dramatiq.errors.BrokerConnectionError" in caught.value.bases)


def test_w5_an_idle_worker_leaves_the_server_alone(make_site, proxy, fleet):
    # It asks again and again, five times a second with the timeout that these workers have.
    site = make_site()
    console = site.console(fleet, port=proxy.port)
    console("start(queues={'default'})")
    console("work.send(0)")
    site.wait_until_drained()
    if fleet == OURS:
        # It waits in the server for its queue and its delay queue; connecting is over.
        site.wait_until(
            lambda: site.redis.info("clients")["blocked_clients"] == 2, "it waits for messages"
        )

    # Long enough for what is done once a minute to count as what it is.
    before, began = proxy.requests, time.monotonic()
    time.sleep(15)
    requests, elapsed_s = proxy.requests - before, time.monotonic() - began

    assert (fleet == OURS) == (requests / elapsed_s < 2), (requests, elapsed_s)


def store_lease_of_the_dead(site):
    """Leave a message behind as a worker that died long ago does."""
    identifier = site.store_raw(0)
    dead = str(uuid.uuid4())
    site.redis.sadd(site.key(f"__acks__.{dead}.default"), identifier)
    site.redis.zadd(site.key("__heartbeats__"), {dead: 1})


def test_w6_a_worker_needs_no_command_that_searches_all_keys(make_site, redis_server, fleet):
    # Maintenance calls KEYS, which blocks large servers, and which many providers forbid.
    redis_server.client().acl_setuser(
        "frugal", enabled=True, passwords=["+secret"], keys=["*"], channels=["*"],
        categories=["+@all"], commands=["-keys"],
    )  # fmt: skip
    site = make_site(**QUICK, user="frugal")
    console = site.console(fleet)
    store_lease_of_the_dead(site)

    console("start()")

    check(site, fleet, all_ended(site, 1), "what the dead held has run")
    assert (fleet == OLD) == ("can't run this command" in console.output)


def test_w7_dead_workers_are_noticed_without_luck(make_site, fleet):
    # Maintenance comes with one of a thousand commands, here with one of a million.
    site = make_site(**{**QUICK, "maintenance": 1})
    console = site.console(fleet)
    store_lease_of_the_dead(site)

    console("start()")

    check(site, fleet, all_ended(site, 1), "what the dead held has run")
