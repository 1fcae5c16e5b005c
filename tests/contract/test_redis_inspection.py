"""What is peculiar to looking into a Redis server; the rest is in the broker contract."""

from __future__ import annotations

import json
import os
import socket
import time

import pytest
from redis import ResponseError

import dramatiq
from dramatiq.brokers.redis import RedisBroker
from dramatiq.brokers.redis import consumer as consumer_module
from dramatiq.common import current_millis
from dramatiq.inspection import Selection, State
from dramatiq.testing.waiting import wait_until


@pytest.fixture
def broker(make_broker, redis):
    return make_broker()


@pytest.fixture
def inspection(broker):
    return broker.inspection


def payload(number=1, queue_name="q", **options):
    fields = {
        "queue_name": queue_name,
        "actor_name": "note",
        "args": [number],
        "kwargs": {},
        "options": options,
        "message_id": f"message-{number}",
        "message_timestamp": 1_700_000_000_000 + number,
    }
    return json.dumps(fields).encode()


def bury(redis, key, data, *, at=None):
    """Leave a dead letter as workers of 2.x do."""
    redis.zadd("dramatiq:q.XQ", {key: current_millis() if at is None else at})
    redis.hset("dramatiq:q.XQ.msgs", key, data)


def messages_of(consumer, count):
    messages = []
    wait_until(lambda: messages.extend(consumer.fetch(10, 50)) or len(messages) >= count)
    return messages


# -- dead letters of 2.x


@pytest.mark.parametrize("queue_name", ["q", "q.DQ", "q.XQ"])
def test_a_dead_letter_of_2x_runs_again(broker, inspection, redis, queue_name, start_worker):
    ran = []
    options = {"redis_message_id": "older", "retries": 20, "traceback": "…", "eta": 1}
    bury(redis, "one", payload(7, queue_name, **options))
    dramatiq.actor(broker=broker, actor_name="note", queue_name="q")(ran.append)

    (info,) = inspection.messages(State.DEAD, Selection("q")).items
    assert (info.key, info.reason) == ("one", "rejected")
    assert inspection.requeue(Selection(actor_name="note")) == 1

    # Workers of 2.x acknowledge by what the payload says.
    stored = json.loads(redis.hget("dramatiq:q.msgs", "one"))
    assert (stored["queue_name"], stored["options"]) == ("q", {"redis_message_id": "one"})
    assert stored["message_id"] == "message-7"
    start_worker(broker)
    wait_until(lambda: ran == [7])
    wait_until(lambda: not redis.exists("dramatiq:q.msgs"))
    assert not redis.exists("dramatiq:q.XQ", "dramatiq:q.XQ.msgs")


def test_what_a_message_has_brought_down_is_forgotten_when_it_is_put_back(
    broker, inspection, redis
):
    bury(redis, "one", payload())
    redis.hset("dramatiq:q#crash", "one", 2)
    redis.hset("dramatiq:q.XQ#why", "one", "poison")

    inspection.requeue(Selection("q", error="POISON"))

    assert not redis.exists("dramatiq:q#crash", "dramatiq:q.XQ#why")


def test_dead_letters_of_one_moment_are_all_seen_once_in_pages(inspection, redis):
    for number in range(25):
        bury(redis, f"id-{number:02}", payload(number), at=1000 + number // 20)
    keys, cursor = [], None

    while not keys or cursor is not None:
        page = inspection.messages(State.DEAD, Selection("q"), limit=7, cursor=cursor)
        keys += [info.key for info in page.items]
        cursor = page.cursor

    assert keys == [f"id-{number:02}" for number in reversed(range(25))]


def test_a_dead_letter_without_payload_is_none(inspection, redis):
    bury(redis, "one", payload(1))
    bury(redis, "two", payload(2))
    redis.hdel("dramatiq:q.XQ.msgs", "two")

    assert [info.key for info in inspection.messages(State.DEAD).items] == ["one"]
    assert inspection.requeue(Selection("q")) == 1
    assert redis.lrange("dramatiq:q", 0, -1) == [b"one"]


def test_a_letter_that_died_again_meanwhile_is_not_moved(inspection, redis):
    bury(redis, "one", payload(), at=1000)
    letters = inspection.messages(State.DEAD).items
    bury(redis, "one", payload(2), at=2000)

    assert inspection._requeue("q", letters) == 0
    assert inspection._delete("q", letters) == 0

    assert redis.zscore("dramatiq:q.XQ", "one") == 2000


def test_large_dead_letters_are_put_back_in_several_calls(inspection, redis):
    for number in range(5):
        bury(redis, f"{number}", payload(number, text="x" * 1_500_000), at=number)

    assert inspection.requeue(Selection("q")) == 5

    assert redis.lrange("dramatiq:q", 0, -1) == [b"0", b"1", b"2", b"3", b"4"]


def test_a_dead_letter_that_the_server_cannot_move_stays_dead(inspection, redis):
    bury(redis, "one", payload())
    redis.set("dramatiq:q", "no list")

    with pytest.raises(ResponseError, match="WRONGTYPE"):
        inspection.requeue(Selection("q"))

    assert redis.hkeys("dramatiq:q.XQ.msgs") == redis.zrange("dramatiq:q.XQ", 0, -1) == [b"one"]
    assert not redis.exists("dramatiq:q.msgs")


# -- queues and messages


def test_queues_are_found_from_what_2x_has_stored(broker, inspection, redis):
    redis.hset("dramatiq:plain.msgs", "1", payload(5, "plain"))
    redis.rpush("dramatiq:plain", "1")
    redis.hset("dramatiq:later.DQ.msgs", "1", payload())
    bury(redis, "1", payload())
    redis.hset("dramatiq:__acks__.worker.x.msgs", "1", "none of ours")
    redis.hset("dramatiq:other:y.msgs", "1", "of another namespace")
    broker.declare_queue("declared")

    queues = {info.name: info for info in inspection.queues()}

    assert list(queues) == ["declared", "later", "plain", "q"]
    assert queues["plain"].oldest_at == 1_700_000_000_005
    assert queues["later"].counts.delayed == queues["q"].counts.dead == 1


def test_delayed_messages_are_read_whether_they_are_parked_or_held_or_just_came(
    broker, inspection, redis, start_worker
):
    broker.declare_queue("q")
    eta = current_millis() + 3_600_000
    for number in (3, 1, 2):
        broker.enqueue(dramatiq.Message("q", "note", (number,), {}, {}), delay=number * 3_600_000)
    worker = start_worker(broker)
    wait_until(lambda: redis.zcard("dramatiq:q.DQ#eta") == 3)
    worker.pause()
    redis.hset("dramatiq:q.DQ.msgs", "in-list", payload(4, "q.DQ", eta=eta))
    redis.rpush("dramatiq:q.DQ", "in-list")
    redis.hset("dramatiq:q.DQ.msgs", "held", payload(5, "q.DQ", eta=eta))
    redis.zadd("dramatiq:__heartbeats__", {"worker-of-2x": current_millis()})
    redis.sadd("dramatiq:__acks__.worker-of-2x.q.DQ", "held")

    read, cursor = [], None
    while not read or cursor is not None:
        page = inspection.messages(State.DELAYED, Selection("q"), limit=2, cursor=cursor)
        read += page.items
        cursor = page.cursor

    assert [info.message.args[0] for info in read] == [1, 2, 3, 4, 5]
    assert all(info.eta is not None and info.eta >= eta for info in read)
    assert inspection.queue("q").counts.delayed == 5
    assert [info.key for info in inspection.find("message-5")] == ["held"]
    # What a worker holds in its memory is not ours to drop.
    assert inspection.purge("q", [State.DELAYED]) == 4
    assert redis.hkeys("dramatiq:q.DQ.msgs") == [b"held"]
    assert not redis.exists("dramatiq:q.DQ#eta", "dramatiq:q.DQ")


# -- workers


def test_workers_of_both_kinds_are_told_by_their_heartbeats(broker, inspection, redis):
    now = current_millis()
    redis.zadd("dramatiq:__heartbeats__", {"alive": now - 50_000, "dead": now - 70_000})
    redis.sadd("dramatiq:__acks__.dead.q", "1", "2")
    broker.membership.join(broker.broker_id, ["q", "q.DQ"], [])

    workers = {worker.worker_id: worker for worker in inspection.workers()}

    assert workers.keys() == {"alive", "dead", broker.broker_id}
    ours = workers[broker.broker_id]
    assert (ours.host, ours.pid, ours.is_alive) == (socket.gethostname(), os.getpid(), True)
    assert now <= ours.seen_at <= current_millis()
    assert [workers[name].is_alive for name in ("alive", "dead")] == [True, False]
    assert (workers["dead"].leased, workers["dead"].host) == (2, None)


# -- pausing


def test_a_pause_of_another_process_holds_and_delayed_messages_become_ready_meanwhile(
    broker, make_broker, redis, start_worker
):
    ran = []
    actor = dramatiq.actor(broker=broker, actor_name="note", queue_name="q")(ran.append)
    start_worker(broker)
    actor.send("before")
    wait_until(lambda: ran == ["before"])
    other = make_broker().inspection

    other.pause("q")
    actor.send_with_options(args=("delayed",), delay=1)
    wait_until(lambda: other.queue("q").counts.ready == 1)
    assert redis.smembers("dramatiq:#paused") == {b"q"}
    other.resume("q.DQ")

    wait_until(lambda: ran == ["before", "delayed"])
    assert not redis.exists("dramatiq:#paused")


def test_a_paused_queue_with_messages_costs_the_server_some_commands_a_second(
    broker, inspection, redis
):
    broker.declare_queue("q")
    consumer = broker.consume("q")
    broker.enqueue(dramatiq.Message("q", "note", (), {}, {}))
    inspection.pause("q")
    assert consumer.fetch(10, 1) == []
    redis.config_resetstat()

    until = time.monotonic() + 2 * consumer_module.PAUSED_LOOK_S
    while time.monotonic() < until:
        assert consumer.fetch(10, 100) == []

    calls = {
        name: stat["calls"]
        for name, stat in redis.info("commandstats").items()
        if name in {"cmdstat_blmove", "cmdstat_evalsha", "cmdstat_lpop"}
    }
    # One or two looks in each half second; LPOP would take.
    assert sum(calls.values()) <= 6, calls
    assert "cmdstat_lpop" not in calls
    inspection.resume("q")
    assert len(messages_of(consumer, 1)) == 1
    consumer.close()


def test_the_commands_of_2x_take_nothing_from_a_paused_queue(broker, inspection, redis):
    broker.do_enqueue("q", "1", payload())
    inspection.pause("q")
    assert broker.do_fetch("q", 1) == []
    inspection.resume("q")
    assert broker.do_fetch("q", 1) == [payload()]


# -- where it is


def test_a_cluster_can_be_inspected(redis_cluster):
    client = redis_cluster.cluster_client()
    broker = RedisBroker(client=client, namespace="{inspected}")
    try:
        broker.declare_queue("q")
        broker.enqueue_many(dramatiq.Message("q", "note", (n,), {}, {}) for n in range(3))
        consumer = broker.consume("q")
        consumer.nack(messages_of(consumer, 3)[0])

        assert broker.inspection.requeue(Selection()) == 1

        (info,) = broker.inspection.queues()
        assert (info.name, info.counts.ready, info.counts.leased) == ("q", 1, 2)
        consumer.close()
        assert broker.inspection.purge("q", [State.READY]) == 3
    finally:
        broker.close()
        client.close()


def test_bounded_questions_go_by_the_queues_that_were_found_last(broker, inspection, redis):
    def names(**options):
        return [info.name for info in inspection.queues(**options)]

    assert names(count_limit=10) == []
    redis.hset("dramatiq:foreign.msgs", "message-1", payload(queue_name="foreign"))
    redis.rpush("dramatiq:foreign", "message-1")
    broker.declare_queue("ours")

    assert names(count_limit=10) == ["ours"]
    assert len(inspection.messages(State.READY, look_at=10).items) == 0
    assert names() == ["foreign", "ours"]
    assert [info.name for info in broker.inspection.queues(count_limit=10)] == ["foreign", "ours"]
