"""What harms the connections of other tests does so exactly when it is told to."""

from __future__ import annotations

import socket
import time
from contextlib import suppress

import pytest
import redis

from dramatiq.testing.waiting import wait_until
from tests.proxy import REQUEST, Proxy


@pytest.fixture
def proxy(redis_server):
    with Proxy(redis_server.port) as proxy:
        yield proxy


@pytest.fixture
def connect(proxy):
    """Make clients that wait at most a second and never try again."""
    clients = []

    def connect():
        client = redis.Redis(
            port=proxy.port,
            socket_timeout=1,
            socket_connect_timeout=1,
            retry=redis.retry.Retry(redis.backoff.NoBackoff(), 0),
            protocol=2,
        )
        clients.append(client)
        return client

    yield connect
    for client in clients:
        client.close()


@pytest.fixture
def client(connect):
    client = connect()
    client.ping()
    return client


def speak(proxy, *requests):
    """Send inline commands over one connection, each after the reply to the one before."""
    with socket.create_connection(("127.0.0.1", proxy.port), timeout=2) as connection:
        replies = []
        for request in requests:
            connection.sendall(request)
            replies.append(connection.recv(65536))
        return replies


def test_everything_passes_both_ways(client, proxy):
    value = b"x" * 1_000_000

    assert value == client.echo(value)
    assert 1 == proxy.accepted == len(proxy.links)


@pytest.mark.parametrize("count", [0, 1, 6])
def test_a_connection_is_cut_after_a_number_of_reply_bytes(proxy, count):
    proxy.cut_after(count)

    with socket.create_connection(("127.0.0.1", proxy.port), timeout=2) as connection:
        connection.sendall(b"PING\r\n")
        reply = b"".join(iter(lambda: connection.recv(100), b""))

    assert b"+PONG\r\n"[:count] == reply


def test_a_connection_is_cut_in_the_middle_of_a_request(client, proxy, redis_server):
    redis_server.client().delete("half")
    fault = proxy.cut_after(20, REQUEST)

    with pytest.raises(redis.ConnectionError):
        client.set("half", "a request of more than twenty bytes")

    fault.wait()
    assert client.ping()
    assert not client.exists("half")


def test_a_request_is_dropped_before_the_server_sees_it(client, proxy):
    client.delete("counter")
    fault = proxy.drop_request(number=2, requesting=b"INCR")
    client.incr("counter")

    with pytest.raises(redis.ConnectionError):
        client.incr("counter")

    assert fault.struck.is_set()
    assert b"1" == client.get("counter")


def test_a_reply_is_dropped_after_the_server_did_its_work(client, proxy):
    client.delete("counter")
    fault = proxy.drop_reply(number=2, requesting=b"INCR")
    client.incr("counter")

    with pytest.raises(redis.ConnectionError):
        client.incr("counter")

    assert fault.struck.is_set()
    assert b"2" == client.get("counter")


def test_a_reply_is_chosen_by_what_is_in_it(client, proxy):
    proxy.drop_reply(matching=b"needle", reset=True)
    client.echo("hay")

    with pytest.raises(redis.ConnectionError, match="reset"):
        client.echo("a needle")


def test_a_pipeline_has_one_reply(proxy):
    proxy.drop_reply(number=2)

    replies = speak(proxy, b"PING\r\nPING\r\nPING\r\n", b"PING\r\n")

    assert [b"+PONG\r\n" * 3, b""] == replies


def test_a_reply_is_held_until_it_is_released(client, proxy):
    fault = proxy.hold_reply(requesting=b"ECHO")
    with pytest.raises(redis.TimeoutError):
        client.echo("late")

    fault.release()

    assert b"early" == client.echo("early")


def test_a_held_request_arrives_although_its_sender_is_gone(client, connect, proxy):
    client.delete("list")
    dying = connect()
    dying.ping()
    fault = proxy.hold_request(requesting=b"RPUSH")
    with pytest.raises(redis.TimeoutError):
        dying.rpush("list", "late")
    dying.close()
    assert 0 == client.llen("list")

    fault.release()

    assert (b"list", b"late") == client.blpop(["list"], timeout=1)


def test_a_half_open_connection_carries_nothing_and_a_new_one_does(client, connect, proxy):
    proxy.fall_silent()

    with pytest.raises(redis.TimeoutError):
        client.ping()

    assert connect().ping()


def test_new_connections_are_silent_until_the_proxy_heals(connect, proxy):
    proxy.fall_silent(new_too=True)
    with pytest.raises(redis.TimeoutError):
        connect().ping()

    proxy.heal()

    assert connect().ping()


def test_everything_is_delayed(client, proxy):
    proxy.delay_s = 0.05
    start = time.monotonic()

    client.ping()

    assert 0.1 <= time.monotonic() - start < 1


def test_all_connections_are_reset_at_once(client, proxy):
    client.ping()
    wait_until(lambda: proxy.links)
    before = list(proxy.links)

    proxy.reset_all()

    wait_until(lambda: not [link for link in proxy.links if link in before])
    # Whether the client finds out by itself in time is its own affair.
    with suppress(redis.ConnectionError):
        client.ping()
    assert client.ping()


def test_refused_connections_are_taken_again_on_the_same_port(client, proxy):
    port = proxy.port
    proxy.refuse()
    with pytest.raises(redis.ConnectionError):
        client.ping()
    with pytest.raises(redis.ConnectionError, match="refused"):
        client.ping()

    proxy.accept()

    assert port == proxy.port
    assert client.ping()
