"""The commands of 2.x that tools and tests call, and the consumer that calls them."""

from __future__ import annotations

import uuid

import pytest
import redis as redis_package

import dramatiq
from dramatiq.brokers import redis as redis_module
from dramatiq.brokers.redis import RedisBroker
from dramatiq.brokers.redis.scripts import load
from dramatiq.common import current_millis
from dramatiq.errors import BrokerConnectionError, ConnectionClosed
from dramatiq.message import Message
from dramatiq.testing.waiting import wait_until
from tests.proxy import Proxy


@pytest.fixture
def broker(make_broker, redis):
    return make_broker()


def acks(broker, queue_name="q"):
    return f"dramatiq:__acks__.{broker.broker_id}.{queue_name}"


def put(broker, *ids, queue_name="q"):
    for each in ids:
        broker.do_enqueue(queue_name, each, b"payload of " + each.encode())


def put_many(redis, count, queue_name="q"):
    ids = [b"id-%d" % number for number in range(count)]
    redis.hset(f"dramatiq:{queue_name}.msgs", mapping=dict.fromkeys(ids, b"payload"))
    redis.rpush(f"dramatiq:{queue_name}", *ids)
    return ids


# -- constants and attributes


def test_the_constants_are_those_of_2x():
    assert 1_000_000 == redis_module.MAINTENANCE_SCALE
    assert {"ack", "nack"} == redis_module.MAINTENANCE_COMMAND_BLACKLIST
    assert 1000 == redis_module.DEFAULT_MAINTENANCE_CHANCE
    assert 604_800_000 == redis_module.DEFAULT_DEAD_MESSAGE_TTL
    assert 60_000 == redis_module.DEFAULT_HEARTBEAT_TIMEOUT
    assert redis_module.DEFAULT_LUA_MAX_STACK is None


def test_the_arguments_are_attributes_that_may_be_changed(make_broker):
    broker = make_broker(
        namespace="n", maintenance_chance=1, heartbeat_timeout=2, dead_message_ttl=3
    )

    assert ("n", 1, 2, 3) == (
        broker.namespace,
        broker.maintenance_chance,
        broker.heartbeat_timeout,
        broker.dead_message_ttl,
    )
    assert set() == broker.queues
    broker.declare_queue("q")
    assert ({"q"}, {"q.DQ"}) == (broker.queues, broker.delay_queues)
    assert 4 == uuid.UUID(broker.broker_id).version
    broker.broker_id = "somebody"
    assert "somebody" == broker.broker_id


def test_making_a_broker_connects_to_nothing(make_broker):
    broker = make_broker(host="127.0.0.1", port=1)
    broker.declare_queue("q")
    broker.consume("q").close()


@pytest.mark.parametrize("name", ["do_dance", "dance", "queue"])
def test_names_that_are_neither_attributes_nor_commands_are_refused(broker, name):
    with pytest.raises(AttributeError, match=f"'RedisBroker' object has no attribute '{name}'"):
        getattr(broker, name)


def test_a_subclass_may_bring_its_own_consumer(make_broker):
    class Consumer:
        def __init__(self, *arguments):
            self.arguments = arguments

    class Broker(RedisBroker):
        @property
        def consumer_class(self):
            return Consumer

    broker = make_broker(Broker)
    consumer = broker.consume("q", prefetch=3, timeout=7)

    assert (broker, "q", 3, 7) == consumer.arguments


def test_every_command_tells_that_the_caller_is_alive(broker, redis):
    for command in (
        lambda: broker.do_enqueue("q", "1", b"x"),
        lambda: broker.do_fetch("q", 1),
        lambda: broker.do_ack("q", "1"),
        lambda: broker.do_nack("q", "1"),
        lambda: broker.do_requeue("q", "1"),
        lambda: broker.do_qsize("q"),
        lambda: broker.do_purge("q"),
    ):
        redis.zadd("dramatiq:__heartbeats__", {broker.broker_id: 1})

        command()

        beat = redis.zscore("dramatiq:__heartbeats__", broker.broker_id)
        assert beat == pytest.approx(current_millis(), abs=2000)


# -- enqueue and fetch


def test_enqueue_stores_the_payload_and_puts_the_id_on_the_right(broker, redis):
    assert broker.do_enqueue("q", "1", b"one") is None
    assert broker.do_enqueue("q", b"2", b"\x00\xff") is None

    assert [b"1", b"2"] == redis.lrange("dramatiq:q", 0, -1)
    assert {b"1": b"one", b"2": b"\x00\xff"} == redis.hgetall("dramatiq:q.msgs")


def test_fetch_leases_from_the_left_in_order(broker, redis):
    put(broker, "1", "2", "3")

    assert [b"payload of 1", b"payload of 2"] == broker.do_fetch("q", 2)

    assert [b"3"] == redis.lrange("dramatiq:q", 0, -1)
    assert {b"1", b"2"} == redis.smembers(acks(broker))
    assert 3 == redis.hlen("dramatiq:q.msgs")
    assert [b"payload of 3"] == broker.do_fetch("q", 2)
    assert [] == broker.do_fetch("q", 2)


def test_fetch_returns_none_for_a_payload_that_is_gone(broker, redis):
    put(broker, "1", "2", "3")
    redis.hdel("dramatiq:q.msgs", "2")

    assert [b"payload of 1", None, b"payload of 3"] == broker.do_fetch("q", 3)


def test_fetch_takes_half_of_what_lua_unpacks(broker, redis, monkeypatch):
    put_many(redis, 5000)

    assert 3996 == len(broker.do_fetch("q", 5000))
    monkeypatch.setenv("dramatiq_lua_max_stack", "11")
    assert 5 == len(broker.do_fetch("q", 5000))


def test_a_stack_larger_than_the_servers_loses_nothing(broker, redis, monkeypatch):
    put_many(redis, 10_000)
    monkeypatch.setenv("dramatiq_lua_max_stack", "20000")

    fetched = broker.do_fetch("q", 10_000)

    assert len(fetched) == redis.scard(acks(broker))
    assert 10_000 == len(fetched) + redis.llen("dramatiq:q")


# -- settling


def test_ack_removes_what_is_held(broker, redis):
    put(broker, "1", "2")
    broker.do_fetch("q", 2)

    assert broker.do_ack("q", "1") is None

    assert {b"2"} == redis.smembers(acks(broker))
    assert [b"2"] == redis.hkeys("dramatiq:q.msgs")


def test_ack_of_what_is_not_held_changes_nothing(broker, redis):
    put(broker, "1")

    assert broker.do_ack("q", "1") is None
    assert broker.do_ack("q", "unknown") is None

    assert [b"1"] == redis.lrange("dramatiq:q", 0, -1)
    assert [b"1"] == redis.hkeys("dramatiq:q.msgs")


def test_nack_moves_the_payload_unchanged_to_the_dead_letters(broker, redis):
    put(broker, "1")
    broker.do_fetch("q", 1)

    assert broker.do_nack("q", "1") is None

    [(dead, at)] = redis.zrange("dramatiq:q.XQ", 0, -1, withscores=True)
    assert b"1" == dead
    assert at == pytest.approx(current_millis(), abs=2000)
    assert {b"1": b"payload of 1"} == redis.hgetall("dramatiq:q.XQ.msgs")
    assert not redis.exists("dramatiq:q", "dramatiq:q.msgs", acks(broker))


def test_nack_of_a_delayed_message_goes_to_the_dead_letters_of_its_queue(broker, redis):
    put(broker, "1", queue_name="q.DQ")
    broker.do_fetch("q.DQ", 1)

    broker.do_nack("q.DQ", "1")

    assert {b"1": b"payload of 1"} == redis.hgetall("dramatiq:q.XQ.msgs")
    assert not redis.exists("dramatiq:q.DQ.msgs", acks(broker, "q.DQ"))


def test_nack_of_what_is_not_held_changes_nothing(broker, redis):
    put(broker, "1")

    assert broker.do_nack("q", "1") is None
    assert broker.do_nack("q", "unknown") is None

    assert not redis.exists("dramatiq:q.XQ", "dramatiq:q.XQ.msgs")
    assert [b"1"] == redis.hkeys("dramatiq:q.msgs")


def test_nack_without_payload_only_ends_the_lease(broker, redis):
    put(broker, "1")
    broker.do_fetch("q", 1)
    redis.hdel("dramatiq:q.msgs", "1")

    broker.do_nack("q", "1")

    assert not redis.exists("dramatiq:q.XQ", "dramatiq:q.XQ.msgs", acks(broker))


def test_requeue_puts_what_is_held_on_the_right_in_order(broker, redis):
    put(broker, "1", "2", "3", "4")
    broker.do_fetch("q", 3)
    redis.hdel("dramatiq:q.msgs", "2")

    assert broker.do_requeue("q", "3", "unknown", "2", "1") is None
    assert broker.do_requeue("q") is None

    assert [b"4", b"3", b"1"] == redis.lrange("dramatiq:q", 0, -1)
    assert not redis.exists(acks(broker))


# -- purge and size


def test_purge_leaves_what_others_hold(broker, make_broker, redis):
    other = make_broker()
    put(broker, "1", "2", "3", "4")
    for _name in ("1", "2"):
        broker.do_fetch("q", 1)
    broker.do_nack("q", "1")
    other.do_fetch("q", 1)
    put(broker, "5", queue_name="q.DQ")
    put(broker, "6", queue_name="r")

    assert broker.do_purge("q") is None

    names = {name.decode() for name in redis.keys("*") if b"#" not in name}
    assert {
        "dramatiq:__heartbeats__",
        acks(other),
        "dramatiq:q.DQ",
        "dramatiq:q.DQ.msgs",
        "dramatiq:r",
        "dramatiq:r.msgs",
    } == names


def test_purge_of_a_delay_queue_drops_the_dead_letters_too(broker, redis):
    put(broker, "1")
    broker.do_fetch("q", 1)
    broker.do_nack("q", "1")
    put(broker, "2", queue_name="q.DQ")

    broker.do_purge("q.DQ")

    assert {b"dramatiq:__heartbeats__"} == {key for key in redis.keys("*") if b"#" not in key}


def test_flush_drops_parked_messages(broker, redis, start_worker):
    broker.declare_queue("q")
    worker = start_worker(broker)
    broker.enqueue(message(), delay=3_600_000)
    wait_until(lambda: redis.exists("dramatiq:q.DQ#eta"))

    broker.flush("q")

    assert 0 == broker.do_qsize("q")
    worker.stop()
    assert not [key for key in redis.keys("*") if b":q" in key]


def test_size_counts_what_the_caller_holds_twice_and_what_others_hold_once(
    broker, make_broker, redis
):
    put(broker, "1")
    put(broker, "2", queue_name="q.DQ")
    assert 2 == broker.do_qsize("q") == broker.do_qsize("q.DQ")

    broker.do_fetch("q", 1)
    broker.do_fetch("q.DQ", 1)

    assert 4 == broker.do_qsize("q") == broker.do_qsize("q.DQ")
    assert 2 == make_broker().do_qsize("q")
    broker.do_ack("q", "1")
    broker.do_nack("q.DQ", "2")
    assert 0 == broker.do_qsize("q")


def test_the_size_of_an_unknown_queue_is_zero(broker):
    assert 0 == broker.do_qsize("unknown")
    broker.join("unknown")


# -- maintenance


@pytest.fixture
def eager(make_broker, redis):
    """A broker that maintains with every command, and takes everybody else for dead."""
    return make_broker(maintenance_chance=1_000_000, heartbeat_timeout=0)


def test_a_new_name_takes_back_what_the_old_one_held(eager, redis):
    ids = put_many(redis, 2 * 7999)
    while eager.do_fetch("q", 8000):
        continue
    old = eager.broker_id
    assert 2 * 7999 == redis.scard(acks(eager))

    eager.broker_id = str(uuid.uuid4())
    eager.do_qsize("q")

    assert set(ids) == set(redis.lrange("dramatiq:q", 0, -1))
    assert 2 * 7999 == redis.llen("dramatiq:q")
    assert not redis.exists(acks(eager), f"dramatiq:__acks__.{old}.q")
    assert [eager.broker_id.encode()] == redis.zrange("dramatiq:__heartbeats__", 0, -1)


def test_what_is_taken_back_goes_to_the_right_and_without_payload_nowhere(eager, redis):
    put(eager, "1", "2", "3")
    eager.do_fetch("q", 2)
    redis.hdel("dramatiq:q.msgs", "2")
    eager.broker_id = str(uuid.uuid4())

    eager.do_qsize("q")

    assert [b"3", b"1"] == redis.lrange("dramatiq:q", 0, -1)


def test_a_dead_worker_is_struck_off_when_nothing_of_it_is_left(eager, redis):
    put(eager, "1")
    put(eager, "2", queue_name="r")
    eager.do_fetch("q", 1)
    eager.do_fetch("r", 1)
    old = eager.broker_id
    eager.broker_id = str(uuid.uuid4())

    eager.do_qsize("q")
    assert redis.zscore("dramatiq:__heartbeats__", old) is not None
    assert 1 == redis.llen("dramatiq:q")
    assert 0 == redis.llen("dramatiq:r")

    eager.do_qsize("r")
    assert redis.zscore("dramatiq:__heartbeats__", old) is None
    assert 1 == redis.llen("dramatiq:r")


def test_workers_with_a_recent_heartbeat_keep_what_they_hold(eager, make_broker, redis):
    other = make_broker()
    put(eager, "1")
    other.do_fetch("q", 1)
    eager.heartbeat_timeout = 60_000

    eager.do_qsize("q")

    assert {b"1"} == redis.smembers(acks(other))


@pytest.mark.parametrize("settle", ["do_ack", "do_nack"])
def test_settling_is_never_preceded_by_maintenance(eager, redis, settle):
    put(eager, "1")
    eager.do_fetch("q", 1)
    old = acks(eager)
    eager.broker_id = str(uuid.uuid4())

    getattr(eager, settle)("q", "unknown")

    assert {b"1"} == redis.smembers(old)


def test_without_chance_there_is_no_maintenance(eager, redis):
    put(eager, "1")
    eager.do_fetch("q", 1)
    old = acks(eager)
    eager.broker_id = str(uuid.uuid4())
    eager.maintenance_chance = 0

    eager.do_qsize("q")

    assert {b"1"} == redis.smembers(old)


def test_dead_letters_expire(eager, redis):
    now = current_millis()
    ids = [f"id-{number}" for number in range(2 * 7999)]
    redis.zadd("dramatiq:q.XQ", {**dict.fromkeys(ids, now - 5000), "young": now})
    redis.hset("dramatiq:q.XQ.msgs", mapping={**dict.fromkeys(ids, b"payload"), "young": b"it"})
    eager.dead_message_ttl = 4000

    eager.do_qsize("q.DQ")

    assert [b"young"] == redis.zrange("dramatiq:q.XQ", 0, -1)
    assert {b"young": b"it"} == redis.hgetall("dramatiq:q.XQ.msgs")


def test_many_idle_senders_do_not_make_maintenance_walk_the_keys_many_times(eager, redis):
    redis.zadd("dramatiq:__heartbeats__", {f"sender-{number}": 1 for number in range(50)})
    redis.config_resetstat()

    eager.do_qsize("q")

    assert [eager.broker_id.encode()] == redis.zrange("dramatiq:__heartbeats__", 0, -1)
    assert redis.info("commandstats")["cmdstat_scan"]["calls"] < 10


# -- the consumer of 2.x's contract


def message(number=1, **options):
    return Message("q", "actor", (number,), {}, options)


def test_a_consumer_fetches_as_many_as_it_may_have_outstanding(broker, redis):
    sent = [broker.enqueue(message(number)) for number in range(5)]
    consumer = broker.consume("q", prefetch=3, timeout=10)

    first = next(consumer)

    assert (sent[0].message_id, 3) == (first.message_id, consumer.outstanding_message_count)
    assert 2 == redis.llen("dramatiq:q")
    assert sent[1:3] == [next(consumer), next(consumer)]
    assert next(consumer) is None
    consumer.ack(first)
    assert 2 == consumer.outstanding_message_count
    assert sent[3] == next(consumer)
    consumer.close()


def test_an_empty_queue_gives_none_after_a_pause_and_the_pauses_grow(broker):
    consumer = broker.consume("q", timeout=20)

    assert [None] * 3 == [next(consumer) for _ in range(3)]
    assert 3 == consumer.misses
    broker.enqueue(message())
    assert next(consumer) is not None
    assert 0 == consumer.misses
    consumer.close()


def test_nack_of_a_message_that_is_not_held_does_not_raise(broker, redis):
    sent = broker.enqueue(message())
    consumer = broker.consume("q")
    received = next(consumer)
    consumer.nack(received)
    consumer.nack(received)
    consumer.requeue([])

    assert [sent.options["redis_message_id"].encode()] == redis.zrange("dramatiq:q.XQ", 0, -1)
    consumer.close()


@pytest.mark.parametrize("settle", ["ack", "nack"])
def test_settling_may_be_repeated_after_a_connection_error(make_broker, redis, settle):
    with Proxy(redis.connection_pool.connection_kwargs["port"]) as proxy:
        broker = make_broker(host="127.0.0.1", port=proxy.port)
        broker.enqueue(message())
        consumer = broker.consume("q")
        received = next(consumer)

        fault = proxy.drop_request(requesting=b"EVALSHA")
        with pytest.raises(ConnectionClosed) as raised:
            getattr(consumer, settle)(received)
        fault.wait()
        assert isinstance(raised.value, redis_package.ConnectionError)
        assert 0 == consumer.outstanding_message_count
        assert 1 == redis.scard(acks(broker))

        getattr(consumer, settle)(received)

        assert 0 == consumer.outstanding_message_count
        assert not redis.exists(acks(broker), "dramatiq:q.msgs")
        assert (settle == "nack") == redis.exists("dramatiq:q.XQ")
        consumer.close()


def test_a_fetch_that_fails_raises_connection_closed(make_broker, redis):
    with Proxy(redis.connection_pool.connection_kwargs["port"]) as proxy:
        broker = make_broker(host="127.0.0.1", port=proxy.port)
        broker.enqueue(message())
        consumer = broker.consume("q")

        proxy.drop_request(requesting=b"EVALSHA")
        with pytest.raises(BrokerConnectionError):
            next(consumer)

        assert next(consumer) is not None
        consumer.close()


def test_a_server_that_forgot_the_heartbeat_alone_hands_out_messages(make_broker, redis_server):
    broker = make_broker(url=redis_server.url, namespace="knows-fetch")
    dramatiq.actor(broker=broker, actor_name="work")(print).send()
    with redis_server.client() as client:
        client.script_flush()
        client.script_load(load("fetch").text)

    payloads = broker.do_fetch("default", 10)

    assert len(payloads) == 1
    broker.flush_all()
