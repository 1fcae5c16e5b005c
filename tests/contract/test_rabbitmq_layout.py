"""What is on the server: the queues of 2.x, messages as 2.x writes them, delays, dead letters."""

from __future__ import annotations

import json
import time
from contextlib import closing

import pytest

from dramatiq.brokers.rabbitmq import frames
from dramatiq.common import current_millis
from dramatiq.delivery import Outcome, Settlement
from dramatiq.message import Message
from dramatiq.testing.waiting import wait_until
from tests.rabbitmq import QuickBroker, connect, delete_queues, publish_raw, read_all


@pytest.fixture
def make_broker(rabbitmq_server):
    brokers = []

    def make(**options):
        brokers.append(QuickBroker(**{"url": rabbitmq_server.url, **options}))
        return brokers[-1]

    yield make
    for broker in brokers:
        delete_queues(broker)
        broker.close()


@pytest.fixture
def broker(make_broker):
    broker = make_broker()
    broker.declare_queue("default")
    return broker


def message(*args, **fields):
    return Message("default", "work", args, {}, fields.pop("options", {}), **fields)


def declare(broker, name, **options):
    with connect(broker) as connection:
        return connection.channel().queue_declare(name, durable=True, **options)


#: wire.md, section 4.1.
DLX = {"x-dead-letter-exchange": "", "x-dead-letter-routing-key": "default.XQ"}


@pytest.mark.parametrize("max_priority", [None, 10])
def test_queues_are_declared_as_2x_declares_them(make_broker, max_priority):
    broker = make_broker(max_priority=max_priority)
    arguments = DLX if max_priority is None else {**DLX, "x-max-priority": max_priority}

    broker.declare_queue("default", ensure=True)

    # The server refuses a declaration that differs in anything.
    declare(broker, "default", arguments=arguments)
    declare(broker, "default.DQ", arguments=arguments)
    declare(broker, "default.XQ", arguments={"x-message-ttl": 604_800_000})
    assert broker.queues_pending == set()


def test_declaring_a_queue_does_not_connect():
    broker = QuickBroker(host="127.0.0.1", port=1)

    broker.declare_queue("default")
    broker.declare_queue("default.DQ")

    assert broker.queues == broker.queues_pending == {"default"}
    assert broker.delay_queues == {"default.DQ"}
    broker.close()


def test_queues_of_other_arguments_are_used_as_they_are_with_one_warning(make_broker, caplog):
    broker = make_broker()
    declare(broker, "default", arguments={**DLX, "x-max-length": 1000})
    broker.declare_queue("default")

    for _ in range(2):
        broker.enqueue(message())
        broker.topology.forget("default")

    assert len(read_all(broker, "default")) == 2
    warnings = [each for each in caplog.messages if "used as it is" in each]
    assert len(warnings) == 1
    assert "'default'" in warnings[0]


def test_messages_are_published_as_2x_publishes_them_and_with_an_id(broker):
    sent = broker.enqueue(message(1, options={"broker_priority": 3}))

    ((body, properties),) = read_all(broker, "default")

    assert body == sent.encode()
    assert (properties.delivery_mode, properties.priority, properties.headers) == (2, 3, None)
    assert len(properties.message_id) == 32


def test_a_delayed_message_waits_in_the_delay_queue_with_its_eta(broker):
    before = current_millis()

    broker.enqueue(message(), delay=5000)

    ((body, _),) = read_all(broker, "default.DQ")
    stored = json.loads(body)
    assert stored["queue_name"] == "default.DQ"
    assert before + 5000 <= stored["options"]["eta"] <= current_millis() + 5000


def test_a_queue_that_vanished_is_declared_again(broker):
    broker.enqueue(message(1))
    with connect(broker) as connection:
        connection.channel().queue_delete("default")

    broker.enqueue_many([message(2), message(3)])

    assert [json.loads(body)["args"] for body, _ in read_all(broker, "default")] == [[2], [3]]
    declare(broker, "default", arguments=DLX)


def test_a_consumer_whose_queue_vanished_goes_on_with_a_new_one(broker):
    consumer = broker.consume("default")
    with connect(broker) as connection:
        connection.channel().queue_delete("default")
    # It notices while it waits.
    assert consumer.fetch(1, 300) == []

    broker.enqueue(message(7))

    (found,) = consumer.fetch(1, 5000)
    assert found.args == (7,)
    consumer.close()


def test_a_dead_letter_tells_why_and_holds_the_last_options(broker):
    consumer = broker.consume("default", prefetch=10)
    broker.enqueue_many([message(1), message(2)])
    first, second = take(consumer, 2)
    first.options["traceback"] = "line 1"
    payload = first._message.encode()
    before = current_millis()

    consumer.settle(
        [
            Settlement(
                first, Outcome.NACK, reason="KeyError: '\x00'" + "x" * 5000, payload=payload
            ),
            Settlement(second, Outcome.NACK),
        ]
    )

    consumer.close()
    letters = {json.loads(body)["args"][0]: (body, p) for body, p in read_all(broker, "default.XQ")}
    assert letters[1][0] == payload
    assert letters[2][0] == second._message.encode()
    headers = letters[1][1].headers
    assert headers["x-dramatiq-reason"].startswith(r"KeyError: '\x00'xxx")
    assert before <= headers["x-dramatiq-died-at"] <= current_millis()
    assert letters[2][1].headers["x-dramatiq-reason"] == "rejected"


def test_what_cannot_be_decoded_is_kept_as_it_is_from_the_delay_queue_too(broker):
    broker.declare_queue("default", ensure=True)
    publish_raw(broker, "default.DQ", b"\xff no message")
    consumer = broker.consume("default.DQ", prefetch=10)

    wait_until(lambda: consumer.exchange([], 1, 10) and read_all(broker, "default.XQ"))

    ((body, properties),) = read_all(broker, "default.XQ")
    assert body == b"\xff no message"
    assert properties.headers["x-dramatiq-reason"].startswith("DecodeError")
    assert broker.get_queue_message_counts("default") == (0, 0, 1)
    consumer.close()


@pytest.mark.parametrize("output", [frames.OUTPUT, "no_such_method"])
def test_messages_of_any_length_are_the_same_whichever_way_they_are_written(
    broker, monkeypatch, output
):
    monkeypatch.setattr(frames, "OUTPUT", output)
    # A frame holds 128 KiB, with what is around its content.
    texts = ["", "b" * 131_000, "c" * 131_072, "d" * 300_000]

    sent = broker.enqueue_many([message(text, options={"broker_priority": 2}) for text in texts])

    found = read_all(broker, "default")
    assert [body for body, _ in found] == [each.encode() for each in sent]
    assert {properties.priority for _, properties in found} == {2}


def test_large_messages_are_sent_few_at_a_time(broker):
    text = "x" * (5 << 20)

    broker.enqueue_many([message(number, text) for number in range(4)])

    with closing(broker.consume("default", prefetch=10)) as consumer:
        assert [each.args[0] for each in take(consumer, 4)] == [0, 1, 2, 3]


def test_far_messages_are_parked_and_near_ones_held(broker):
    delays = {"near": 1500, "soon": 4000, "hour": 3_700_000, "days": 86_400_000 * 3}
    for name, delay in delays.items():
        broker.enqueue(message(name), delay=delay)
    consumer = broker.consume("default.DQ", prefetch=100)

    wait_until(lambda: consumer.exchange([], 1, 10) and consumer.held_count == 1)

    for bucket, name in {1000: "soon", 3_600_000: "hour", 86_400_000: "days"}.items():
        ((body, properties),) = read_all(broker, f"default.park.{bucket}")
        stored = json.loads(body)
        assert (stored["args"], stored["queue_name"]) == ([name], "default.DQ")
        assert "x-death" not in properties.headers
    # Nor does it count as done while it is there.
    assert broker.get_queue_message_counts("default") == (0, 3, 0)
    consumer.close()
    assert [json.loads(body)["args"] for body, _ in read_all(broker, "default.DQ")] == [["near"]]


def test_a_parked_message_comes_back_and_runs_when_it_is_due(broker):
    sent_at = current_millis()
    broker.enqueue(message("parked", message_id="mine"), delay=2600)
    delayed, ready = broker.consume("default.DQ", prefetch=100), broker.consume("default")
    found = []

    def has_come():
        delayed.exchange([], 1, 20)
        found.extend(ready.fetch(1, 20))
        return found

    wait_until(has_come)
    assert sent_at + 2600 <= current_millis()
    assert (found[0].args, found[0].message_id) == (("parked",), "mine")
    assert "eta" not in found[0].options
    assert found[0].queue_name == "default"
    ready.ack(found[0])
    for each in (delayed, ready):
        each.close()
    assert broker.get_queue_message_counts("default") == (0, 0, 0)


def test_what_no_worker_has_room_for_goes_back_to_where_others_may_be_idle(broker):
    broker.enqueue_many([message(n) for n in range(8)])
    busy, idle = broker.consume("default", prefetch=8), broker.consume("default", prefetch=8)
    take(busy, 2)

    assert [each.args for each in take(idle, 6)] == [(n,) for n in range(2, 8)]
    assert busy.held_count == 2
    for each in (busy, idle):
        each.close()


def test_on_a_quorum_queue_giving_back_ends_as_the_server_counts_it(broker):
    declare(broker, "default", arguments={**DLX, "x-queue-type": "quorum"})
    broker.enqueue_many([message(n) for n in range(8)])
    with (
        closing(broker.consume("default", prefetch=8)) as busy,
        closing(broker.consume("default", prefetch=8)) as idle,
    ):
        take(busy, 1)
        found = take(idle, 1)
        wait_until(lambda: idle.held_count == 7)

        # The other one keeps what it gets, however long nobody asks for it.
        assert idle.fetch(1, 300)
        found += take(idle, 5)
        assert len({each.args for each in found}) == 6
        assert broker.get_queue_message_counts("default") == (0, 0, 0)


def test_higher_broker_priorities_come_first(make_broker):
    broker = make_broker(max_priority=5)
    broker.declare_queue("default")
    for priority in (0, 5, 2):
        broker.enqueue(message(priority, options={"broker_priority": priority}))

    with closing(broker.consume("default", prefetch=100)) as consumer:
        assert [each.args[0] for each in take(consumer, 3)] == [5, 2, 0]


def test_messages_of_2x_without_an_id_are_run_as_often_as_they_were_sent(broker):
    broker.declare_queue("default", ensure=True)
    body = message("twin").encode()
    publish_raw(broker, "default", body)
    publish_raw(broker, "default", body)

    with closing(broker.consume("default", prefetch=100)) as consumer:
        first = take(consumer, 1)
        consumer.ack(first[0])
        second = take(consumer, 1)
        consumer.ack(second[0])

    assert broker.get_queue_message_counts("default") == (0, 0, 0)


def test_a_message_that_was_published_twice_under_one_id_runs_once(broker):
    broker.declare_queue("default", ensure=True)
    body = message("once").encode()
    for _ in range(3):
        publish_raw(broker, "default", body, message_id="0123456789abcdef" * 2)

    with closing(broker.consume("default", prefetch=100)) as consumer:
        (only,) = take(consumer, 1)
        assert consumer.fetch(5, 100) == []
        consumer.ack(only)
        publish_raw(broker, "default", body, message_id="0123456789abcdef" * 2)
        assert consumer.fetch(5, 200) == []

    assert broker.get_queue_message_counts("default") == (0, 0, 0)


def take(consumer, count):
    found = []
    deadline = time.monotonic() + 10
    while len(found) < count:
        found += consumer.fetch(count - len(found), 100)
        assert time.monotonic() < deadline
    return found
