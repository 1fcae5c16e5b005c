"""What is in the server at each moment of a message's life, for whoever else reads or writes it."""

from __future__ import annotations

import json
import threading
import time

import pytest

import dramatiq
from dramatiq.common import current_millis
from dramatiq.message import Message
from dramatiq.testing.waiting import wait_until

PARKING = "00000000-0000-4000-8000-000000000000"


@pytest.fixture
def broker(make_broker, redis):
    return make_broker()


@pytest.fixture
def ran():
    return []


@pytest.fixture
def actor(broker, ran):
    @dramatiq.actor(broker=broker, actor_name="note", queue_name="q", max_retries=0)
    def note(number):
        ran.append(number)
        if number < 0:
            raise ValueError("negative")

    return note


class Gate:
    """An actor's body that waits until the test lets it go on."""

    def __init__(self):
        self.entered = threading.Event()
        self.opened = threading.Event()

    def __call__(self):
        self.entered.set()
        assert self.opened.wait(10)


@pytest.fixture
def gate(broker):
    gate = Gate()
    gate.actor = dramatiq.actor(broker=broker, actor_name="gate", queue_name="q")(gate)
    yield gate
    gate.opened.set()


def payload(number=1, queue_name="q", **options):
    """Return a message as a producer in another language writes it."""
    return json.dumps(
        {
            "queue_name": queue_name,
            "actor_name": "note",
            "args": [number],
            "kwargs": {},
            "options": options,
            "message_id": f"message-{number}",
            "message_timestamp": 1.5e12,
        }
    ).encode()


def produce(redis, message_id, data, queue_name="q"):
    """Do what the documentation of 2.x tells producers in other languages to do."""
    redis.execute_command("HSET", f"dramatiq:{queue_name}.msgs", message_id, data)
    redis.execute_command("RPUSH", f"dramatiq:{queue_name}", message_id)


def contents(redis, *, with_own=False):
    """Return the type of every key; without those that only this library knows."""
    return {
        key.decode(): redis.type(key).decode()
        for key in redis.scan_iter()
        if with_own or b"#" not in key
    }


# -- at rest


def test_a_message_is_an_id_in_a_list_and_a_payload_in_a_hash(actor, redis):
    sent = actor.send(1)

    message_id = sent.options["redis_message_id"].encode()
    assert {"dramatiq:q": "list", "dramatiq:q.msgs": "hash"} == contents(redis)
    assert [message_id] == redis.lrange("dramatiq:q", 0, -1)
    assert {message_id: sent.encode()} == redis.hgetall("dramatiq:q.msgs")
    assert (-1, -1) == (redis.ttl("dramatiq:q"), redis.ttl("dramatiq:q.msgs"))
    expected = (
        f'{{"queue_name":"q","actor_name":"note","args":[1],"kwargs":{{}},'
        f'"options":{{"redis_message_id":"{message_id.decode()}"}},'
        f'"message_id":"{sent.message_id}","message_timestamp":{sent.message_timestamp}}}'
    )
    assert expected.encode() == redis.hget("dramatiq:q.msgs", message_id)


def test_a_message_that_is_sent_again_keeps_its_id_and_is_stored_under_another(
    broker, actor, redis
):
    first = actor.send(1)
    second = broker.enqueue(first)

    assert first.message_id == second.message_id
    assert first.options["redis_message_id"] != second.options["redis_message_id"]
    assert first.message_id != first.options["redis_message_id"]
    assert 2 == redis.llen("dramatiq:q") == redis.hlen("dramatiq:q.msgs")


def test_a_delayed_message_is_on_the_delay_queue_with_its_eta(actor, redis):
    before = current_millis()
    sent = actor.send_with_options(args=(1,), delay=60_000)

    assert {"dramatiq:q.DQ": "list", "dramatiq:q.DQ.msgs": "hash"} == contents(redis)
    [(message_id, data)] = redis.hgetall("dramatiq:q.DQ.msgs").items()
    assert [message_id] == redis.lrange("dramatiq:q.DQ", 0, -1)
    stored = json.loads(data)
    assert "q.DQ" == stored["queue_name"] == sent.queue_name
    assert {"eta", "redis_message_id"} == stored["options"].keys()
    assert message_id.decode() == stored["options"]["redis_message_id"]
    assert before + 60_000 <= stored["options"]["eta"] <= current_millis() + 60_000


def test_what_senders_leave_behind_expires(actor, redis):
    actor.send(1)

    [key] = [key for key in redis.scan_iter() if b"#" in key]
    assert key.startswith(b"dramatiq:#sent:")
    assert 3600 < redis.ttl(key) <= 7200


# -- in a worker's hands


def test_a_leased_message_is_in_its_workers_ack_set(broker, gate, redis, start_worker):
    start_worker(broker)
    sent = gate.actor.send()
    assert gate.entered.wait(10)

    message_id = sent.options["redis_message_id"].encode()
    assert {
        f"dramatiq:__acks__.{broker.broker_id}.q": "set",
        "dramatiq:q.msgs": "hash",
        "dramatiq:__heartbeats__": "zset",
    } == contents(redis)
    assert {message_id} == redis.smembers(f"dramatiq:__acks__.{broker.broker_id}.q")
    assert {message_id: sent.encode()} == redis.hgetall("dramatiq:q.msgs")
    [(worker, beat)] = redis.zrange("dramatiq:__heartbeats__", 0, -1, withscores=True)
    assert broker.broker_id.encode() == worker
    assert beat == pytest.approx(current_millis(), abs=10_000)
    gate.opened.set()
    wait_until(lambda: {"dramatiq:__heartbeats__": "zset"} == contents(redis))


def test_a_parked_message_is_in_the_ack_set_of_a_worker_that_2x_can_bury(
    broker, actor, redis, start_worker
):
    start_worker(broker)
    sent = actor.send_with_options(args=(1,), delay=60_000)
    message_id = sent.options["redis_message_id"].encode()
    wait_until(lambda: redis.zcard("dramatiq:q.DQ#eta"))

    assert {
        f"dramatiq:__acks__.{PARKING}.q.DQ": "set",
        "dramatiq:q.DQ.msgs": "hash",
        "dramatiq:__heartbeats__": "zset",
    } == contents(redis)
    assert {message_id} == redis.smembers(f"dramatiq:__acks__.{PARKING}.q.DQ")
    assert [(message_id, sent.options["eta"])] == redis.zrange(
        "dramatiq:q.DQ#eta", 0, -1, withscores=True
    )
    assert {message_id: sent.encode()} == redis.hgetall("dramatiq:q.DQ.msgs")
    beats = dict(redis.zrange("dramatiq:__heartbeats__", 0, -1, withscores=True))
    assert {broker.broker_id.encode(), PARKING.encode()} == beats.keys()


def test_a_dead_letter_keeps_its_id_and_its_payload_and_why_it_died(
    broker, actor, redis, start_worker
):
    start_worker(broker)
    sent = actor.send(-1)
    message_id = sent.options["redis_message_id"].encode()
    wait_until(lambda: redis.exists("dramatiq:q.XQ"))

    assert {
        "dramatiq:q.XQ": "zset",
        "dramatiq:q.XQ.msgs": "hash",
        "dramatiq:__heartbeats__": "zset",
    } == contents(redis)
    [(dead, at)] = redis.zrange("dramatiq:q.XQ", 0, -1, withscores=True)
    assert message_id == dead
    assert at == pytest.approx(current_millis(), abs=10_000)
    [(dead, data)] = redis.hgetall("dramatiq:q.XQ.msgs").items()
    assert message_id == dead
    assert (sent.message_id, [-1]) == (json.loads(data)["message_id"], json.loads(data)["args"])
    assert {message_id: b"ValueError: negative"} == redis.hgetall("dramatiq:q.XQ#why")


def test_when_a_worker_stops_all_is_back_in_the_lists(broker, gate, actor, redis, start_worker):
    worker = start_worker(broker, worker_threads=1)
    later = [
        actor.send_with_options(args=(number,), delay=60_000).options["redis_message_id"].encode()
        for number in range(3)
    ]
    wait_until(lambda: redis.zcard("dramatiq:q.DQ#eta") == 3)
    gate.actor.send()
    assert gate.entered.wait(10)
    others = [actor.send(number).options["redis_message_id"].encode() for number in range(3)]
    threading.Timer(0.2, gate.opened.set).start()
    worker.stop()

    assert others == redis.lrange("dramatiq:q", 0, -1)
    assert later == sorted(redis.lrange("dramatiq:q.DQ", 0, -1), key=later.index)
    own = {
        name: kind for name, kind in contents(redis, with_own=True).items() if "#sent" not in name
    }
    # The parking stands for nobody any more; workers of 2.x strike it off.
    assert [PARKING.encode()] == redis.zrange("dramatiq:__heartbeats__", 0, -1)
    del own["dramatiq:__heartbeats__"]
    assert {
        "dramatiq:q": "list",
        "dramatiq:q.msgs": "hash",
        "dramatiq:q.DQ": "list",
        "dramatiq:q.DQ.msgs": "hash",
        "dramatiq:#sweep": "string",
    } == own


def test_the_last_worker_to_stop_gives_back_what_is_parked(make_broker, actor, redis, start_worker):
    brokers = [actor.broker, make_broker()]
    for each in brokers:
        each.declare_queue("q")
    first, second = [start_worker(each) for each in brokers]
    actor.send_with_options(args=(1,), delay=60_000)
    wait_until(lambda: redis.zcard("dramatiq:q.DQ#eta"))
    wait_until(lambda: redis.hlen("dramatiq:#workers") == 2)

    first.stop()
    assert (1, 0) == (redis.zcard("dramatiq:q.DQ#eta"), redis.llen("dramatiq:q.DQ"))
    second.stop()
    assert (0, 1) == (redis.zcard("dramatiq:q.DQ#eta"), redis.llen("dramatiq:q.DQ"))


# -- dashboards


@pytest.mark.parametrize("eta_offset", [-60_000, 300])
def test_a_dashboard_may_revive_a_dead_letter(broker, actor, ran, redis, start_worker, eta_offset):
    start_worker(broker)
    actor.send(-1)
    wait_until(lambda: redis.exists("dramatiq:q.XQ"))
    [(dead, data)] = redis.hgetall("dramatiq:q.XQ.msgs").items()

    redis.zrem("dramatiq:q.XQ", dead)
    redis.hdel("dramatiq:q.XQ.msgs", dead)
    eta = current_millis() + eta_offset
    copy = Message.decode(data).copy(queue_name="q", options={"eta": eta, "retries": 0})
    revived = broker.enqueue(copy)

    assert dead != revived.options["redis_message_id"].encode()
    wait_until(lambda: ran == [-1, -1])
    assert current_millis() >= eta
    wait_until(lambda: redis.exists("dramatiq:q.XQ"))


def test_an_eta_on_a_work_queue_waits_in_the_server(broker, actor, redis, start_worker):
    start_worker(broker)
    actor.send(0)
    broker.enqueue(actor.message(1).copy(options={"eta": current_millis() + 60_000}))

    wait_until(lambda: redis.zcard("dramatiq:q.DQ#eta"))
    wait_until(lambda: not redis.exists("dramatiq:q", "dramatiq:q.msgs"))


# -- other producers


def test_a_foreign_message_starts_an_idle_worker_at_once(broker, actor, ran, redis, start_worker):
    start_worker(broker, worker_timeout=60_000)
    took = []
    for number in range(1, 11):
        wait_until(lambda: redis.info("clients")["blocked_clients"] >= 2)
        started = time.monotonic()

        produce(redis, f"id-{number}", payload(number, redis_message_id=f"id-{number}"))

        wait_until(lambda number=number: len(ran) == number)
        took.append(time.monotonic() - started)
    assert [*range(1, 11)] == ran
    assert sorted(took)[5] < 0.05
    wait_until(lambda: not redis.exists("dramatiq:q.msgs"))


def test_a_foreign_delayed_message_wakes_an_idle_worker(broker, actor, ran, redis, start_worker):
    start_worker(broker, worker_timeout=60_000)
    wait_until(lambda: redis.info("clients")["blocked_clients"] >= 2)
    eta = current_millis() + 300

    produce(redis, "1", payload(1, "q.DQ", redis_message_id="1", eta=eta), "q.DQ")

    wait_until(lambda: ran == [1], timeout_s=3)
    assert current_millis() >= eta
    wait_until(lambda: not redis.exists("dramatiq:q.DQ.msgs", "dramatiq:q.msgs"))


@pytest.mark.parametrize("options", [{}, {"redis_message_id": "another"}])
def test_the_id_in_the_list_counts_and_not_what_the_options_say(
    broker, actor, ran, redis, start_worker, options
):
    start_worker(broker)

    produce(redis, "1", payload(1, **options))
    produce(redis, "2", payload(2, "q.DQ", eta=current_millis() + 100, **options), "q.DQ")

    wait_until(lambda: sorted(ran) == [1, 2])
    wait_until(lambda: not redis.exists("dramatiq:q.DQ.msgs", "dramatiq:q.msgs"))


@pytest.mark.parametrize("queue_name", ["q", "q.DQ"])
def test_an_id_without_payload_is_dropped_and_its_neighbours_run(
    broker, actor, ran, redis, start_worker, queue_name
):
    eta = current_millis()
    for number in (1, 2, 3):
        produce(redis, number, payload(number, queue_name, eta=eta), queue_name)
    redis.hdel(f"dramatiq:{queue_name}.msgs", 2)

    start_worker(broker)

    wait_until(lambda: sorted(ran) == [1, 3])
    wait_until(lambda: set(contents(redis)) <= {"dramatiq:__heartbeats__"})


@pytest.mark.parametrize("queue_name", ["q", "q.DQ"])
@pytest.mark.parametrize(
    "bad",
    [
        b"\x80\x04 no JSON",
        b"[]",
        b'{"queue_name":"q"}',
        payload().replace(b"{", b'{"unknown":1,', 1),
        payload().replace(b'"note"', b"null"),
        payload().replace(b"[1]", b"9" * 5000),
    ],
)
def test_what_is_no_message_becomes_a_dead_letter_as_it_is_and_its_neighbours_run(
    broker, actor, ran, redis, start_worker, bad, queue_name
):
    eta = current_millis()
    produce(redis, "1", payload(1, queue_name, eta=eta), queue_name)
    produce(redis, "bad", bad, queue_name)
    produce(redis, "3", payload(3, queue_name, eta=eta), queue_name)

    start_worker(broker)

    wait_until(lambda: sorted(ran) == [1, 3])
    wait_until(lambda: redis.exists("dramatiq:q.XQ"))
    assert {b"bad": bad} == redis.hgetall("dramatiq:q.XQ.msgs")
    wait_until(lambda: not redis.exists("dramatiq:q.DQ.msgs", "dramatiq:q.msgs"))


@pytest.mark.parametrize("queue_name", ["q", "q.DQ"])
@pytest.mark.parametrize("eta", ["Infinity", "NaN", "1e400", "9" * 400, "null", '"soon"', "[]"])
def test_an_eta_that_no_clock_shows_is_none(
    broker, actor, ran, redis, start_worker, eta, queue_name
):
    strange = payload(1, queue_name, eta=0).replace(b'"eta": 0', b'"eta": ' + eta.encode())
    produce(redis, "1", strange, queue_name)
    produce(redis, "2", payload(2, queue_name, eta=current_millis()), queue_name)

    start_worker(broker)

    wait_until(lambda: sorted(ran) == [1, 2], timeout_s=3)
    wait_until(lambda: not redis.exists("dramatiq:q.DQ.msgs", "dramatiq:q.msgs"))
