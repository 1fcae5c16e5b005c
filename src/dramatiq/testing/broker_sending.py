# ruff: noqa: D102 - a test's name is its sentence.
"""What every broker must do for those who send; see `broker_contract`."""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pytest

from ..delivery import Outcome
from ..errors import QueueNotFound
from ..middleware import Middleware, MiddlewareError, SkipMessage
from .broker_suite import BrokerSuite, Ledger, OpenConsumer, Recorder, StartWorker, ids_of
from .waiting import run_together

if TYPE_CHECKING:
    from ..broker import Broker
    from ..message import Message

__all__ = ["SendingTests"]


class SendingTests(BrokerSuite):
    """Declaring, enqueueing and dropping."""

    def test_what_was_enqueued_can_be_fetched_as_it_was(
        self, broker: Broker, open_consumer: OpenConsumer
    ) -> None:
        consumer = open_consumer()
        message = self.make_message(
            1,
            None,
            "☃ \x00 \x1e ' % {}",
            kwargs={"nested": {"list": [1.5, True]}},
            options={"x": "y"},
        )

        stored = broker.enqueue(message)

        assert stored.message_id == message.message_id
        assert stored.message_timestamp == message.message_timestamp
        fetched = self.take(consumer, 1)[0]
        assert fetched.asdict() == stored.asdict()
        assert not fetched.failed

    def test_a_message_of_a_mebibyte_is_carried(
        self, broker: Broker, open_consumer: OpenConsumer
    ) -> None:
        consumer = open_consumer()
        text = "ü" * 512 * 1024

        broker.enqueue(self.make_message(text))

        assert self.take(consumer, 1)[0].args == (text,)

    def test_many_at_a_time_keep_their_order_and_are_returned(
        self, broker: Broker, open_consumer: OpenConsumer
    ) -> None:
        consumer = open_consumer()
        messages = [self.make_message(index) for index in range(250)]

        stored = broker.enqueue_many(iter(messages))

        assert ids_of(stored) == ids_of(messages)
        fetched: list[Any] = []
        while len(fetched) < len(messages):
            batch = self.take(consumer, min(50, len(messages) - len(fetched)))
            self.settle(consumer, batch, Outcome.ACK)
            fetched += batch
        assert ids_of(fetched) == ids_of(messages)

    def test_enqueueing_nothing_does_nothing(
        self, broker: Broker, open_consumer: OpenConsumer
    ) -> None:
        consumer = open_consumer()

        assert broker.enqueue_many([]) == []

        self.assert_empty(consumer)

    def test_a_hook_may_forbid_to_enqueue(
        self, broker: Broker, open_consumer: OpenConsumer, recorder: Recorder
    ) -> None:
        class Veto(Middleware):
            def before_enqueue(self, broker: Broker, message: Any, delay: int | None) -> None:
                raise SkipMessage("not today")

        consumer = open_consumer()
        broker.add_middleware(Veto())

        for delay in (None, 1):
            with pytest.raises(MiddlewareError, match="not today"):
                broker.enqueue(self.make_message(), delay=delay)

        assert "after_enqueue" not in recorder.hooks
        self.assert_empty(consumer)
        broker.join("default", timeout=1000)

    def test_a_hook_may_change_options_before_they_are_stored(
        self, broker: Broker, open_consumer: OpenConsumer
    ) -> None:
        class Stamp(Middleware):
            def before_enqueue(self, broker: Broker, message: Any, delay: int | None) -> None:
                message.options["stamp"] = "seen"

        consumer = open_consumer()
        broker.add_middleware(Stamp())

        broker.enqueue(self.make_message())

        assert self.take(consumer, 1)[0].options["stamp"] == "seen"

    def test_what_cannot_be_encoded_is_refused_and_nothing_is_stored(
        self, broker: Broker, open_consumer: OpenConsumer, recorder: Recorder
    ) -> None:
        consumer = open_consumer()

        with pytest.raises(TypeError, match=r"work\(\): argument"):
            broker.enqueue(self.make_message(object()))

        assert recorder.hooks == ["before_enqueue"]
        self.assert_empty(consumer)

    def test_hooks_run_around_enqueueing(self, broker: Broker, recorder: Recorder) -> None:
        broker.declare_queue("default")

        broker.enqueue(self.make_message())
        broker.enqueue_many([self.make_message(), self.make_message()])

        assert recorder.hooks.count("before_enqueue") == 3
        assert recorder.hooks.count("after_enqueue") == 3
        assert recorder.hooks[0] == "before_enqueue"
        assert recorder.hooks[-1] == "after_enqueue"

    def test_a_delay_changes_a_copy_only(self, broker: Broker) -> None:
        broker.declare_queue("default")
        message = self.make_message()

        stored = broker.enqueue(message, delay=60_000)

        assert message.queue_name == "default"
        assert message.options == {}
        assert stored.message_id == message.message_id
        assert stored.options["eta"] >= message.message_timestamp + 60_000

    def test_a_retried_proxy_can_be_enqueued(
        self, broker: Broker, open_consumer: OpenConsumer
    ) -> None:
        consumer = open_consumer()
        broker.enqueue(self.make_message(7))
        proxy = self.take(consumer, 1)[0]
        self.settle(consumer, [proxy], Outcome.ACK)

        broker.enqueue(proxy)  # type: ignore[arg-type]  # brokers take proxies too

        assert self.take(consumer, 1)[0].message_id == proxy.message_id

    def test_threads_that_enqueue_at_once_lose_nothing(
        self, broker: Broker, open_consumer: OpenConsumer
    ) -> None:
        consumer = open_consumer(prefetch=1000)

        def send(_: int) -> list[str]:
            return [broker.enqueue(self.make_message()).message_id for _ in range(25)]

        sent = [message_id for ids in run_together(8, send) for message_id in ids]

        assert sorted(ids_of(self.take(consumer, 200))) == sorted(sent)

    def test_a_coroutine_can_send_while_its_loop_goes_on(
        self, broker: Broker, open_consumer: OpenConsumer
    ) -> None:
        consumer = open_consumer()

        async def send() -> tuple[Message[Any], int]:
            ticks = 0
            sending = asyncio.ensure_future(broker.enqueue_async(self.make_message("async")))
            while not sending.done():
                ticks += 1
                await asyncio.sleep(0)
            return sending.result(), ticks

        stored, ticks = asyncio.run(send())

        assert self.take(consumer, 1)[0].message_id == stored.message_id
        assert ticks > 0

    def test_a_queue_can_be_declared_twice(self, broker: Broker, recorder: Recorder) -> None:
        class Count(Middleware):
            declared: list[str] = []  # noqa: RUF012 (one for the test)

            def after_declare_queue(self, broker: Broker, queue_name: str) -> None:
                self.declared.append(queue_name)

        counter = Count()
        broker.add_middleware(counter)

        broker.declare_queue("twice")
        broker.declare_queue("twice")

        assert counter.declared.count("twice") == 1
        assert "twice" in broker.get_declared_queues()

    def test_an_undeclared_queue_is_an_error(self, broker: Broker) -> None:
        if not self.checks_queues:
            pytest.skip("this broker does not check queue names")

        with pytest.raises(QueueNotFound):
            broker.enqueue(self.make_message(queue_name="nowhere"))
        with pytest.raises(QueueNotFound):
            broker.consume("nowhere")
        with pytest.raises(QueueNotFound):
            broker.join("nowhere")

    def test_flushing_drops_one_queue_only(
        self, broker: Broker, open_consumer: OpenConsumer
    ) -> None:
        self.fill(broker, 3, "first")
        kept = self.fill(broker, 3, "second")

        broker.flush("first")

        self.assert_empty(open_consumer("first"))
        assert ids_of(self.take(open_consumer("second"), 3)) == kept
        broker.join("first", timeout=1000)

    def test_flushing_all_drops_every_queue_and_what_is_delayed(
        self, broker: Broker, ledger: Ledger, start_worker: StartWorker
    ) -> None:
        self.declare(broker, ledger.write)
        self.fill(broker, 3)
        self.fill(broker, 3, "other")
        broker.enqueue(self.make_message("delayed"), delay=60_000)

        broker.flush_all()

        start_worker()
        for queue_name in ("default", "other"):
            broker.join(queue_name, timeout=5000)
        assert ledger.entries == []

    def test_a_broker_can_be_closed_twice_and_used_again(
        self, broker: Broker, open_consumer: OpenConsumer
    ) -> None:
        (message_id,) = self.fill(broker, 1)

        broker.close()
        broker.close()

        assert ids_of(self.take(open_consumer(), 1)) == [message_id]

    def test_threads_may_declare_and_send_at_once(
        self, broker: Broker, open_consumer: OpenConsumer
    ) -> None:
        barrier = threading.Barrier(4)

        def declare(index: int) -> None:
            barrier.wait(10)
            broker.declare_queue("shared")
            broker.enqueue(self.make_message(index, queue_name="shared"))

        with ThreadPoolExecutor(4) as pool:
            list(pool.map(declare, range(4), timeout=20))

        fetched = self.take(open_consumer("shared"), 4)
        assert sorted(message.args[0] for message in fetched) == [0, 1, 2, 3]
