# ruff: noqa: D102 - a test's name is its sentence.
"""What must become of fetched messages with every broker; see `broker_contract`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from ..delivery import Outcome, Settlement
from ..errors import QueueJoinTimeout
from ..message import Message
from .broker_suite import BrokerSuite, OpenConsumer, ids_of

if TYPE_CHECKING:
    from ..broker import Broker

__all__ = ["SettlingTests"]


class SettlingTests(BrokerSuite):
    """Acknowledging, dead-lettering, giving back, closing."""

    def test_an_acknowledged_message_is_gone(
        self, broker: Broker, open_consumer: OpenConsumer
    ) -> None:
        self.fill(broker, 1)
        consumer = open_consumer()

        consumer.ack(self.take(consumer, 1)[0])

        self.assert_empty(consumer)
        broker.join("default", timeout=5000)
        consumer.close()
        self.assert_empty(open_consumer())

    def test_a_rejected_message_is_a_dead_letter(
        self, broker: Broker, open_consumer: OpenConsumer
    ) -> None:
        self.fill(broker, 1)
        consumer = open_consumer()
        message = self.take(consumer, 1)[0]

        consumer.nack(message)

        self.assert_empty(consumer)
        broker.join("default", timeout=5000)
        if self.supports_dead_letter_inspection:
            assert [message] == [
                Message.decode(payload) for payload in self.dead_payloads(broker, "default")
            ]

    def test_a_message_that_is_given_back_comes_again(
        self, broker: Broker, open_consumer: OpenConsumer
    ) -> None:
        (message_id,) = self.fill(broker, 1)
        consumer = open_consumer()

        consumer.requeue(iter(self.take(consumer, 1)))

        assert ids_of(self.take(consumer, 1)) == [message_id]

    def test_messages_that_are_given_back_come_before_the_others_in_their_order(
        self, broker: Broker, open_consumer: OpenConsumer
    ) -> None:
        if not self.requeues_to_front:
            pytest.skip("this broker puts messages back to the end")
        sent = self.fill(broker, 5)
        consumer = open_consumer()

        consumer.requeue(self.take(consumer, 3))

        assert ids_of(self.take(consumer, 5)) == sent

    def test_options_changed_by_a_worker_are_not_given_back(
        self, broker: Broker, open_consumer: OpenConsumer
    ) -> None:
        self.fill(broker, 1)
        consumer = open_consumer()
        message = self.take(consumer, 1)[0]
        message.options["retries"] = 1

        consumer.requeue([message])

        assert "retries" not in self.take(consumer, 1)[0].options

    def test_settling_tells_of_each_whether_it_was_still_held(
        self, broker: Broker, open_consumer: OpenConsumer
    ) -> None:
        if not self.fences_settlements:
            pytest.skip("this broker does not know")
        self.fill(broker, 6)
        consumer = open_consumer()
        messages = self.take(consumer, 6)
        outcomes = [Outcome.ACK, Outcome.NACK, Outcome.REQUEUE] * 2
        self.settle(consumer, messages[:3], Outcome.ACK)

        settled = consumer.settle(list(map(Settlement, messages, outcomes)))

        assert settled == [False, False, False, True, True, True]
        assert ids_of(self.take(consumer, 1)) == [messages[5].message_id]
        if self.supports_dead_letter_inspection:
            assert len(self.dead_payloads(broker, "default")) == 1

    def test_settling_twice_changes_nothing_more(
        self, broker: Broker, open_consumer: OpenConsumer
    ) -> None:
        self.fill(broker, 1)
        consumer = open_consumer()
        message = self.take(consumer, 1)[0]
        consumer.ack(message)

        consumer.ack(message)
        consumer.nack(message)
        consumer.requeue([message])

        self.assert_empty(consumer)
        if self.supports_dead_letter_inspection:
            assert self.dead_payloads(broker, "default") == []

    def test_settling_nothing_does_nothing(self, open_consumer: OpenConsumer) -> None:
        assert open_consumer().settle([]) == []

    def test_a_late_outcome_does_not_touch_a_later_delivery(
        self, broker: Broker, open_consumer: OpenConsumer
    ) -> None:
        if not self.tells_deliveries_apart:
            pytest.skip("this broker fences by process, not by delivery")
        (message_id,) = self.fill(broker, 1)
        late, current = open_consumer(), open_consumer()
        stale = self.take(late, 1)[0]
        late.requeue([stale])
        held = self.take(current, 1)[0]

        late.nack(stale)

        assert held.message_id == message_id
        self.settle(current, [held], Outcome.ACK)

    def test_closing_gives_back_what_was_not_settled_and_nothing_else(
        self, broker: Broker, open_consumer: OpenConsumer
    ) -> None:
        if not self.redelivers_on_close:
            pytest.skip("this broker redelivers after a while")
        sent = self.fill(broker, 4)
        consumer = open_consumer()
        messages = self.take(consumer, 4)
        self.settle(consumer, messages[:1], Outcome.ACK)
        self.settle(consumer, messages[1:2], Outcome.NACK)

        consumer.close()
        consumer.close()

        successor = open_consumer()
        assert ids_of(self.take(successor, 2)) == sent[2:]
        self.assert_empty(successor)

    def test_closing_a_consumer_leaves_alone_what_others_hold(
        self, broker: Broker, open_consumer: OpenConsumer
    ) -> None:
        sent = self.fill(broker, 2)
        closed, other = open_consumer(), open_consumer()
        self.take(closed, 1)
        held = self.take(other, 1)

        closed.close()

        if self.redelivers_on_close:
            assert ids_of(self.take(other, 1)) == sent[:1]
        self.assert_empty(other)
        self.settle(other, held, Outcome.ACK)

    def test_a_queue_is_not_done_while_a_message_is_held(
        self, broker: Broker, open_consumer: OpenConsumer
    ) -> None:
        self.fill(broker, 1)
        consumer = open_consumer()
        message = self.take(consumer, 1)[0]

        with pytest.raises(QueueJoinTimeout):
            broker.join("default", timeout=50)

        self.settle(consumer, [message], Outcome.ACK)
        broker.join("default", timeout=5000)

    def test_thousands_are_settled_at_once(
        self, broker: Broker, open_consumer: OpenConsumer
    ) -> None:
        self.fill(broker, 5000)
        consumer = open_consumer(prefetch=5000)
        messages = self.take(consumer, 5000)

        self.settle(consumer, messages[::2], Outcome.ACK)
        self.settle(consumer, messages[1::2], Outcome.REQUEUE)

        again = self.take(consumer, 2500)
        assert sorted(ids_of(again)) == sorted(ids_of(messages[1::2]))
        self.settle(consumer, again, Outcome.ACK)
        broker.join("default", timeout=5000)

    # -- consequences

    def test_what_follows_is_stored_with_the_settlement(
        self, broker: Broker, open_consumer: OpenConsumer
    ) -> None:
        if not broker.stores_follow_ups:
            pytest.skip("this broker stores what follows at once")
        self.fill(broker, 2)
        consumer = open_consumer()
        messages = self.take(consumer, 2)
        for message in messages:
            message._origin = self
            with broker.follow_ups(message):
                broker.enqueue(self.make_message("follow-up", message.message_id))
        self.assert_empty(consumer)

        settled = consumer.settle(
            [Settlement(messages[0], Outcome.ACK), Settlement(messages[1], Outcome.NACK)]
        )

        assert settled == [True, True]
        assert [message.args[1] for message in self.take(consumer, 2)] == ids_of(messages)

    def test_nothing_follows_from_a_message_that_is_not_held_any_more(
        self, broker: Broker, open_consumer: OpenConsumer
    ) -> None:
        if not (broker.stores_follow_ups and self.fences_settlements):
            pytest.skip("this broker stores what follows at once")
        self.fill(broker, 1)
        consumer = open_consumer()
        message = self.take(consumer, 1)[0]
        message._origin = self
        self.settle(consumer, [message], Outcome.ACK)
        with broker.follow_ups(message):
            broker.enqueue(self.make_message("follow-up"))

        assert consumer.settle([Settlement(message, Outcome.ACK)]) == [False]

        self.assert_empty(consumer)
