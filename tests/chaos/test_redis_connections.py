"""Connections to Redis are cut at every byte, go silent, or lose replies: nothing runs twice."""

from __future__ import annotations

import random
import time
from contextlib import contextmanager
from functools import partial

import pytest

from dramatiq.brokers.redis import RedisBroker, bell, consumer
from dramatiq.brokers.redis.scripts import load
from dramatiq.delivery import FollowUps, Outcome, Settlement
from dramatiq.errors import BrokerConnectionError
from dramatiq.message import Message
from dramatiq.middleware import CurrentMessage
from dramatiq.testing.waiting import wait_until
from dramatiq.worker import Worker
from tests.chaos.harness import open_site
from tests.chaos.program import declare, make_broker
from tests.chaos.redis_harness import IS_FULL, SEED, RedisSite, Snapshot, now_ns, show
from tests.proxy import REPLY, REQUEST, Proxy

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(900)]

#: After how many bytes, and at which reply, a connection is cut.
BYTES = range(1, 4097) if IS_FULL else sorted(random.Random(SEED).sample(range(1, 4097), 80))
REPLIES = range(1, 15)
#: Seconds by which everything is delayed on a slow line, more or less as much.
DELAY_S = 0.2 if IS_FULL else 0.1
#: Seconds a half-open connection stays so.
SILENCE_S = 60 if IS_FULL else 4


@pytest.fixture
def proxy(redis_server):
    with Proxy(redis_server.port, SEED) as proxy:
        yield proxy


@pytest.fixture
def direct(redis_server):
    with redis_server.client() as client:
        client.flushdb()
        yield client


@contextmanager
def open_broker(proxy, **options):
    broker = make_broker(f"redis://127.0.0.1:{proxy.port}/0", namespace="chaos", **options)
    broker.add_middleware(CurrentMessage())
    broker.declare_queue("default")
    try:
        yield broker
    finally:
        broker.close()
        broker.client.close()


def snapshot(broker, direct):
    return Snapshot(direct, broker.layout, ["default"])


class Scenario:
    """Four messages through one consumer, each with another end, and one that is delayed.

    The thread of a worker does the same with them, but for the time that it takes.
    """

    def __init__(self, broker, direct):
        self.broker, self.direct = broker, direct
        self.finished = []
        self.consumers = {name: broker.consume(name) for name in ("default", "default.DQ")}
        self.unsettled = []

    def run(self):
        for name, delay in (("ack", None), ("retry", None), ("nack", None), ("again", None)):
            self.broker.enqueue(Message("default", name, (), {}, {}), delay=delay)
        self.broker.enqueue(Message("default", "ack", ("delayed",), {}, {}), delay=1)
        deadline = time.monotonic() + 10
        while snapshot(self.broker, self.direct).counts("default") != [0, 0, 0, 1]:
            assert time.monotonic() < deadline, (self.finished, snapshot(self.broker, self.direct))
            for each in self.consumers.values():
                self.step(each)

    def step(self, each):
        settlements = self.unsettled if each.queue_name == "default" else []
        try:
            _, messages = each.exchange(settlements, 10, 20)
        except BrokerConnectionError:
            assert each.recover()
            return
        if each.queue_name == "default":
            self.unsettled = [self.finish(message) for message in messages]

    def finish(self, message):
        """Return what becomes of a message, and write down that it ran unless it is given back."""
        name = message.actor_name
        if name == "again" and "again" not in self.finished:
            self.finished.append("again")
            return Settlement(message, Outcome.REQUEUE)
        self.finished.append(" ".join((name, *message.args)))
        if name == "nack":
            return Settlement(message, Outcome.NACK, reason="failed")
        if name == "retry":
            with FollowUps(self.broker, collects=True) as message._follow_ups:
                self.broker.enqueue(Message("default", "ack", ("retried",), {}, {}), delay=1)
        return Settlement(message, Outcome.ACK)

    def close(self):
        for each in self.consumers.values():
            each.close()


EXPECTED = ["ack", "ack delayed", "ack retried", "again", "again", "nack", "retry"]


def check_cuts(proxy, direct, faults):
    """Run the scenario with each fault; return how many of them struck."""
    struck = 0
    for plan in faults:
        direct.flushdb()
        with open_broker(proxy) as broker:
            fault = plan()
            scenario = Scenario(broker, direct)
            scenario.run()
            struck += fault.struck.is_set()
            # Nothing may be left of it for the next round.
            fault.struck.set()
            fault.release()
            broken = snapshot(broker, direct).find_broken()
            scenario.close()
        assert sorted(scenario.finished) == EXPECTED, (fault.act, fault.direction, fault.left)
        assert not broken, (broken, fault.act, fault.direction, fault.left)
    return struck


@pytest.fixture
def _quick_reconcile(monkeypatch):
    monkeypatch.setattr(consumer, "CONFIRM_S", 0.02)


@pytest.mark.usefixtures("_quick_reconcile")
@pytest.mark.parametrize("direction", [REQUEST, REPLY])
def test_a_connection_cut_after_any_byte_loses_nothing_and_repeats_nothing(
    proxy, direct, capsys, direction
):
    struck = check_cuts(
        proxy,
        direct,
        (partial(proxy.cut_after, count, direction, reset=count % 2 == 0) for count in BYTES),
    )

    show(capsys, f"cut {direction} after n bytes", {"rounds": len(BYTES), "struck": struck})
    assert struck > len(BYTES) / 3


@pytest.mark.usefixtures("_quick_reconcile")
def test_a_lost_reply_loses_nothing_and_repeats_nothing(proxy, direct, capsys):
    struck = check_cuts(
        proxy, direct, (partial(proxy.drop_reply, k, requesting=b"EVALSHA") for k in REPLIES)
    )

    show(capsys, "reply k lost", {"rounds": len(REPLIES), "struck": struck})
    assert struck > len(REPLIES) / 2


@contextmanager
def working(broker, ledger):
    """Run a worker in this process."""
    actors = declare(broker, ledger)
    worker = Worker(broker, worker_timeout=1000, worker_threads=4)
    worker.start()
    try:
        yield actors
    finally:
        worker.stop()


@pytest.fixture
def site(tmp_path, redis_server):
    with open_site(tmp_path, RedisSite, server=redis_server) as site:
        site.client.flushdb()
        yield site


@pytest.fixture
def _patience(monkeypatch):
    """Shorten all waits by the same, unless there is time."""
    if not IS_FULL:
        monkeypatch.setattr(bell, "RING_TIMEOUT_S", 0.5)
        monkeypatch.setattr(bell, "COMMAND_TIMEOUT_S", 0.5)
        monkeypatch.setattr("dramatiq.worker.CONSUMER_RESTART_DELAY_SECS", 0.3)


@pytest.mark.usefixtures("_patience")
@pytest.mark.parametrize("new_too", [False, True])
def test_half_open_connections_are_noticed(proxy, site, capsys, new_too):
    options = {} if IS_FULL else {"socket_timeout": 0.5, "socket_connect_timeout": 0.5}
    producer = site.make_broker()
    send = declare(producer, site.ledger.path)["work"].send
    with open_broker(proxy, **options) as broker, working(broker, site.ledger.path):
        for number in range(20):
            send(number, 100)
        site.wait_until(lambda: site.ledger.count("start") > 4, "it is busy")

        proxy.fall_silent(new_too=new_too)
        silent_ns = now_ns()
        for number in range(20, 40):
            send(number, 0)
        if new_too:
            time.sleep(SILENCE_S)
            proxy.heal()
            silent_ns = now_ns()
        resumed_s = site.wait_for_work(silent_ns + 500_000_000 * (not new_too))
        site.wait_until_drained()
        site.check_store()
    producer.close()

    figures = {
        "silent s": SILENCE_S if new_too else "for ever",
        "resumed after s": round(resumed_s + 0.5 * (not new_too), 2),
        "lost": 40 - len(set(site.ledger.numbers("end"))),
        "duplicates": sum(site.ledger.duplicates().values()),
    }
    show(capsys, "half-open connections", figures)
    assert figures["lost"] == figures["duplicates"] == 0, figures
    assert figures["resumed after s"] <= (15 if IS_FULL else 3), figures


def test_a_slow_line_loses_nothing_and_repeats_nothing(proxy, site, capsys):
    proxy.delay_s = proxy.jitter_s = DELAY_S
    with open_broker(proxy) as broker, working(broker, site.ledger.path) as actors:
        actors["work"].send_many([(number,) for number in range(16)])
        actors["fail_once"].send_many([(number,) for number in range(16, 20)])
        site.wait_until_drained()
    site.check_store()

    figures = {"delay s": DELAY_S, "duplicates": site.ledger.duplicates()}
    show(capsys, "a slow line", figures)
    assert sorted(site.ledger.numbers("end")) == list(range(20))


def test_late_commands_of_a_dead_worker_change_nothing(proxy, redis_server, tmp_path, capsys):
    url = f"redis://127.0.0.1:{proxy.port}/0"
    with (
        open_site(tmp_path, RedisSite, server=redis_server, namespace="late", url=url) as site,
        redis_server.client() as direct,
    ):
        direct.flushdb()
        broker = RedisBroker(url=redis_server.url, namespace="late")
        work = declare(broker, site.ledger.path)["work"]
        # As many as it has threads, so that its next command settles one and fetches others.
        work.send_many([(number, 400) for number in range(2)])
        victim = site.start_worker(threads=2)
        site.wait_until(lambda: site.ledger.count("start") == 2, "it is busy")
        late = proxy.hold_request(matching=load("ack").sha)
        work.send_many([(number, 1000) for number in range(2, 6)])
        late.wait()
        request = b"".join(link.request for link in proxy.links)
        [dead] = site.workers_of(victim.pid)
        victim.kill()
        site.database = redis_server.url
        heir = site.start_worker(threads=8)
        site.wait_until(lambda: len(site.running(heir.pid)) == 6, "another took all over")
        held = site.leased_to(heir.pid)

        late.release()
        wait_until(lambda: not proxy.links)

        assert load("fetch").sha in request
        assert site.leased_to(heir.pid) == held == 6
        assert not [worker for worker, _ in site.snapshot().acks if worker == dead]
        assert direct.zscore(site.layout.heartbeats, dead) is None
        site.check_store()
        site.wait_until_drained()
        assert heir.stop() == 0
        broker.close()
        broker.client.close()
        assert site.lost() == set()
        assert set(site.ledger.duplicates()) <= {0, 1}
