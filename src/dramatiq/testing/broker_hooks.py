# ruff: noqa: D102 - a test's name is its sentence.
"""The hooks that run in a message's life, with every broker; see `broker_contract`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from ..middleware import Middleware, SkipMessage
from .broker_suite import JOIN_TIMEOUT, BrokerSuite, Ledger, Recorder, StartWorker
from .waiting import wait_until

if TYPE_CHECKING:
    from ..actor import Actor
    from ..broker import Broker

__all__ = ["HookTests"]

ENQUEUED = ["before_enqueue", "after_enqueue"]
ENQUEUED_WITH_DELAY = ["before_enqueue(delay)", "after_enqueue(delay)"]
ACKED = ["before_ack", "after_ack"]
NACKED = ["before_nack", "after_nack"]
SUCCEEDED = ["before_process_message", "after_process_message(result)"]
FAILED = ["before_process_message", "after_process_message(exception)"]
SKIPPED = ["before_process_message", "after_skip_message"]
#: What is added to the life of a delayed message that a worker moves to its queue: until it is
#: there, and afterwards, when it may be running already.
PARKED = ["before_delay_message", "before_enqueue"]
MOVED = ["after_enqueue", *ACKED]


def is_woven(hooks: list[str], *branches: list[str]) -> bool:
    """Tell whether these are the hooks of all branches, each in its order."""
    if not hooks:
        return not any(branches)
    return any(
        is_woven(hooks[1:], *branches[:index], branch[1:], *branches[index + 1 :])
        for index, branch in enumerate(branches)
        if branch[:1] == hooks[:1]
    )


class HookTests(BrokerSuite):
    """Which hooks run, and in which order."""

    @property
    def parked(self) -> list[str]:
        """What runs until a delayed message is in its queue."""
        return [] if self.keeps_delays and not self.moves_delays else PARKED

    @property
    def moved(self) -> list[str]:
        """What runs once it is there, while others may run it already."""
        return [] if self.keeps_delays and not self.moves_delays else MOVED

    def assert_hooks(
        self,
        broker: Broker,
        recorder: Recorder,
        expected: list[str],
        *branches: list[str],
    ) -> None:
        """Wait until these hooks have run, in this order; then the branches, side by side."""
        broker.join("default", timeout=JOIN_TIMEOUT)
        count = sum(map(len, (expected, *branches)))
        wait_until(lambda: len(recorder.hooks) >= count)
        assert recorder.hooks[: len(expected)] == expected
        assert is_woven(recorder.hooks[len(expected) :], *branches), recorder.hooks

    def test_an_actor_on_a_new_queue(self, broker: Broker) -> None:
        class Declarations(Middleware):
            def __init__(self) -> None:
                self.names: list[str] = []

            def before_declare_actor(self, broker: Broker, actor: Actor[Any, Any]) -> None:
                assert actor.actor_name not in broker.actors
                self.names.append("before_declare_actor")

            def before_declare_queue(self, broker: Broker, queue_name: str) -> None:
                self.names.append("before_declare_queue")

            def after_declare_queue(self, broker: Broker, queue_name: str) -> None:
                assert queue_name in broker.get_declared_queues()
                self.names.append("after_declare_queue")

            def after_declare_delay_queue(self, broker: Broker, queue_name: str) -> None:
                assert queue_name in broker.get_declared_delay_queues()
                self.names.append("after_declare_delay_queue")

            def after_declare_actor(self, broker: Broker, actor: Actor[Any, Any]) -> None:
                assert broker.actors[actor.actor_name] is actor
                self.names.append("after_declare_actor")

        declarations = Declarations()
        broker.add_middleware(declarations)

        self.declare(broker, print, queue_name="new")

        expected = ["before_declare_actor", "before_declare_queue", "after_declare_queue"]
        if broker.get_declared_delay_queues():
            expected.append("after_declare_delay_queue")
        assert declarations.names == [*expected, "after_declare_actor"]

    def test_a_message_that_succeeds(
        self, broker: Broker, ledger: Ledger, recorder: Recorder, start_worker: StartWorker
    ) -> None:
        self.declare(broker, ledger.write).send(1)

        start_worker()

        self.assert_hooks(broker, recorder, [*ENQUEUED, *SUCCEEDED, *ACKED])
        assert {queue_name for _, queue_name in recorder.events} == {"default"}

    def test_a_delayed_message_that_succeeds(
        self, broker: Broker, ledger: Ledger, recorder: Recorder, start_worker: StartWorker
    ) -> None:
        self.declare(broker, ledger.write).send_with_options(args=(1,), delay=10)

        start_worker()

        expected = [*ENQUEUED_WITH_DELAY, *self.parked]
        self.assert_hooks(broker, recorder, expected, self.moved, [*SUCCEEDED, *ACKED])

    def test_a_message_that_fails_once_and_then_for_good(
        self, broker: Broker, recorder: Recorder, start_worker: StartWorker
    ) -> None:
        def fail() -> None:
            raise RuntimeError("failed")

        self.declare(broker, fail, max_retries=1, min_backoff=1, max_backoff=1).send()

        start_worker()

        first = [*ENQUEUED, *FAILED, "before_enqueue(delay)"]
        # The broker's word on the first attempt may come while the second one is on its way.
        confirmed = (["after_enqueue(delay)"], ACKED)
        moving = [*self.parked, *self.moved]
        self.assert_hooks(broker, recorder, first, *confirmed, moving, [*FAILED, *NACKED])

    def test_a_message_that_is_too_old(
        self, broker: Broker, ledger: Ledger, recorder: Recorder, start_worker: StartWorker
    ) -> None:
        actor = self.declare(broker, ledger.write, max_age=1)
        broker.enqueue(actor.message(1).copy(message_timestamp=1))

        start_worker()

        # This middleware is the last: an earlier one ended the message before it was asked.
        self.assert_hooks(broker, recorder, [*ENQUEUED, "after_skip_message", *NACKED])

    def test_a_message_that_its_actor_skips(
        self, broker: Broker, recorder: Recorder, start_worker: StartWorker
    ) -> None:
        def skip() -> None:
            raise SkipMessage

        self.declare(broker, skip).send()

        start_worker()

        self.assert_hooks(broker, recorder, [*ENQUEUED, *SKIPPED, *ACKED])

    def test_a_message_for_an_unknown_actor(
        self, broker: Broker, recorder: Recorder, start_worker: StartWorker
    ) -> None:
        self.fill(broker, 1)

        start_worker()

        self.assert_hooks(broker, recorder, [*ENQUEUED, *NACKED])

    def test_a_message_that_fails_without_retries(
        self, broker: Broker, start_worker: StartWorker
    ) -> None:
        def fail() -> None:
            raise RuntimeError("failed")

        recorder = Recorder()
        broker.middleware = [recorder]
        self.declare(broker, fail).send()

        start_worker()

        self.assert_hooks(broker, recorder, [*ENQUEUED, *FAILED, *ACKED])

    @pytest.mark.parametrize("is_async", [False, True], ids=["thread", "loop"])
    def test_hooks_run_alike_for_plain_and_async_actors(
        self,
        broker: Broker,
        ledger: Ledger,
        recorder: Recorder,
        start_worker: StartWorker,
        is_async: bool,
    ) -> None:
        async def work() -> None:
            ledger.write("ran")

        self.declare(broker, work if is_async else lambda: ledger.write("ran")).send()

        start_worker()

        self.assert_hooks(broker, recorder, [*ENQUEUED, *SUCCEEDED, *ACKED])
