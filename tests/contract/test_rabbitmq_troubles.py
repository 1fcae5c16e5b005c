"""Connections to RabbitMQ break, go silent, or cannot be had."""

from __future__ import annotations

import json
import os
import socket
import threading
import time
from contextlib import closing

import pytest

import dramatiq
from dramatiq.brokers.rabbitmq import RabbitmqBroker, sending, session
from dramatiq.delivery import Outcome, Settlement
from dramatiq.errors import ConnectionClosed, ConnectionFailed
from dramatiq.message import Message
from dramatiq.testing.waiting import run_together, wait_until
from tests.proxy import Proxy
from tests.rabbitmq import QuickBroker, delete_queues, read_all
from tests.servers import free_port


@pytest.fixture
def proxy(rabbitmq_server):
    with Proxy(rabbitmq_server.port) as proxy:
        yield proxy


@pytest.fixture
def broker(rabbitmq_server, proxy):
    broker = QuickBroker(host="127.0.0.1", port=proxy.port)
    broker.declare_queue("default")
    yield broker
    broker.close()
    direct = QuickBroker(url=rabbitmq_server.url)
    direct.declare_queue("default")
    delete_queues(direct)
    direct.close()


@pytest.fixture
def direct(rabbitmq_server, broker):
    """A broker that is not disturbed, on the same queues."""
    direct = QuickBroker(url=rabbitmq_server.url)
    direct.declare_queue("default")
    yield direct
    direct.close()


def message(*args):
    return Message("default", "work", args, {}, {})


def take(consumer, count):
    found = []
    deadline = time.monotonic() + 10
    while len(found) < count:
        found += consumer.fetch(count - len(found), 100)
        assert time.monotonic() < deadline
    return found


# -- connecting


def test_a_server_that_is_not_there_is_told_of_within_seconds(caplog):
    broker = RabbitmqBroker(host="127.0.0.1", port=free_port(), connection_attempts=5)
    broker.declare_queue("default")

    for use in (lambda: broker.enqueue(message()), lambda: broker.consume("default")):
        with pytest.raises(ConnectionFailed, match=r"127\.0\.0\.1:\d+: nobody listens") as caught:
            use()
        # As 2.x has it.
        assert isinstance(caught.value, ConnectionClosed)
    # The client library would say it nine times at each attempt.
    assert not caplog.records
    broker.close()


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("amqp://guest:secret@127.0.0.1:{port}/%2F", "refuses the user or the password"),
        ("amqp://guest:guest@127.0.0.1:{port}/nowhere", "virtual host"),
    ],
)
def test_a_server_that_does_not_let_us_in_is_told_of_without_the_password(
    rabbitmq_server, url, expected
):
    broker = RabbitmqBroker(url=url.format(port=rabbitmq_server.port))

    with pytest.raises(ConnectionFailed, match=expected) as caught:
        broker.declare_queue("default", ensure=True)

    assert "secret" not in str(caught.value)
    broker.close()


def several(down, *up):
    """Return the ways to name servers in an order, as keywords of a broker."""
    urls = [f"amqp://guest:guest@127.0.0.1:{port}/%2F" for port in (down, *up)]
    dictionaries = [{"host": "127.0.0.1", "port": port} for port in (down, *up)]
    return {"text": {"url": "; ".join(urls)}, "list": {"url": urls}} | {
        "parameters": {"parameters": dictionaries}
    }


@pytest.mark.parametrize("way", ["text", "list", "parameters"])
def test_servers_are_tried_in_their_order(rabbitmq_server, proxy, way):
    broker = QuickBroker(**several(free_port(), proxy.port, rabbitmq_server.port)[way])
    broker.enqueue(message(1))
    assert proxy.accepted == 1

    proxy.refuse()

    broker.enqueue(message(2))
    with closing(broker.consume("default", prefetch=2)) as consumer:
        assert sorted(each.args for each in take(consumer, 2)) == [(1,), (2,)]
    broker.flush("default")
    broker.close()


def test_many_threads_share_one_connection(broker, proxy):
    run_together(20, lambda number: broker.enqueue(message(number)))

    assert proxy.accepted == 1
    assert len(read_all(broker, "default")) == 20


def test_an_idle_producer_keeps_its_connection(rabbitmq_server):
    with Proxy(rabbitmq_server.port) as proxy:
        broker = QuickBroker(host="127.0.0.1", port=proxy.port, heartbeat=1)
        broker.enqueue(message(1))
        seen = proxy.requests

        # Heartbeats of a second: the server gives a silent client up after two.
        wait_until(lambda: proxy.requests >= seen + 4)

        broker.enqueue(message(2))
        assert proxy.accepted == 1
        broker.flush("default")
        broker.close()


def test_the_kernel_is_told_to_notice_a_server_that_is_gone_without_a_word(broker):
    broker.enqueue(message(1))
    (descriptor,) = broker.sending.session()._loop.descriptors

    with socket.socket(fileno=os.dup(descriptor)) as connection:
        assert connection.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
        assert connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 12_000


def test_a_server_that_has_gone_silent_is_noticed(broker, proxy, direct, monkeypatch):
    monkeypatch.setattr(session, "ANSWER_TIMEOUT_S", 0.5)
    broker.enqueue(message(1))

    proxy.fall_silent()

    broker.enqueue(message(2))
    assert {tuple(json.loads(body)["args"]) for body, _ in read_all(direct, "default")} == {
        (1,),
        (2,),
    }


def test_a_server_that_takes_connections_and_never_answers_is_told_of(monkeypatch):
    monkeypatch.setattr(sending, "GIVE_UP_S", 0)
    with closing(socket.create_server(("127.0.0.1", 0))) as mute:
        port = mute.getsockname()[1]
        broker = RabbitmqBroker(host="127.0.0.1", port=port, stack_timeout=0.3)

        with pytest.raises(ConnectionFailed, match=rf"queue 'default'.*127\.0\.0\.1:{port}"):
            broker.enqueue(message())
        broker.close()


def test_a_consumer_notices_a_server_that_has_gone_silent(broker, proxy, direct, monkeypatch):
    monkeypatch.setattr(session, "PROBE_S", 0.05)
    consumer = broker.consume("default", prefetch=1)

    proxy.fall_silent()
    # The server may give one to the connection that is as good as dead.
    direct.enqueue_many([message(1), message(2)])

    (found,) = take(consumer, 1)
    assert found.args in {(1,), (2,)}
    assert proxy.accepted > 1
    consumer.close()


def test_a_silent_server_that_answers_is_left_alone(broker, proxy, monkeypatch):
    monkeypatch.setattr(session, "PROBE_S", 0.02)
    monkeypatch.setattr(session, "MAX_SILENT_PROBES", 500)
    with closing(broker.consume("default", prefetch=1)) as consumer:
        accepted, seen = proxy.accepted, proxy.requests

        # It is asked again each time that it has answered.
        wait_until(lambda: proxy.requests >= seen + 8)

        broker.enqueue(message(1))
        assert [each.args for each in take(consumer, 1)] == [(1,)]
        assert proxy.accepted == accepted


def test_a_server_short_of_memory_refuses_messages_and_is_emptied(
    rabbitmq_server, direct, monkeypatch
):
    monkeypatch.setattr(session, "BLOCKED_TIMEOUT_S", 0.3)
    direct.enqueue_many([message(n) for n in range(3)])
    consumer = direct.consume("default", prefetch=3)
    rabbitmq_server.run("rabbitmqctl", "set_vm_memory_high_watermark", "0.00001")
    try:
        with pytest.raises(ConnectionClosed, match="takes no messages"):
            direct.enqueue(message(3))

        # Acknowledgements go by another connection, which the server goes on reading. They do
        # not wait for what cannot be stored, and are told of when that is tried again.
        first, second, third = take(consumer, 3)
        settlements = [
            Settlement(first, Outcome.NACK),
            Settlement(second, Outcome.ACK),
            Settlement(third, Outcome.REQUEUE),
        ]
        with pytest.raises(ConnectionClosed, match="takes no messages"):
            consumer.settle(settlements)
        wait_until(lambda: [each.args for each in consumer.fetch(1, 50)] == [third.args])
    finally:
        rabbitmq_server.run("rabbitmqctl", "set_vm_memory_high_watermark", "0.4")
    wait_until(lambda: direct.sending.session().blocked is None)
    direct.enqueue(message(4))
    assert consumer.settle(settlements) == [True, True, True]
    consumer.close()
    assert {tuple(json.loads(body)["args"]) for body, _ in read_all(direct, "default.XQ")} == {
        first.args
    }
    with closing(direct.consume("default", prefetch=5)) as after:
        assert (4,) in [each.args for each in settle_all(after)]


def test_a_connection_that_breaks_while_publishing_loses_and_repeats_nothing(broker, proxy, direct):
    broker.enqueue(message("first"))
    for number in range(10):
        fault = proxy.drop_reply() if number % 2 else proxy.drop_request()
        broker.enqueue_many([message(number, part) for part in range(5)])
        fault.wait()

    with closing(direct.consume("default", prefetch=200)) as consumer:
        found = [tuple(each.args) for each in settle_all(consumer)]
    assert len(found) == len(set(found)) == 51


def settle_all(consumer):
    found = []
    while batch := consumer.fetch(100, 300):
        found += batch
        consumer.settle([Settlement(each, Outcome.ACK) for each in batch])
    return found


# -- consuming


def test_what_is_running_when_the_connection_breaks_is_settled_by_its_next_delivery(
    broker, proxy, direct
):
    direct.enqueue_many([message(n) for n in range(3)])
    consumer = broker.consume("default", prefetch=3)
    running = take(consumer, 3)

    proxy.reset_all()

    assert consumer.fetch(3, 300) == []
    settled = consumer.settle(
        [
            Settlement(running[0], Outcome.ACK),
            Settlement(running[1], Outcome.NACK),
            Settlement(running[2], Outcome.REQUEUE),
        ]
    )
    assert settled == [True, True, True]
    assert [each.args for each in take(consumer, 1)] == [(2,)]
    consumer.close()
    assert [json.loads(body)["args"] for body, _ in read_all(direct, "default.XQ")] == [[1]]
    assert direct.get_queue_message_counts("default") == (1, 0, 1)


def test_what_follows_is_stored_although_the_connection_broke_meanwhile(broker, proxy, direct):
    direct.enqueue(message("parent"))
    consumer = broker.consume("default", prefetch=3)
    (parent,) = take(consumer, 1)
    parent._origin = object()
    with broker.follow_ups(parent):
        broker.enqueue(message("child"))
    proxy.reset_all()

    assert consumer.settle([Settlement(parent, Outcome.ACK)]) == [True]

    assert [each.args for each in settle_all(consumer)] == [("child",)]
    consumer.close()
    assert direct.get_queue_message_counts("default") == (0, 0, 0)


def test_an_acknowledgement_that_was_lost_does_not_make_a_message_run_again(broker, proxy, direct):
    direct.enqueue_many([message(n) for n in range(4)])
    consumer = broker.consume("default", prefetch=4)
    messages = take(consumer, 4)
    fault = proxy.drop_request()
    consumer.settle([Settlement(each, Outcome.ACK) for each in messages])
    fault.wait()

    assert consumer.fetch(4, 500) == []

    wait_until(lambda: not consumer.held_count)
    consumer.close()
    assert direct.get_queue_message_counts("default") == (0, 0, 0)


def test_a_finished_task_never_acknowledges_what_came_over_a_new_connection(broker, proxy, direct):
    # The fault E5 of 2.x: after a reconnection the same number means another message.
    direct.enqueue_many([message(n) for n in range(2)])
    consumer = broker.consume("default", prefetch=1)
    (first,) = take(consumer, 1)
    proxy.reset_all()
    wait_until(lambda: direct.get_queue_message_counts("default") == (2, 0, 0))
    other = direct.consume("default", prefetch=2)
    take(other, 2)
    direct.enqueue(message("new"))
    (new,) = take(consumer, 1)
    assert (new._tag, new.args) == (first._tag, ("new",))

    assert consumer.settle([Settlement(first, Outcome.ACK)]) == [False]

    consumer.close()
    other.close()
    left = [json.loads(body)["args"] for body, _ in read_all(direct, "default")]
    assert sorted(left, key=str) == [["new"], [0], [1]]


def test_workers_go_on_when_the_server_is_back(broker, proxy, direct, monkeypatch):
    monkeypatch.setattr("dramatiq.worker.CONSUMER_RESTART_DELAY_SECS", 0.1)
    seen = []
    dramatiq.actor(seen.append, broker=broker, actor_name="work")
    worker = dramatiq.Worker(broker, worker_threads=2, worker_timeout=100)
    worker.start()
    try:
        direct.enqueue(message(1))
        wait_until(lambda: seen == [1])
        proxy.refuse()
        direct.enqueue(message(2))
        assert seen == [1]
        proxy.accept()
        wait_until(lambda: seen == [1, 2])
        direct.join("default", timeout=10_000)
    finally:
        worker.stop()


def test_an_actor_that_may_run_longer_than_the_server_waits_is_warned_of(direct, caplog):
    limits = {"short": 60_000, "endless": float("inf"), "long": 7_200_000}
    for name, time_limit in limits.items():
        dramatiq.actor(print, broker=direct, actor_name=name, time_limit=time_limit)

    for _ in range(2):
        direct.consume("default").close()

    (warning,) = [each for each in caplog.messages if "consumer_timeout" in each]
    assert "'long' may run for 120 minutes" in warning


# -- processes and threads


def test_a_forked_child_has_connections_of_its_own(broker, proxy, direct):
    broker.enqueue(message("before"))
    child = os.fork()
    if not child:
        try:
            broker.enqueue(message("child"))
            broker.close()
        finally:
            os._exit(0)
    os.waitpid(child, 0)
    broker.enqueue(message("after"))

    assert proxy.accepted == 2
    assert [json.loads(body)["args"] for body, _ in read_all(direct, "default")] == [
        ["before"],
        ["child"],
        ["after"],
    ]


def test_closing_ends_the_threads_and_a_next_use_begins_anew(broker, direct):
    consumer = broker.consume("default")
    broker.enqueue(message(1))
    assert [each.name for each in threading.enumerate() if each.name.startswith("rabbitmq-")]

    for _ in range(2):
        broker.close()
        consumer.close()

    assert not [each.name for each in threading.enumerate() if each.name.startswith("rabbitmq-p")]
    broker.enqueue(message(2))
    assert len(read_all(direct, "default")) == 2


def test_without_confirmations_enqueueing_does_not_wait(rabbitmq_server, direct):
    broker = QuickBroker(url=rabbitmq_server.url, confirm_delivery=False)

    broker.enqueue(message(1))

    wait_until(lambda: len(read_all(direct, "default")) == 1)
    broker.close()


def test_each_thread_may_have_a_blocking_connection_as_in_2x(rabbitmq_server):
    broker = RabbitmqBroker(url=rabbitmq_server.url)
    assert broker.connections == broker.channels == set()

    broker.channel.queue_declare("by-hand", exclusive=True)
    others = run_together(1, lambda _: broker.connection)

    assert broker.connection is not others[0]
    assert broker.connections == {broker.connection, others[0]}
    del broker.connection
    del broker.connection
    assert broker.channels == set()
    broker.close()
    assert broker.connections == set()


def test_servers_are_named_in_one_way_only():
    with pytest.raises(RuntimeError):
        RabbitmqBroker(url="amqp://a", host="b")
    with pytest.raises(RuntimeError):
        RabbitmqBroker(url="amqp://a", parameters=[{"host": "b"}])
    with pytest.raises(RuntimeError):
        RabbitmqBroker(parameters=[{"host": "a"}], port=1)
    for max_priority in (0, 256, -1):
        with pytest.raises(ValueError, match="between 1 and 255"):
            RabbitmqBroker(max_priority=max_priority)
