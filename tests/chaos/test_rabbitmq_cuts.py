"""RabbitMQ connections that are cut after any number of bytes, of what is said or answered."""

from __future__ import annotations

import random
import time

import pytest

from dramatiq.delivery import Outcome, Settlement
from dramatiq.errors import BrokerConnectionError
from dramatiq.message import Message
from tests.chaos.redis_harness import IS_FULL, SEED, show
from tests.proxy import REPLY, REQUEST, Proxy
from tests.rabbitmq import QuickBroker, delete_queues

#: After how many bytes: a spread of all, or a few at random.
CUTS = range(1, 4097, 15) if IS_FULL else random.Random(SEED).sample(range(1, 4097), 6)

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(600)]


def settle_some(consumer, seen, timeout_ms):
    """Take what there is and settle it; whatever breaks meanwhile is the next call's to mend."""
    try:
        found = consumer.fetch(10, timeout_ms)
        seen += [each.args[0] for each in found]
        consumer.settle([Settlement(each, Outcome.ACK) for each in found])
    except BrokerConnectionError:
        return


@pytest.mark.parametrize("direction", [REQUEST, REPLY])
def test_a_connection_that_is_cut_anywhere_loses_nothing_and_runs_nothing_twice(
    rabbitmq_server, capsys, direction
):
    sent, seen = [], []
    with Proxy(rabbitmq_server.port, SEED) as proxy:
        broker = QuickBroker(host="127.0.0.1", port=proxy.port)
        consumer = broker.consume("default", prefetch=10)
        for cut in CUTS:
            fault = proxy.cut_after(cut, direction)
            while not fault.struck.is_set():
                numbers = range(len(sent), len(sent) + 3)
                broker.enqueue_many([Message("default", "work", (n,), {}, {}) for n in numbers])
                sent += numbers
                settle_some(consumer, seen, 20)
        deadline = time.monotonic() + 30
        while set(seen) != set(sent) and time.monotonic() < deadline:
            settle_some(consumer, seen, 100)
        settle_some(consumer, seen, 500)

        figures = {
            "cuts": len(CUTS),
            "sent": len(sent),
            "lost": len(set(sent) - set(seen)),
            "duplicates": len(seen) - len(set(seen)),
        }
        show(capsys, f"RabbitMQ connections that are cut, in a {direction}", figures)
        consumer.close()
        counts = broker.get_queue_message_counts("default")
        delete_queues(broker)
        broker.close()
        assert (figures["lost"], figures["duplicates"], counts) == (0, 0, (0, 0, 0)), figures
