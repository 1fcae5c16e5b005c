"""Brokers for the dashboard's tests, and clients of it without a network."""

from __future__ import annotations

import pytest
from starlette.testclient import TestClient

import dramatiq
from dramatiq.brokers.redis import RedisBroker
from dramatiq.brokers.sqlite import SQLiteBroker
from dramatiq.brokers.stub import StubBroker
from dramatiq.dashboard import DashboardApp
from dramatiq.delivery import Outcome, Settlement

#: What browsers send along with the forms of a page.
SAME_ORIGIN = {"Sec-Fetch-Site": "same-origin"}


@pytest.fixture
def broker():
    broker = StubBroker()
    yield broker
    broker.close()


@pytest.fixture(params=["stub", "sqlite", "redis"])
def each_broker(request, tmp_path):
    """A broker of each kind that can be looked into."""
    if request.param == "stub":
        broker = StubBroker()
    elif request.param == "sqlite":
        broker = SQLiteBroker(tmp_path / "dramatiq.db")
    else:
        server = request.getfixturevalue("redis_server")
        broker = RedisBroker(url=f"redis://127.0.0.1:{server.port}", namespace=tmp_path.name)
    yield broker
    broker.close()


@pytest.fixture
def visit(broker):
    """Make a client of a dashboard of the stub broker, or of another broker."""

    def make(other=None, *, root_path="", **options):
        options = {"auth": None, "hide_args": False} | options
        app = DashboardApp(other or broker, **options)
        return TestClient(app, root_path=root_path, headers=SAME_ORIGIN, follow_redirects=False)

    return make


@pytest.fixture
def bury():
    """Make dead letters: a message for each reason, sent and given up at once."""

    def make(broker, *reasons, actor_name="work", queue_name="mail", args=(), **options):
        if actor_name not in broker.actors:
            dramatiq.actor(broker=broker, actor_name=actor_name, queue_name=queue_name)(print)
        consumer = broker.consume(queue_name, prefetch=len(reasons), timeout=100)
        sent = [broker.actors[actor_name].send_with_options(args=args, **options) for _ in reasons]
        held = []
        while len(held) < len(reasons):
            message = next(consumer)
            if message is not None:
                held.append(message)
        settlements = [
            Settlement(message, Outcome.NACK, reason=reason, payload=message._message.encode())
            for message, reason in zip(held, reasons, strict=True)
        ]
        assert all(consumer.settle(settlements))
        consumer.close()
        return sent

    return make
