"""How workers live together on one server: what they cost, and what becomes of those that die."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
import uuid

import pytest

import dramatiq
from dramatiq.brokers import _processes
from dramatiq.brokers.redis import caretaker, consumer
from dramatiq.brokers.redis.membership import Sibling
from dramatiq.common import current_millis
from dramatiq.delivery import Outcome, Settlement
from dramatiq.errors import BrokerConnectionError
from dramatiq.testing.waiting import wait_until

PARKING = "00000000-0000-4000-8000-000000000000"
HEARTBEATS = "dramatiq:__heartbeats__"

#: Says that it holds its messages, and runs until it is killed.
SIBLING = """
import sys, threading
import dramatiq
from dramatiq.brokers.redis import RedisBroker

broker = RedisBroker(url=sys.argv[1])
entered = threading.Event()

@dramatiq.actor(broker=broker, queue_name="q")
def note(number):
    entered.set()
    threading.Event().wait()

worker = dramatiq.Worker(broker, worker_threads=2)
worker.start()
entered.wait()
print(broker.broker_id, flush=True)
threading.Event().wait()
"""


@pytest.fixture
def broker(make_broker, redis):
    broker = make_broker()
    broker.ran = []
    broker.note = dramatiq.actor(
        broker.ran.append, broker=broker, actor_name="note", queue_name="q"
    )
    return broker


@pytest.fixture
def busy(broker):
    """An actor of the broker that runs until the test ends or opens the gate."""
    entered, gate = threading.Event(), threading.Event()

    @dramatiq.actor(broker=broker, queue_name="q", actor_name="busy")
    def busy():
        entered.set()
        assert gate.wait(30)

    busy.entered, busy.gate = entered, gate
    yield busy
    gate.set()


def acks(worker, queue_name="q"):
    return f"dramatiq:__acks__.{worker}.{queue_name}"


def workers(redis):
    return {each.decode() for each in redis.zrange(HEARTBEATS, 0, -1)} - {PARKING}


def registered(redis):
    return {each.decode() for each in redis.hkeys("dramatiq:#workers")}


def hold(redis, worker, *ids):
    """Make a worker hold what waits in the queue under these ids."""
    for each in ids:
        assert redis.lrem("dramatiq:q", 1, each)
        redis.sadd(acks(worker), each)


def send(broker, number):
    return broker.note.send(number).options["redis_message_id"]


# -- what an idle worker costs


@pytest.mark.parametrize("is_something_parked", [False, True])
def test_an_idle_worker_costs_less_than_two_commands_a_second_and_queue(
    broker, redis, start_worker, is_something_parked
):
    broker.declare_queue("r")
    if is_something_parked:
        for name in ("q", "r"):
            broker.enqueue(broker.note.message(1).copy(queue_name=name), delay=3_600_000)
    start_worker(broker, worker_timeout=1000)
    wait_until(lambda: redis.info("clients")["blocked_clients"] == 4)
    if is_something_parked:
        wait_until(lambda: redis.exists("dramatiq:q.DQ#eta", "dramatiq:r.DQ#eta") == 2)
    redis.config_resetstat()
    began = time.monotonic()

    time.sleep(3)

    # What a script calls is counted too, under the names of what it calls.
    statistics = redis.info("commandstats")
    # On a busy machine it was more than three seconds.
    elapsed_s = time.monotonic() - began
    scripts = {"evalsha", "eval", "blmove", "set", "scan", "hgetall", "smembers"}
    sent = {
        name: values["calls"]
        for name, values in statistics.items()
        if name.removeprefix("cmdstat_") in scripts
    }
    assert sum(sent.values()) < 2 * 2 * elapsed_s, sent


def test_an_idle_worker_uses_next_to_no_processor_time(broker, redis, start_worker):
    start_worker(broker, worker_timeout=1000)
    wait_until(lambda: redis.info("clients")["blocked_clients"] == 2)
    used = time.process_time()

    time.sleep(2)

    assert time.process_time() - used < 0.1


# -- those that die


def test_what_was_running_waits_in_the_delay_queue_as_2x_writes_it(broker, redis):
    send(broker, 1)
    broker.do_qsize("q")  # beats
    [payload] = broker.do_fetch("q", 1)
    lease = json.loads(payload)["options"]["redis_message_id"].encode()
    now = time.time() * 1000

    broker.membership.blame(broker.broker_id, ["q", "q.DQ"], [lease], 3)

    assert [lease] == redis.lrange("dramatiq:q.DQ", 0, -1)
    assert (0, 0) == (redis.hlen("dramatiq:q.msgs"), redis.scard(acks(broker.broker_id)))
    message = json.loads(redis.hget("dramatiq:q.DQ.msgs", lease))
    assert message["queue_name"] == "q.DQ"
    assert message["options"]["redis_message_id"] == lease.decode()
    assert 900 <= message["options"]["eta"] - now <= 3000
    assert redis.hget("dramatiq:q#crash", lease) == b"1"


def test_what_others_cannot_read_does_not_wait(broker, redis):
    broker.do_enqueue("q", "strange", b"no message")
    broker.do_fetch("q", 1)

    broker.membership.blame(broker.broker_id, ["q"], [b"strange"], 3)

    assert [b"strange"] == redis.lrange("dramatiq:q", 0, -1)
    assert redis.hget("dramatiq:q.msgs", "strange") == b"no message"


def test_what_a_killed_worker_of_this_machine_held_comes_back_within_seconds(
    broker, redis, redis_server, start_worker
):
    ids = {send(broker, number) for number in range(4)}
    sibling = subprocess.Popen(
        [sys.executable, "-c", SIBLING, redis_server.url], stdout=subprocess.PIPE, text=True
    )
    try:
        name = sibling.stdout.readline().strip()
        assert redis.scard(acks(name)) >= 2
        start_worker(broker)
        wait_until(lambda: registered(redis) == {name, broker.broker_id})
        broker_ran = broker.ran
        wait_until(lambda: len(broker_ran) == 4 - redis.scard(acks(name)))
        # The caretaker has to have seen it alive.
        wait_until(lambda: any(each.worker == name for each in broker._caretaker._siblings))
    finally:
        sibling.kill()
        sibling.wait()
        sibling.stdout.close()

    # What was not running at once, the other two a second later.
    wait_until(lambda: sorted(broker.ran) == [0, 1, 2, 3], timeout_s=3)

    assert 4 == len(ids)
    wait_until(lambda: registered(redis) == {broker.broker_id})
    assert not redis.exists(acks(name))


def test_a_process_of_another_user_is_alive():
    # Process 1 is another user's unless the test runs as root; the child makes sure of it.
    program = (
        "import os\n"
        "from dramatiq.brokers._processes import started\n"
        "from dramatiq.brokers.redis.membership import Sibling\n"
        "siblings = Sibling('w', 1, started(1)), Sibling('w', 1, '0')\n"
        "if os.getuid() == 0: os.setuid(65534)\n"
        "print(*[each.is_alive for each in siblings])\n"
    )
    answer = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=20
    )

    assert "True False" == answer.stdout.strip()


def test_a_number_that_a_new_process_has_got_does_not_stand_for_the_old_one():
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    started = _processes.started(child.pid)

    assert Sibling("w", child.pid, started).is_alive
    assert not Sibling("w", child.pid, str(int(started) - 1)).is_alive
    child.kill()
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    assert not Sibling("w", child.pid, started).is_alive  # a zombie
    child.communicate()
    assert not Sibling("w", child.pid, started).is_alive


def test_a_worker_without_heartbeat_is_struck_off_and_what_it_held_runs(
    broker, redis, start_worker
):
    dead, living = str(uuid.uuid4()), str(uuid.uuid4())
    hold(redis, dead, send(broker, 1))
    hold(redis, living, send(broker, 2))
    now = current_millis()
    redis.zadd(HEARTBEATS, {dead: now - 61_000, living: now - 50_000})

    start_worker(broker)

    wait_until(lambda: broker.ran == [1])
    wait_until(lambda: workers(redis) == {living, broker.broker_id})
    assert 1 == redis.scard(acks(living))


def test_a_worker_of_ours_on_another_machine_is_dead_after_30_seconds(broker, redis, start_worker):
    dead, living = str(uuid.uuid4()), str(uuid.uuid4())
    where = '{"host": "elsewhere", "pid": 1, "started": "1", "queues": ["q"], "recorders": []}'
    now = current_millis()
    hold(redis, dead, send(broker, 1))
    hold(redis, living, send(broker, 2))
    redis.zadd(HEARTBEATS, {dead: now - 31_000, living: now - 20_000})
    redis.hset("dramatiq:#workers", mapping={dead: where, living: where})

    start_worker(broker)

    wait_until(lambda: broker.ran == [1])
    wait_until(lambda: registered(redis) == {living, broker.broker_id})


def test_an_explicit_timeout_holds_for_all_workers(make_broker, redis, start_worker):
    broker = make_broker(heartbeat_timeout=5000)
    ran = []
    dramatiq.actor(ran.append, broker=broker, actor_name="note", queue_name="q").send(1)
    dead = str(uuid.uuid4())
    hold(redis, dead, redis.lindex("dramatiq:q", 0))
    redis.zadd(HEARTBEATS, {dead: current_millis() - 6000})

    start_worker(broker)

    wait_until(lambda: ran == [1])


def test_a_heap_of_idle_senders_is_struck_off_in_one_walk_through_the_keys(
    broker, redis, start_worker
):
    redis.zadd(HEARTBEATS, {f"sender-{number}": 1 for number in range(200)})
    redis.config_resetstat()

    start_worker(broker)

    wait_until(lambda: workers(redis) == {broker.broker_id})
    assert redis.info("commandstats")["cmdstat_scan"]["calls"] < 10


def test_what_is_leased_to_nobody_runs(broker, redis, start_worker, monkeypatch):
    monkeypatch.setattr(caretaker, "MAINTENANCE_S", 0.2)
    hold(redis, str(uuid.uuid4()), send(broker, 1))

    start_worker(broker)

    wait_until(lambda: broker.ran == [1])


# -- those that are taken for dead


def test_a_worker_that_was_struck_off_goes_on_under_a_new_name(
    broker, busy, redis, start_worker, monkeypatch
):
    monkeypatch.setattr("dramatiq.worker.CONSUMER_RESTART_DELAY_SECS", 0.1)
    worker = start_worker(broker, worker_threads=4)
    busy.send()
    assert busy.entered.wait(10)
    old = broker.broker_id

    redis.zrem(HEARTBEATS, old)
    broker.note.send(1)

    wait_until(lambda: broker.ran == [1])
    assert old != broker.broker_id
    wait_until(lambda: workers(redis) == {broker.broker_id})
    busy.gate.set()
    wait_until(lambda: not redis.exists("dramatiq:q.msgs"))
    assert not redis.exists(acks(old))
    worker.stop()
    # Nothing is left of either name, or what is parked would never go back.
    wait_until(lambda: not redis.exists("dramatiq:#workers"))


def test_late_settlements_of_a_worker_that_was_struck_off_move_nothing(broker, redis):
    message_id = send(broker, 1)
    taker = broker.consume("q")
    [message] = taker.fetch(1, 1000)

    redis.zrem(HEARTBEATS, taker.worker)
    redis.rename(acks(taker.worker), acks("another"))

    assert [False] == taker.settle([Settlement(message, Outcome.ACK)])
    assert [] == taker.fetch(1, 0)
    with pytest.raises(BrokerConnectionError, match="taken for dead"):
        taker.fetch(1, 0)
    assert not taker.recover()
    taker.close()
    assert {message_id.encode()} == redis.smembers(acks("another"))
    assert redis.hexists("dramatiq:q.msgs", message_id)
    assert not redis.exists("dramatiq:q")


def test_a_fetch_that_may_not_wait_looks_each_time(broker):
    taker = broker.consume("q")

    assert [] == taker.fetch(1, 0)
    broker.note.send(1)
    [message] = taker.fetch(1, 0)

    assert (1,) == tuple(message.args)
    taker.close()


# -- what is lost on the way


def test_what_is_leased_without_anybody_knowing_goes_back(broker, redis, start_worker, monkeypatch):
    monkeypatch.setattr(consumer, "RECONCILE_S", 0.2)
    monkeypatch.setattr(consumer, "CONFIRM_S", 0.1)
    worker = start_worker(broker)
    broker.note.send(0)
    wait_until(lambda: broker.ran == [0])
    worker.pause()
    message_id = send(broker, 1)

    hold(redis, broker.broker_id, message_id)
    worker.resume()

    wait_until(lambda: broker.ran == [0, 1])


def test_delayed_messages_come_in_again_when_their_index_is_lost(
    broker, redis, start_worker, monkeypatch
):
    monkeypatch.setattr(caretaker, "MAINTENANCE_S", 0.2)
    start_worker(broker)
    broker.note.send_with_options(args=(1,), delay=1000)
    broker.note.send_with_options(args=(2,), delay=60_000)
    wait_until(lambda: redis.zcard("dramatiq:q.DQ#eta") == 2)

    redis.delete("dramatiq:q.DQ#eta")

    wait_until(lambda: redis.zcard("dramatiq:q.DQ#eta") == 2)
    wait_until(lambda: broker.ran == [1])


def test_nothing_is_lost_with_all_keys_of_our_own(broker, redis, start_worker, monkeypatch):
    monkeypatch.setattr(caretaker, "MAINTENANCE_S", 0.2)
    monkeypatch.setattr("dramatiq.worker.CONSUMER_RESTART_DELAY_SECS", 0.1)
    start_worker(broker)
    broker.note.send_with_options(args=(1,), delay=500)
    wait_until(lambda: redis.exists("dramatiq:q.DQ#eta"))

    redis.delete(*[key for key in redis.scan_iter() if b"#" in key])
    broker.note.send(2)

    wait_until(lambda: sorted(broker.ran) == [1, 2])


def test_old_dead_letters_go_by_the_clock(make_broker, redis, start_worker, monkeypatch):
    monkeypatch.setattr(caretaker, "MAINTENANCE_S", 0.2)
    broker = make_broker(dead_message_ttl=1000, maintenance_chance=0)
    broker.declare_queue("q")
    for key in ("dramatiq:q.XQ.msgs", "dramatiq:q.XQ#why"):
        redis.hset(key, mapping={"old": b"x", "new": b"y"})
    now = current_millis()
    redis.zadd("dramatiq:q.XQ", {"old": now - 2000, "new": now + 60_000})

    start_worker(broker)

    wait_until(lambda: redis.zrange("dramatiq:q.XQ", 0, -1) == [b"new"])
    wait_until(lambda: redis.hkeys("dramatiq:q.XQ#why") == [b"new"])
    assert [b"new"] == redis.hkeys("dramatiq:q.XQ.msgs")
