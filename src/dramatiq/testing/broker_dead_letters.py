# ruff: noqa: D102 - a test's name is its sentence.
"""Looking at dead letters, putting them back, dropping them; see `broker_contract`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from ..common import current_millis
from ..delivery import Outcome, Settlement
from ..inspection import Selection, State
from .broker_suite import JOIN_TIMEOUT, BrokerSuite, Ledger, OpenConsumer, StartWorker, ids_of
from .waiting import run_together, wait_until

if TYPE_CHECKING:
    from ..broker import Broker, Consumer, MessageProxy
    from ..inspection import Inspection, MessageInfo

__all__ = ["DeadLetterTests"]


class DeadLetterSuite(BrokerSuite):
    """What the tests of a broker's inspection share."""

    @pytest.fixture
    def inspection(self, broker: Broker) -> Inspection:
        """The door of the broker."""
        if not self.supports_inspection:
            pytest.skip("this broker cannot be inspected")
        return broker.inspection

    def bury(
        self, consumer: Consumer, *messages: MessageProxy, reason: str = "ValueError: broken"
    ) -> None:
        """Give messages up, as a worker does whose retries are used up."""
        settlements = []
        for message in messages:
            spent = {"retries": 3, "traceback": "line 1", "requeue_timestamp": 1, "mine": "kept"}
            message.options.update(spent)
            settlement = Settlement(
                message, Outcome.NACK, reason=reason, payload=message._message.encode()
            )
            settlements.append(settlement)
        assert consumer.settle(settlements) == [True] * len(settlements)

    def fill_dead(
        self, broker: Broker, consumer: Consumer, count: int, **options: Any
    ) -> list[str]:
        """Make so many dead letters; return their message ids."""
        ids = self.fill(broker, count, consumer.queue_name)  # type: ignore[attr-defined]
        self.bury(consumer, *self.take(consumer, count), **options)
        return ids


class DeadLetterTests(DeadLetterSuite):
    """Bulk operations on dead letters."""

    def ids(self, infos: list[MessageInfo]) -> list[str]:
        """Return the message ids of what can be decoded."""
        return [info.message.message_id for info in infos if info.message is not None]

    def dead_ids(self, inspection: Inspection, **fields: Any) -> list[str]:
        """Return the message ids of dead letters of one queue."""
        selection = Selection(**{"queue_name": "default", **fields})
        return self.ids(inspection.messages(State.DEAD, selection).items)

    def test_a_dead_letter_tells_why_and_when_it_died(
        self, broker: Broker, inspection: Inspection, open_consumer: OpenConsumer
    ) -> None:
        before = current_millis()
        (message_id,) = self.fill_dead(broker, open_consumer(), 1, reason="KeyError: 'x'")

        (info,) = inspection.messages(State.DEAD, Selection("default")).items

        assert (info.state, info.queue_name, info.reason) == (
            State.DEAD,
            "default",
            "KeyError: 'x'",
        )
        assert before <= (info.died_at or 0) <= current_millis()
        assert self.ids([info]) == [message_id]
        assert info.message is not None
        assert info.message.options["traceback"] == "line 1"

    def test_dead_letters_are_read_the_newest_first(
        self, broker: Broker, inspection: Inspection, open_consumer: OpenConsumer
    ) -> None:
        consumer = open_consumer()
        ids = []
        for _ in range(5):
            died_at = current_millis()
            wait_until(lambda: current_millis() > died_at)  # noqa: B023 (called at once)
            ids += self.fill_dead(broker, consumer, 1)

        first = inspection.messages(State.DEAD, limit=3)
        rest = inspection.messages(State.DEAD, limit=3, cursor=first.cursor)

        assert self.ids(first.items + rest.items) == ids[::-1]
        assert rest.cursor is None

    def test_the_kind_of_failure_is_matched_exactly(
        self, broker: Broker, inspection: Inspection, open_consumer: OpenConsumer
    ) -> None:
        consumer = open_consumer()
        (wanted,) = self.fill_dead(broker, consumer, 1, reason="KeyError: 'ValueError'")
        self.fill_dead(broker, consumer, 1, reason="MyKeyError: 'x'")

        selection = Selection("default", error_class="KeyError")

        assert self.dead_ids(inspection, error_class="KeyError") == [wanted]
        assert inspection.count_dead(selection) == 1
        assert inspection.delete_dead(selection) == 1
        (left,) = inspection.messages(State.DEAD).items
        assert left.error_class == "MyKeyError"

    def test_a_dead_letter_that_is_put_back_starts_over(
        self, broker: Broker, inspection: Inspection, open_consumer: OpenConsumer
    ) -> None:
        (message_id,) = self.fill_dead(broker, open_consumer(), 1)

        assert inspection.requeue(Selection("default")) == 1

        assert self.dead_ids(inspection) == []
        (message,) = self.take(open_consumer(), 1)
        assert (message.message_id, message.args, message.queue_name) == (
            message_id,
            (0,),
            "default",
        )
        options = dict(message.options)
        options.pop("redis_message_id", None)
        assert options == {"mine": "kept"}

    def test_a_dead_letter_that_is_put_back_runs(
        self,
        broker: Broker,
        inspection: Inspection,
        ledger: Ledger,
        start_worker: StartWorker,
    ) -> None:
        def fail_once(number: int) -> None:
            ledger.write(number)
            if len(ledger.entries) == 1:
                raise ValueError("once")

        actor = self.declare(broker, fail_once, max_retries=0)
        start_worker()
        actor.send_with_options(args=(7,), delay=10)
        ledger.wait_for(1)
        wait_until(lambda: inspection.count_dead(Selection()) == 1)

        assert inspection.requeue(Selection(actor_name="work")) == 1

        assert ledger.wait_for(2) == [7, 7]
        broker.join("default", timeout=JOIN_TIMEOUT)
        assert inspection.count_dead(Selection()) == 0

    def test_dead_letters_go_to_the_end_of_their_queue_the_oldest_first(
        self, broker: Broker, inspection: Inspection, open_consumer: OpenConsumer
    ) -> None:
        consumer = open_consumer()
        old = self.fill_dead(broker, consumer, 1)
        died_at = current_millis()
        wait_until(lambda: current_millis() > died_at)
        new = self.fill_dead(broker, consumer, 1)
        waiting = self.fill(broker, 1)
        sent_at = current_millis()
        wait_until(lambda: current_millis() > sent_at)

        inspection.requeue(Selection())

        assert ids_of(self.take(consumer, 3)) == waiting + old + new

    @pytest.mark.parametrize("operation", ["requeue", "delete_dead"])
    @pytest.mark.parametrize(
        "fields",
        [
            {"actor_name": "chosen"},
            {"error": "keyerror: 'CHOSEN'"},
            {"message_id": "id-chosen"},
            {"queue_name": "chosen"},
            {"actor_name": "chosen", "error": "KeyError", "message_id": "id-chosen"},
        ],
        ids="+".join,
    )
    def test_only_what_is_selected_is_touched(
        self,
        broker: Broker,
        inspection: Inspection,
        open_consumer: OpenConsumer,
        fields: dict[str, Any],
        operation: str,
    ) -> None:
        for name in ("chosen", "other"):
            consumer = open_consumer(name)
            broker.enqueue(
                self.make_message(queue_name=name, actor_name=name, message_id=f"id-{name}")
            )
            self.bury(consumer, *self.take(consumer, 1), reason=f"KeyError: '{name}'")
        selection = Selection(**fields)

        assert inspection.count_dead(selection) == 1
        assert self.ids(inspection.messages(State.DEAD, selection).items) == ["id-chosen"]
        assert getattr(inspection, operation)(selection) == 1

        assert self.ids(inspection.messages(State.DEAD).items) == ["id-other"]
        assert inspection.count_dead(selection) == 0
        # Where consumers are pushed what is ready, it comes back from one that does not ask.
        wait_until(lambda: inspection.queue("chosen").counts.ready == (operation == "requeue"))

    def test_dead_letters_are_selected_by_the_time_of_their_death(
        self, broker: Broker, inspection: Inspection, open_consumer: OpenConsumer
    ) -> None:
        consumer = open_consumer()
        old = self.fill_dead(broker, consumer, 1)
        (died_at,) = [info.died_at for info in inspection.messages(State.DEAD).items]
        assert died_at is not None
        wait_until(lambda: current_millis() > died_at)
        new = self.fill_dead(broker, consumer, 1)

        assert self.dead_ids(inspection, until=died_at) == old
        assert self.dead_ids(inspection, since=died_at + 1) == new
        assert self.dead_ids(inspection, since=died_at) == new + old
        assert inspection.count_dead(Selection(since=died_at + 1)) == 1
        assert inspection.delete_dead(Selection(until=died_at)) == 1
        assert self.dead_ids(inspection) == new

    def test_dead_letters_are_selected_by_their_keys(
        self, broker: Broker, inspection: Inspection, open_consumer: OpenConsumer
    ) -> None:
        self.fill_dead(broker, open_consumer(), 3)
        infos = inspection.messages(State.DEAD, Selection("default")).items
        selection = Selection("default", keys=[infos[1].key, infos[1].key, "31337"])

        assert inspection.count_dead(selection) == 1
        for limit in (1, 100):
            assert inspection.messages(State.DEAD, selection, limit=limit).items == [infos[1]]
        assert inspection.requeue(selection) == 1
        assert inspection.requeue(selection) == 0

        assert inspection.messages(State.DEAD).items == [infos[0], infos[2]]
        with pytest.raises(ValueError, match="queue_name"):
            inspection.requeue(Selection(keys=[infos[0].key]))

    def test_many_dead_letters_are_moved_in_steps(
        self, broker: Broker, inspection: Inspection, open_consumer: OpenConsumer
    ) -> None:
        consumer = open_consumer(prefetch=2000)
        ids = self.fill_dead(broker, consumer, 1100)
        seen: list[MessageInfo] = []
        cursor = None
        while not seen or cursor is not None:
            page = inspection.messages(State.DEAD, Selection("default"), limit=300, cursor=cursor)
            seen += page.items
            cursor = page.cursor
        assert sorted(self.ids(seen)) == sorted(ids)
        steps: list[int] = []

        assert (
            inspection.requeue(Selection(error="broken"), limit=700, on_progress=steps.append)
            == 700
        )
        assert steps[-1] == 700
        assert all(0 < step - last <= 500 for last, step in zip([0, *steps], steps, strict=False))
        assert inspection.delete_dead(Selection("default")) == 400

        assert inspection.count_dead(Selection()) == 0
        assert len({message.message_id for message in self.take(consumer, 700)}) == 700

    def test_two_who_put_the_same_dead_letters_back_move_each_once(
        self, broker: Broker, inspection: Inspection, open_consumer: OpenConsumer
    ) -> None:
        consumer = open_consumer(prefetch=2000)
        ids = self.fill_dead(broker, consumer, 700)

        moved = run_together(3, lambda _: broker.inspection.requeue(Selection()))

        assert sum(moved) == 700
        wait_until(lambda: inspection.queue("default").counts.ready == 700)
        assert sorted(ids_of(self.take(consumer, 700))) == sorted(ids)

    def test_what_dies_meanwhile_is_left_alone(
        self, broker: Broker, inspection: Inspection, open_consumer: OpenConsumer
    ) -> None:
        consumer = open_consumer(prefetch=2000)
        self.fill_dead(broker, consumer, 501)
        began_at = current_millis()
        late: list[str] = []

        def let_another_die(_: int) -> None:
            if not late:
                wait_until(lambda: current_millis() > began_at + 1)
                late.extend(self.fill_dead(broker, consumer, 1))

        assert inspection.delete_dead(Selection(), on_progress=let_another_die) == 501

        assert self.dead_ids(inspection) == late

    def test_what_cannot_be_decoded_stays_dead_and_holds_up_nothing(
        self, broker: Broker, inspection: Inspection, open_consumer: OpenConsumer
    ) -> None:
        if not self.supports_raw_payloads:
            pytest.skip("nothing undecodable can be stored")
        broker.declare_queue("default")
        self.store_raw(broker, "default", b"\xff no message")
        consumer = open_consumer()
        ids = self.fill_dead(broker, consumer, 2)
        wait_until(lambda: inspection.count_dead(Selection()) == 3)

        assert inspection.requeue(Selection("default")) == 2

        (info,) = inspection.messages(State.DEAD).items
        assert (info.payload, info.message) == (b"\xff no message", None)
        assert "DecodeError" in (info.reason or "")
        assert sorted(ids_of(self.take(consumer, 2))) == sorted(ids)
        assert inspection.requeue(Selection("default"), limit=1) == 0
        assert inspection.delete_dead(Selection("default")) == 1
        assert inspection.count_dead(Selection()) == 0
