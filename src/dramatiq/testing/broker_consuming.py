# ruff: noqa: D102 - a test's name is its sentence.
"""What the consumers of every broker must do, used directly; see `broker_contract`."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Any

import pytest

from ..delivery import Outcome, Settlement
from .broker_suite import BrokerSuite, OpenConsumer, ids_of
from .waiting import wait_until

if TYPE_CHECKING:
    from ..broker import Broker

__all__ = ["ConsumingTests"]


class ConsumingTests(BrokerSuite):
    """Fetching, and exchanging outcomes for messages."""

    def test_messages_come_in_the_order_they_were_sent(
        self, broker: Broker, open_consumer: OpenConsumer
    ) -> None:
        sent = self.fill(broker, 20)

        assert ids_of(self.take(open_consumer(), 20)) == sent

    def test_fetch_returns_no_more_than_asked_for(
        self, broker: Broker, open_consumer: OpenConsumer
    ) -> None:
        self.fill(broker, 10)
        consumer = open_consumer()

        assert 0 < len(consumer.fetch(3, 100)) <= 3
        assert len(consumer.fetch(1, 100)) == 1

    def test_an_empty_queue_gives_nothing_within_about_the_timeout(
        self, open_consumer: OpenConsumer
    ) -> None:
        consumer = open_consumer()

        assert 80 <= self.fetch_for(consumer, 100) < 100 + self.fetch_slack
        assert self.fetch_for(consumer, 0) < self.fetch_slack

    def test_a_waiting_fetch_returns_when_a_message_is_sent(
        self, broker: Broker, open_consumer: OpenConsumer
    ) -> None:
        consumer = open_consumer()
        sending = threading.Timer(0.05, self.fill, (broker, 1))
        started_at = time.monotonic()
        sending.start()

        messages = self.take(consumer, 1)

        sending.join()
        assert len(messages) == 1
        assert time.monotonic() - started_at < 5

    def test_waking_ends_a_waiting_fetch(self, open_consumer: OpenConsumer) -> None:
        if not self.supports_wake:
            pytest.skip("this broker's consumers cannot be woken")
        consumer = open_consumer()
        waking = threading.Timer(0.05, consumer.wake)
        waking.start()

        assert self.fetch_for(consumer, 20_000) < 10_000
        waking.join()

    def test_waking_before_a_fetch_is_not_lost(self, open_consumer: OpenConsumer) -> None:
        if not self.supports_wake:
            pytest.skip("this broker's consumers cannot be woken")
        consumer = open_consumer()

        consumer.wake()

        assert self.fetch_for(consumer, 20_000) < 10_000
        assert self.fetch_for(consumer, 100) >= 80

    def test_a_consumer_is_an_iterator_that_gives_none_when_idle(
        self, broker: Broker, open_consumer: OpenConsumer
    ) -> None:
        consumer = open_consumer()
        sent = self.fill(broker, 2)
        iterator = iter(consumer)

        found: list[Any] = [next(iterator) for _ in range(2)]

        assert ids_of(found) == sent
        assert next(iterator) is None

    def test_no_more_than_the_prefetch_is_handed_out(
        self, broker: Broker, open_consumer: OpenConsumer
    ) -> None:
        if not self.honours_prefetch:
            pytest.skip("whoever fetches limits how much")
        self.fill(broker, 5)
        consumer = open_consumer(prefetch=2)

        messages = self.take(consumer, 2)

        self.assert_empty(consumer)
        self.settle(consumer, messages[:1], Outcome.ACK)
        assert len(consumer.fetch(5, 100)) == 1

    def test_a_message_is_handed_out_to_one_consumer(
        self, broker: Broker, open_consumer: OpenConsumer
    ) -> None:
        sent = self.fill(broker, 10)
        first, second = open_consumer(), open_consumer()

        fetched = self.take(first, 5) + self.take(second, 5)

        assert sorted(ids_of(fetched)) == sorted(sent)
        self.assert_empty(first)
        self.assert_empty(second)

    def test_a_consumer_sees_its_own_queue_only(
        self, broker: Broker, open_consumer: OpenConsumer
    ) -> None:
        sent = self.fill(broker, 2, "mine")
        self.fill(broker, 2, "yours")
        consumer = open_consumer("mine")

        assert ids_of(self.take(consumer, 2)) == sent
        self.assert_empty(consumer)

    def test_exchange_settles_and_fetches(
        self, broker: Broker, open_consumer: OpenConsumer
    ) -> None:
        sent = self.fill(broker, 3)
        consumer = open_consumer()
        _, first = consumer.exchange([], 1, 1000)

        settled, second = consumer.exchange([Settlement(first[0], Outcome.ACK)], 1, 1000)

        assert settled == [True]
        assert ids_of(first + second) == sent[:2]

    def test_exchange_without_room_settles_only(
        self, broker: Broker, open_consumer: OpenConsumer
    ) -> None:
        self.fill(broker, 2)
        consumer = open_consumer()
        message = self.take(consumer, 1)[0]

        assert consumer.exchange([Settlement(message, Outcome.ACK)], 0, 1000) == ([True], [])
        assert consumer.exchange([], 0, 1000) == ([], [])
        assert len(self.take(consumer, 1)) == 1

    def test_exchange_does_not_wait_when_there_was_something_to_settle(
        self, broker: Broker, open_consumer: OpenConsumer
    ) -> None:
        self.fill(broker, 1)
        consumer = open_consumer()
        message = self.take(consumer, 1)[0]
        started_at = time.monotonic()

        settled, messages = consumer.exchange([Settlement(message, Outcome.ACK)], 10, 20_000)

        assert (settled, messages) == ([True], [])
        assert time.monotonic() - started_at < 10

    def test_an_undecodable_payload_does_not_stop_its_neighbours(
        self, broker: Broker, open_consumer: OpenConsumer
    ) -> None:
        if not self.supports_raw_payloads:
            pytest.skip("this broker's tests cannot store raw payloads")
        payloads = [b"", b"nonsense", b"\xff\x00\x1e", b"[1, 2]", b'{"queue_name": "default"}']
        before = self.fill(broker, 2)
        for payload in payloads:
            self.store_raw(broker, "default", payload)
        after = self.fill(broker, 2)
        consumer = open_consumer()

        messages = self.take(consumer, 4)

        assert sorted(ids_of(messages)) == sorted(before + after)
        self.settle(consumer, messages, Outcome.ACK)
        self.assert_empty(consumer)
        broker.join("default", timeout=5000)
        if self.supports_dead_letter_inspection:
            wait_until(lambda: len(self.dead_payloads(broker, "default")) == len(payloads))
            assert sorted(self.dead_payloads(broker, "default")) == sorted(payloads)
