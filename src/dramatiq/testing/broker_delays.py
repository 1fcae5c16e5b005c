# ruff: noqa: D102 - a test's name is its sentence.
"""How every broker and a worker on it treat delayed messages; see `broker_contract`."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import pytest

from ..common import current_millis
from ..errors import QueueJoinTimeout
from .broker_suite import JOIN_TIMEOUT, BrokerSuite, Ledger, OpenConsumer, StartWorker, ids_of

if TYPE_CHECKING:
    from ..broker import Broker

__all__ = ["DelayTests"]


class DelayTests(BrokerSuite):
    """Messages with a delay or an eta."""

    def test_a_delayed_message_does_not_run_before_its_time(
        self, broker: Broker, ledger: Ledger, start_worker: StartWorker
    ) -> None:
        actor = self.declare(broker, lambda: ledger.write(current_millis()))
        start_worker()

        message = actor.send_with_options(delay=200)

        (ran_at,) = ledger.wait_for(1)
        assert ran_at >= message.options["eta"]
        assert ran_at >= message.message_timestamp + 200

    def test_delayed_messages_run_in_the_order_of_their_times(
        self, broker: Broker, ledger: Ledger, start_worker: StartWorker
    ) -> None:
        actor = self.declare(broker, ledger.write)

        start_worker(worker_threads=1)
        actor.send(0)
        ledger.wait_for(1)

        # Until all are there before the first is due, however slow the machine is.
        for rounds, step in enumerate((100, 400, 1600, 6400), 1):
            began = current_millis()
            for delay in (3 * step, 2 * step, step):
                actor.send_with_options(args=(delay,), delay=delay)
            are_in_time = current_millis() < began + step
            entries = ledger.wait_for(1 + 3 * rounds)
            if are_in_time:
                break

        assert entries[-3:] == [step, 2 * step, 3 * step]

    def test_a_delay_of_zero_runs_at_once(
        self, broker: Broker, ledger: Ledger, start_worker: StartWorker
    ) -> None:
        actor = self.declare(broker, ledger.write)
        start_worker()

        message = actor.send_with_options(args=("now",), delay=0)

        assert ledger.wait_for(1, timeout_s=5) == ["now"]
        assert "eta" in message.options

    def test_an_eta_is_honoured_without_a_delay(
        self, broker: Broker, ledger: Ledger, start_worker: StartWorker
    ) -> None:
        actor = self.declare(broker, lambda: ledger.write(current_millis()))
        eta = current_millis() + 200.5
        start_worker()

        actor.send_with_options(eta=eta)

        assert ledger.wait_for(1)[0] >= int(eta)

    @pytest.mark.parametrize("eta", [None, "soon", [], 0, -1.5])
    def test_an_eta_that_is_past_or_no_time_does_not_hold_a_message_up(
        self, broker: Broker, ledger: Ledger, start_worker: StartWorker, eta: Any
    ) -> None:
        actor = self.declare(broker, ledger.write)
        start_worker()

        actor.send_with_options(args=("ran",), eta=eta)

        assert ledger.wait_for(1, timeout_s=5) == ["ran"]

    def test_far_messages_do_not_hold_up_near_ones(
        self, broker: Broker, ledger: Ledger, start_worker: StartWorker
    ) -> None:
        actor = self.declare(broker, ledger.write)
        actor.send_many([("far",)] * 1100, delay=3_600_000)
        start_worker(worker_threads=2)

        actor.send_with_options(args=("near",), delay=100)

        assert ledger.wait_for(1) == ["near"]

    def test_delayed_messages_outlive_the_worker(
        self, broker: Broker, ledger: Ledger, start_worker: StartWorker
    ) -> None:
        actor = self.declare(broker, ledger.write)
        first = start_worker()
        actor.send_with_options(args=("later",), delay=400)
        first.stop(timeout=5000)
        assert ledger.entries == []

        start_worker()

        assert ledger.wait_for(1) == ["later"]
        broker.join("default", timeout=JOIN_TIMEOUT)
        assert ledger.entries == ["later"]

    def test_joining_waits_for_delayed_messages(
        self, broker: Broker, ledger: Ledger, start_worker: StartWorker
    ) -> None:
        actor = self.declare(broker, ledger.write)
        actor.send_with_options(args=("later",), delay=200)
        with pytest.raises(QueueJoinTimeout):
            broker.join("default", timeout=50)
        start_worker()

        broker.join("default", timeout=JOIN_TIMEOUT)

        assert ledger.entries == ["later"]

    def test_a_broker_that_keeps_delays_hands_out_what_is_due_only(
        self, broker: Broker, open_consumer: OpenConsumer
    ) -> None:
        if not self.keeps_delays or self.moves_delays:
            pytest.skip("workers keep or move the delayed messages of this broker")
        consumer = open_consumer()
        sent_at = time.monotonic()
        late = broker.enqueue(self.make_message("late"), delay=200)
        broker.enqueue(self.make_message("later"), delay=3_600_000)
        early = broker.enqueue(self.make_message("early"))

        fetched = self.take(consumer, 2)

        assert ids_of(fetched) == ids_of([early, late])
        assert fetched[1].queue_name == "default"
        assert "eta" not in fetched[1].options
        assert time.monotonic() - sent_at >= 0.199
        self.assert_empty(consumer)
