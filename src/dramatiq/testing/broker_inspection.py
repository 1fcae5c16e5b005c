# ruff: noqa: D102 - a test's name is its sentence.
"""What one may ask of a broker's queues, and do with them; see `broker_contract`."""

from __future__ import annotations

import os
import threading
from typing import TYPE_CHECKING, Any

import pytest

from ..common import current_millis
from ..inspection import AuditEntry, InspectionNotSupported, Selection, State
from .broker_dead_letters import DeadLetterSuite
from .broker_suite import JOIN_TIMEOUT, Ledger, OpenConsumer, StartWorker, ids_of
from .waiting import wait_until

if TYPE_CHECKING:
    from ..broker import Broker
    from ..inspection import Inspection, MessageInfo

__all__ = ["InspectionTests"]

#: Milliseconds: not during this test.
FAR = 3_600_000


class InspectionTests(DeadLetterSuite):
    """Looking at queues, pausing them, purging them."""

    def read_all(
        self, inspection: Inspection, state: State, selection: Selection, limit: int
    ) -> list[MessageInfo]:
        """Return all messages of one state, page by page."""
        page = inspection.messages(state, selection, limit=limit)
        items = page.items
        while page.cursor is not None:
            page = inspection.messages(state, selection, limit=limit, cursor=page.cursor)
            assert 1 <= len(page.items) <= limit
            items += page.items
        return items

    # -- looking

    def test_queues_are_listed_by_name_with_their_counts(
        self, broker: Broker, inspection: Inspection, open_consumer: OpenConsumer
    ) -> None:
        self.fill(broker, 3, "zoo")
        broker.declare_queue("empty")
        sent = broker.enqueue(self.make_message(queue_name="zoo"), delay=FAR)
        consumer = open_consumer("zoo")
        held, dead = self.take(consumer, 2)
        self.bury(consumer, dead)

        queues = inspection.queues()

        assert [info.name for info in queues] == ["empty", "zoo"]
        assert vars(queues[0].counts) == {"ready": 0, "delayed": 0, "leased": 0, "dead": 0}
        assert vars(queues[1].counts) == {"ready": 1, "delayed": 1, "leased": 1, "dead": 1}
        assert queues[1] == inspection.queue("zoo")
        assert queues[0].oldest_at is None
        assert held.message_timestamp <= (queues[1].oldest_at or 0) <= sent.message_timestamp

    def test_a_queue_that_nobody_knows_is_empty(self, inspection: Inspection) -> None:
        assert inspection.queue("unheard_of").counts.unfinished == 0
        for state in State:
            assert inspection.messages(state, Selection("unheard_of")).items == []
        assert inspection.find("unheard-of") == []
        assert inspection.count_dead(Selection("unheard_of")) == 0

    @pytest.mark.parametrize("limit", [2, 5, 100])
    def test_ready_messages_are_read_page_by_page_in_their_order(
        self, broker: Broker, inspection: Inspection, limit: int
    ) -> None:
        sent = self.fill(broker, 5) + self.fill(broker, 2, "other")

        read = self.read_all(inspection, State.READY, Selection(), limit)

        assert [info.message and info.message.message_id for info in read] == sent
        assert len({(info.queue_name, info.key) for info in read}) == 7
        assert {info.state for info in read} == {State.READY}

    def test_a_page_holds_what_is_asked_for_only(
        self, broker: Broker, inspection: Inspection
    ) -> None:
        broker.declare_queue("default")
        broker.enqueue_many(self.make_message(i, actor_name=f"actor_{i % 2}") for i in range(6))

        selection = Selection("default", actor_name="actor_1")

        read = self.read_all(inspection, State.READY, selection, 2)
        assert [info.message and info.message.args for info in read] == [(1,), (3,), (5,)]

    def test_delayed_messages_are_read_the_next_first(
        self, broker: Broker, inspection: Inspection
    ) -> None:
        broker.declare_queue("default")
        sent = [broker.enqueue(self.make_message(delay), delay=FAR * delay) for delay in (1, 2, 3)]

        read = self.read_all(inspection, State.DELAYED, Selection("default"), 2)

        assert [message.options["eta"] for message in sent] == [info.eta for info in read]
        assert {info.queue_name for info in read} == {"default"}

    def test_a_message_that_is_held_names_its_worker(
        self, broker: Broker, inspection: Inspection, open_consumer: OpenConsumer
    ) -> None:
        self.fill(broker, 2)
        message = self.take(open_consumer(), 1)[0]

        (info,) = inspection.messages(State.LEASED, Selection("default")).items
        (worker,) = inspection.workers()

        assert info.message == message
        assert info.worker_id == worker.worker_id
        assert (worker.pid, worker.is_alive, worker.leased) == (os.getpid(), True, 1)

    def test_a_message_is_found_in_any_state(
        self, broker: Broker, inspection: Inspection, open_consumer: OpenConsumer
    ) -> None:
        ids = self.fill(broker, 3)
        delayed = broker.enqueue(self.make_message(), delay=FAR)
        consumer = open_consumer()
        held, dead = self.take(consumer, 2)
        self.bury(consumer, dead)

        states = {
            message_id: [info.state for info in inspection.find(message_id)]
            for message_id in (*ids, delayed.message_id)
        }

        assert states == {
            held.message_id: [State.LEASED],
            dead.message_id: [State.DEAD],
            ids[2]: [State.READY],
            delayed.message_id: [State.DELAYED],
        }

    def test_one_message_is_got_by_its_queue_and_key(
        self, broker: Broker, inspection: Inspection, open_consumer: OpenConsumer
    ) -> None:
        self.fill(broker, 3)
        broker.enqueue(self.make_message(), delay=FAR)
        consumer = open_consumer()
        _, dead = self.take(consumer, 2)
        self.bury(consumer, dead)

        for state in State:
            (info,) = inspection.messages(state, Selection("default")).items
            assert inspection.get("default", info.key) == info
            assert inspection.get("other", info.key) is None
        assert inspection.get("default", "no such key") is None
        assert inspection.get("default", "9" * 30) is None

    def test_what_is_looked_at_for_a_page_can_be_bounded(
        self, broker: Broker, inspection: Inspection
    ) -> None:
        broker.declare_queue("default")
        broker.enqueue_many(self.make_message(i, actor_name=f"actor_{i % 5}") for i in range(10))
        selection = Selection("default", actor_name="actor_4")

        pages = [inspection.messages(State.READY, selection, look_at=3)]
        while pages[-1].cursor is not None:
            pages.append(
                inspection.messages(State.READY, selection, look_at=3, cursor=pages[-1].cursor)
            )

        found = [[info.message and info.message.args[0] for info in page.items] for page in pages]
        assert [[], [4], [], [9]] == found

    def test_counting_may_stop_early(
        self, broker: Broker, inspection: Inspection, open_consumer: OpenConsumer
    ) -> None:
        self.fill(broker, 5)
        consumer = open_consumer()
        self.bury(consumer, *self.take(consumer, 3))

        (info,) = inspection.queues(count_limit=1)

        assert 1 <= info.counts.ready <= 2
        assert 1 <= info.counts.dead <= 3
        assert info == inspection.queue("default", count_limit=1)
        assert 1 <= inspection.count_dead(Selection(error_class="ValueError"), limit=1) <= 3

    def test_what_was_done_is_logged_the_newest_first(self, inspection: Inspection) -> None:
        entries = [
            AuditEntry(at=i, who="Zoë", verb="purge", what="queue 'mail'", count=[None, i][i % 2])
            for i in range(5)
        ]
        assert inspection.audit() == []

        for entry in entries:
            inspection.note(entry)

        assert inspection.audit() == entries[::-1]
        assert inspection.audit(limit=2) == [entries[4], entries[3]]

    def test_what_a_worker_runs_is_told(
        self, broker: Broker, inspection: Inspection, start_worker: StartWorker
    ) -> None:
        if not self.tells_running:
            with pytest.raises(InspectionNotSupported):
                inspection.running()
            return
        begun, may_end = threading.Event(), threading.Event()

        def wait() -> None:
            begun.set()
            may_end.wait(JOIN_TIMEOUT / 1000)

        actor = self.declare(broker, wait)
        start_worker()
        before = current_millis()
        try:
            sent = actor.send()
            assert begun.wait(JOIN_TIMEOUT / 1000)

            (running,) = inspection.running()
            (held,) = inspection.messages(State.LEASED, Selection("default")).items

            assert held.message == sent
            assert (running.worker_id, running.key) == (held.worker_id, held.key)
            assert (running.actor_name, running.queue_name) == (actor.actor_name, "default")
            assert before - 1000 <= running.started_at <= current_millis() + 1000
        finally:
            may_end.set()
        wait_until(lambda: inspection.running() == [])

    # -- pausing

    def test_a_paused_queue_hands_out_nothing_until_it_is_resumed(
        self, broker: Broker, inspection: Inspection, open_consumer: OpenConsumer
    ) -> None:
        consumer = open_consumer()
        inspection.pause("default")
        sent = self.fill(broker, 2)

        assert self.fetch_for(consumer, 300) >= 250  # it waits, rather than look all the time
        assert inspection.queue("default").is_paused
        assert not inspection.queue("other").is_paused

        inspection.resume("default")

        assert ids_of(self.take(consumer, 2)) == sent
        assert not inspection.queue("default").is_paused

    def test_what_is_held_of_a_paused_queue_can_be_settled(
        self, broker: Broker, inspection: Inspection, open_consumer: OpenConsumer
    ) -> None:
        self.fill(broker, 3)
        consumer = open_consumer()
        acked, nacked, given_back = self.take(consumer, 3)
        inspection.pause("default")

        consumer.ack(acked)
        self.bury(consumer, nacked)
        consumer.requeue([given_back])

        counts = inspection.queue("default").counts
        assert (counts.ready, counts.leased, counts.dead) == (1, 0, 1)
        self.assert_empty(consumer)

    def test_workers_leave_a_paused_queue_alone_and_serve_the_others(
        self,
        broker: Broker,
        inspection: Inspection,
        ledger: Ledger,
        start_worker: StartWorker,
    ) -> None:
        paused = self.declare(broker, ledger.write, "paused")
        other = self.declare(broker, ledger.write, "other", queue_name="other")
        inspection.pause("default")
        start_worker()

        paused.send("at once")
        paused.send_with_options(args=("when due",), delay=50)
        other.send_with_options(args=("other",), delay=150)
        assert ledger.wait_for(1) == ["other"]
        inspection.resume("default")

        assert sorted(ledger.wait_for(3)) == ["at once", "other", "when due"]

    def test_resuming_a_queue_that_is_not_paused_does_nothing(
        self, broker: Broker, inspection: Inspection, open_consumer: OpenConsumer
    ) -> None:
        sent = self.fill(broker, 1)

        inspection.resume("default")
        inspection.pause("other")

        assert ids_of(self.take(open_consumer(), 1)) == sent

    # -- purging

    @pytest.mark.parametrize(
        ("states", "left"),
        [
            ([State.READY], (0, 2, 1, 1)),
            ([State.DELAYED], (3, 0, 1, 1)),
            ([State.DEAD], (3, 2, 1, 0)),
            ([State.READY, State.DELAYED, State.DEAD], (0, 0, 1, 0)),
            ([], (3, 2, 1, 1)),
        ],
    )
    def test_purging_drops_what_is_in_the_states_that_are_named(
        self,
        broker: Broker,
        inspection: Inspection,
        open_consumer: OpenConsumer,
        states: list[State],
        left: tuple[int, ...],
    ) -> None:
        self.fill(broker, 5)
        self.fill(broker, 1, "other")
        broker.enqueue_many([self.make_message(), self.make_message()], delay=FAR)
        consumer = open_consumer()
        held, dead = self.take(consumer, 2)
        self.bury(consumer, dead)

        purged = inspection.purge("default", states)

        counts = inspection.queue("default").counts
        assert (counts.ready, counts.delayed, counts.leased, counts.dead) == left
        assert purged == 7 - sum(left)
        assert inspection.queue("other").counts.ready == 1
        consumer.ack(held)

    def test_what_workers_hold_is_not_purged(self, inspection: Inspection) -> None:
        with pytest.raises(ValueError, match="default"):
            inspection.purge("default", [State.READY, State.LEASED])

    def test_a_purged_queue_is_done(
        self, broker: Broker, inspection: Inspection, ledger: Ledger, start_worker: StartWorker
    ) -> None:
        actor = self.declare(broker, ledger.write)
        for argument in range(3):
            actor.send(argument)
        inspection.purge("default", set(State) - {State.LEASED})

        broker.join("default", timeout=JOIN_TIMEOUT)
        start_worker()
        actor.send("later")

        assert ledger.wait_for(1) == ["later"]

    # -- bad arguments

    @pytest.mark.parametrize("cursor", ["", "x", "7", "9:default"])
    def test_a_cursor_that_is_none_is_refused(
        self, broker: Broker, inspection: Inspection, cursor: Any
    ) -> None:
        self.fill(broker, 1)

        with pytest.raises(ValueError, match="cursor"):
            inspection.messages(State.READY, Selection(since=current_millis()), cursor=cursor)
