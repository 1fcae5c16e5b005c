# ruff: noqa: D102 - a test's name is its sentence.
"""What a worker on any broker must do with messages that fail; see `broker_contract`."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

import pytest

from ..errors import BrokerConnectionError, Retry
from ..message import Message
from ..middleware import CurrentMessage, Middleware, SkipMessage
from ..threading import Interrupt
from .broker_suite import JOIN_TIMEOUT, BrokerSuite, Ledger, StartWorker, StoreError

if TYPE_CHECKING:
    from collections.abc import Callable

    from ..broker import Broker, MessageProxy

__all__ = ["FailingTests"]

#: Options that retry at once.
AT_ONCE = {"min_backoff": 1, "max_backoff": 1}


class FailingTests(BrokerSuite):
    """Errors, retries, dead letters."""

    def dead(self, broker: Broker, queue_name: str = "default") -> list[Message[Any]]:
        """Return the dead letters, or skip what follows in the test."""
        if not self.supports_dead_letter_inspection:
            pytest.skip("the tests cannot look at this broker's dead letters")
        return [Message.decode(payload) for payload in self.dead_payloads(broker, queue_name)]

    def test_a_failed_message_is_retried_until_it_succeeds(
        self, broker: Broker, ledger: Ledger, start_worker: StartWorker
    ) -> None:
        actor = self.declare(broker, _failing(ledger, 3, RuntimeError("failed")), **AT_ONCE)
        start_worker()

        actor.send()

        broker.join("default", timeout=JOIN_TIMEOUT)
        assert len(ledger.entries) == 4
        assert self.dead(broker) == []

    def test_retries_keep_the_message_id_and_count_up(
        self, broker: Broker, ledger: Ledger, start_worker: StartWorker
    ) -> None:
        broker.add_middleware(CurrentMessage())

        def work() -> None:
            message = CurrentMessage.get_current_message()
            assert message is not None
            ledger.write((message.message_id, message.options.get("retries", 0)))
            if len(ledger.entries) < 3:
                raise RuntimeError("failed")

        actor = self.declare(broker, work, **AT_ONCE)
        start_worker()

        message = actor.send()

        broker.join("default", timeout=JOIN_TIMEOUT)
        assert ledger.entries == [(message.message_id, count) for count in range(3)]

    def test_a_message_whose_retries_are_used_up_is_a_dead_letter(
        self, broker: Broker, ledger: Ledger, start_worker: StartWorker
    ) -> None:
        actor = self.declare(
            broker, _failing(ledger, 10, RuntimeError("failed")), max_retries=2, **AT_ONCE
        )
        start_worker()

        message = actor.send()

        broker.join("default", timeout=JOIN_TIMEOUT)
        assert len(ledger.entries) == 3
        (dead,) = self.dead(broker)
        assert dead.message_id == message.message_id
        assert dead.options["retries"] == 3
        assert "RuntimeError: failed" in dead.options["traceback"]

    def test_an_expected_exception_is_not_retried(
        self, broker: Broker, ledger: Ledger, start_worker: StartWorker
    ) -> None:
        actor = self.declare(broker, _failing(ledger, 10, KeyError("x")), throws=KeyError)
        start_worker()

        actor.send()

        broker.join("default", timeout=JOIN_TIMEOUT)
        assert len(ledger.entries) == 1
        assert len(self.dead(broker)) == 1

    def test_an_actor_may_ask_to_be_retried_after_a_delay(
        self, broker: Broker, ledger: Ledger, start_worker: StartWorker
    ) -> None:
        actor = self.declare(broker, _failing(ledger, 1, Retry(delay=50)))
        start_worker()

        actor.send()

        assert len(ledger.wait_for(2, timeout_s=5)) == 2
        broker.join("default", timeout=JOIN_TIMEOUT)

    @pytest.mark.parametrize("error", [Interrupt, KeyboardInterrupt, SystemExit, GeneratorExit])
    def test_no_exception_of_an_actor_stops_the_worker(
        self,
        broker: Broker,
        ledger: Ledger,
        start_worker: StartWorker,
        error: type[BaseException],
    ) -> None:
        actor = self.declare(broker, _failing(ledger, 2, error()), **AT_ONCE)
        start_worker(worker_threads=1)

        actor.send()

        broker.join("default", timeout=JOIN_TIMEOUT)
        assert len(ledger.entries) == 3
        assert self.dead(broker) == []

    def test_without_retries_a_failed_message_is_acknowledged(
        self, broker: Broker, ledger: Ledger, start_worker: StartWorker
    ) -> None:
        broker.middleware = []
        actor = self.declare(broker, _failing(ledger, 10, RuntimeError("failed")))
        start_worker()

        actor.send()

        broker.join("default", timeout=JOIN_TIMEOUT)
        assert len(ledger.entries) == 1
        assert self.dead(broker) == []

    def test_a_skipped_message_is_acknowledged_and_not_run_again(
        self, broker: Broker, ledger: Ledger, start_worker: StartWorker
    ) -> None:
        actor = self.declare(broker, _failing(ledger, 10, SkipMessage("skip")), **AT_ONCE)
        start_worker()

        actor.send()

        broker.join("default", timeout=JOIN_TIMEOUT)
        assert len(ledger.entries) == 1
        assert self.dead(broker) == []

    def test_a_message_past_its_age_limit_is_a_dead_letter_and_does_not_run(
        self, broker: Broker, ledger: Ledger, start_worker: StartWorker
    ) -> None:
        actor = self.declare(broker, ledger.write, max_age=60_000)
        start_worker()

        broker.enqueue(actor.message("old").copy(message_timestamp=1))
        actor.send("young")

        broker.join("default", timeout=JOIN_TIMEOUT)
        assert ledger.entries == ["young"]
        assert [message.args for message in self.dead(broker)] == [("old",)]

    def test_a_message_for_an_unknown_actor_is_a_dead_letter_and_its_neighbours_run(
        self, broker: Broker, ledger: Ledger, start_worker: StartWorker
    ) -> None:
        actor = self.declare(broker, ledger.write)
        actor.send("before")
        broker.enqueue(self.make_message(actor_name="unknown"))
        actor.send("after")

        start_worker(worker_threads=1)

        broker.join("default", timeout=JOIN_TIMEOUT)
        assert ledger.entries == ["before", "after"]
        assert [message.actor_name for message in self.dead(broker)] == ["unknown"]

    def test_a_call_with_wrong_arguments_is_a_failure_like_any_other(
        self, broker: Broker, ledger: Ledger, start_worker: StartWorker
    ) -> None:
        actor = self.declare(broker, ledger.write, max_retries=0)
        start_worker()

        actor.send(1, 2, 3)
        actor.send("right")

        broker.join("default", timeout=JOIN_TIMEOUT)
        assert ledger.entries == ["right"]
        assert [message.args for message in self.dead(broker)] == [(1, 2, 3)]

    def test_an_undecodable_payload_is_a_dead_letter_and_its_neighbours_run(
        self, broker: Broker, ledger: Ledger, start_worker: StartWorker
    ) -> None:
        if not self.supports_raw_payloads:
            pytest.skip("this broker's tests cannot store raw payloads")
        actor = self.declare(broker, ledger.write)
        actor.send("before")
        self.store_raw(broker, "default", b"\xff no message")
        actor.send("after")

        start_worker(worker_threads=1)

        broker.join("default", timeout=JOIN_TIMEOUT)
        assert ledger.entries == ["before", "after"]
        if self.supports_dead_letter_inspection:
            assert self.dead_payloads(broker, "default") == [b"\xff no message"]

    # -- nothing is acknowledged before its consequences are stored

    def test_a_message_whose_retry_could_not_be_stored_is_kept(
        self,
        broker: Broker,
        ledger: Ledger,
        start_worker: StartWorker,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        actor = self.declare(broker, _failing(ledger, 1, RuntimeError("failed")), **AT_ONCE)
        actor.send()
        refusals = _refuse_once(monkeypatch, broker)

        start_worker()

        broker.join("default", timeout=JOIN_TIMEOUT)
        assert refusals.is_set()
        assert len(ledger.entries) == 2
        assert self.dead(broker) == []

    def test_a_message_whose_next_step_could_not_be_stored_is_kept(
        self,
        broker: Broker,
        ledger: Ledger,
        start_worker: StartWorker,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        first = self.declare(broker, lambda: ledger.write("first"), "first")
        second = self.declare(broker, lambda _: ledger.write("second"), "second")
        broker.enqueue(first.message().copy(options={"pipe_target": second.message().asdict()}))
        refusals = _refuse_once(monkeypatch, broker)

        start_worker()

        broker.join("default", timeout=JOIN_TIMEOUT)
        assert refusals.is_set()
        assert ledger.entries == ["first", "first", "second"]

    def test_consequences_of_many_failures_are_all_stored(
        self, broker: Broker, ledger: Ledger, start_worker: StartWorker
    ) -> None:
        told = self.declare(broker, lambda *_: ledger.write("told"), "told")

        def fail(index: int) -> None:
            ledger.write(index)
            raise RuntimeError("failed")

        actor = self.declare(broker, fail, max_retries=1, on_failure=told.actor_name, **AT_ONCE)
        start_worker(worker_threads=4)

        actor.send_many([(index,) for index in range(50)])

        broker.join("default", timeout=JOIN_TIMEOUT)
        assert ledger.entries.count("told") == 100
        assert sorted(each for each in ledger.entries if each != "told") == sorted(
            [*range(50), *range(50)]
        )
        assert len(self.dead(broker)) == 50

    def test_a_failing_hook_stops_neither_its_message_nor_the_others(
        self, broker: Broker, ledger: Ledger, start_worker: StartWorker
    ) -> None:
        class Broken(Middleware):
            is_loop_safe = True

            def before_process_message(self, broker: Broker, message: MessageProxy) -> None:
                raise RuntimeError("broken before")

            def after_process_message(
                self,
                broker: Broker,
                message: MessageProxy,
                *,
                result: Any = None,
                exception: BaseException | None = None,
            ) -> None:
                raise RuntimeError("broken after")

            def after_ack(self, broker: Broker, message: MessageProxy) -> None:
                raise RuntimeError("broken ack")

        broker.add_middleware(Broken())
        actor = self.declare(broker, ledger.write)
        start_worker()

        actor.send_many([(index,) for index in range(10)])

        broker.join("default", timeout=JOIN_TIMEOUT)
        assert sorted(ledger.entries) == list(range(10))


def _failing(ledger: Ledger, failures: int, error: BaseException) -> Callable[[], None]:
    """Return a function that writes down each call and raises in the first so many."""

    def work() -> None:
        ledger.write("attempt")
        if len(ledger.entries) <= failures:
            raise error

    return work


def _refuse_once(monkeypatch: pytest.MonkeyPatch, broker: Broker) -> threading.Event:
    """Make the broker refuse the next message to be stored; tell when it did."""
    enqueue, refused = broker.enqueue, threading.Event()

    def refuse_once(message: Message[Any], *, delay: int | None = None) -> Message[Any]:
        if not refused.is_set():
            refused.set()
            raise BrokerConnectionError("the store is gone") from StoreError()
        return enqueue(message, delay=delay)

    monkeypatch.setattr(broker, "enqueue", refuse_once)
    return refused
