"""What AMQP lets one see and do, and that the rest is refused with a plain word."""

from __future__ import annotations

import pytest

from dramatiq.inspection import InspectionNotSupported, QueueCounts, Selection, State
from dramatiq.message import Message
from dramatiq.testing.broker_dead_letters import DeadLetterTests as _Tests
from dramatiq.testing.waiting import wait_until
from tests.proxy import Proxy
from tests.rabbitmq import QuickBroker, delete_queues, publish_raw


class TestDeadLetters(_Tests):
    supports_inspection = True
    supports_raw_payloads = True

    @pytest.fixture
    def broker(self, rabbitmq_server):
        broker = QuickBroker(url=rabbitmq_server.url)
        yield broker
        delete_queues(broker)
        broker.close()

    def store_raw(self, broker, queue_name, payload):
        broker.declare_queue(queue_name, ensure=True)
        publish_raw(broker, queue_name, payload)


@pytest.fixture
def broker(rabbitmq_server):
    broker = QuickBroker(url=rabbitmq_server.url)
    broker.declare_queue("default", ensure=True)
    yield broker
    delete_queues(broker)
    broker.close()


def fill(broker):
    """Put three ready, two delayed, one held and one dead message into the queue."""
    consumer = broker.consume("default", prefetch=2)
    broker.enqueue_many([Message("default", "work", (n,), {}, {}) for n in range(5)])
    dead, _held = (consumer.fetch(1, 5000)[0] for _ in range(2))
    consumer.nack(dead)
    broker.enqueue_many([Message("default", "work", (n,), {}, {}) for n in range(2)], delay=60_000)
    return consumer


def test_queues_are_counted(broker):
    consumer = fill(broker)

    # The one that was pushed to the busy consumer goes back, as it has no room for it.
    expected = QueueCounts(ready=3, delayed=2, leased=1, dead=1)
    wait_until(lambda: broker.inspection.queue("default").counts == expected)
    (queue,) = broker.inspection.queues()
    assert (queue.name, queue.counts, queue.is_paused) == ("default", expected, False)
    assert broker.queue_counts("default") == expected
    assert broker.inspection.queue("nowhere").counts == QueueCounts()
    consumer.close()


def test_what_waits_can_be_purged_by_its_state(broker):
    consumer = fill(broker)
    inspection = broker.inspection
    wait_until(lambda: inspection.queue("default").counts.ready == 3)

    assert inspection.purge("default", [State.DELAYED, State.DEAD]) == 3
    assert inspection.purge("default", {State.READY}) == 3
    with pytest.raises(ValueError, match="default"):
        inspection.purge("default", [State.LEASED])

    assert inspection.queue("default").counts == QueueCounts(leased=1)
    consumer.close()


def test_a_slow_server_is_waited_for(broker, rabbitmq_server):
    broker.declare_queue("default", ensure=True)
    for number in range(12):
        # Of a size that only some of them fit into a piece.
        publish_raw(broker, "default.XQ", b"%03d" % number + bytes(50_000))
    with Proxy(rabbitmq_server.port) as proxy:
        url = f"amqp://guest:guest@127.0.0.1:{proxy.port}/%2F"
        slow = QuickBroker(url=url)
        slow.declare_queue("default", ensure=True)
        proxy.delay_s = 0.15

        assert len(slow.inspection.messages(State.DEAD, Selection("default")).items) == 12

        proxy.delay_s = 0
        slow.close()


@pytest.mark.parametrize(
    ("act", "expected"),
    [
        (lambda inspection: inspection.pause("default"), "Stop those that serve it"),
        (lambda inspection: inspection.resume("default"), "Stop those that serve it"),
        (lambda inspection: inspection.workers(), "rabbitmqctl list_consumers"),
        (lambda inspection: inspection.messages(State.READY), "management page"),
        (lambda inspection: inspection.find("id"), "management page"),
    ],
)
def test_what_amqp_cannot_do_is_refused_with_what_can_be_done(broker, act, expected):
    with pytest.raises(InspectionNotSupported, match=expected) as caught:
        act(broker.inspection)

    assert "RabbitmqBroker does not support" in str(caught.value)
