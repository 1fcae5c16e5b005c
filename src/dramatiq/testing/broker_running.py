# ruff: noqa: D102 - a test's name is its sentence.
"""What a worker on any broker must do with messages that succeed; see `broker_contract`."""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING

import pytest

from ..errors import QueueJoinTimeout
from .broker_suite import JOIN_TIMEOUT, BrokerSuite, Ledger, OpenConsumer, StartWorker, ids_of
from .waiting import wait_until

if TYPE_CHECKING:
    from ..broker import Broker

__all__ = ["RunningTests"]


class RunningTests(BrokerSuite):
    """Workers, their threads and queues."""

    def test_one_message_runs_once(
        self, broker: Broker, ledger: Ledger, start_worker: StartWorker
    ) -> None:
        actor = self.declare(broker, lambda x, *, y: ledger.write((x, y)))
        start_worker()

        actor.send(1, y="two")

        broker.join("default", timeout=JOIN_TIMEOUT)
        assert ledger.entries == [(1, "two")]

    def test_one_thread_runs_messages_in_the_order_they_were_sent(
        self, broker: Broker, ledger: Ledger, start_worker: StartWorker
    ) -> None:
        actor = self.declare(broker, ledger.write)
        for index in range(50):
            actor.send(index)

        start_worker(worker_threads=1)

        assert ledger.wait_for(50) == list(range(50))

    def test_a_hundred_messages_run_through_32_threads(
        self, broker: Broker, ledger: Ledger, start_worker: StartWorker
    ) -> None:
        actor = self.declare(broker, ledger.write)
        start_worker(worker_threads=32)

        actor.send_many([(index,) for index in range(100)])

        broker.join("default", timeout=JOIN_TIMEOUT)
        assert sorted(ledger.entries) == list(range(100))

    def test_thousands_of_messages_run_once_each(
        self, broker: Broker, ledger: Ledger, start_worker: StartWorker
    ) -> None:
        actor = self.declare(broker, ledger.write)
        start_worker(worker_threads=4)

        actor.send_many([(index,) for index in range(5000)])

        broker.join("default", timeout=JOIN_TIMEOUT)
        assert sorted(ledger.entries) == list(range(5000))

    def test_the_actor_with_the_lower_priority_number_runs_first(
        self, broker: Broker, ledger: Ledger, start_worker: StartWorker
    ) -> None:
        started, released = threading.Event(), threading.Event()

        def block() -> None:
            started.set()
            released.wait(10)

        blocker = self.declare(broker, block, "block")
        low = self.declare(broker, ledger.write, "low", priority=10)
        high = self.declare(broker, ledger.write, "high", priority=1)
        blocker.send()
        worker = start_worker(worker_threads=1, queue_prefetch=20)
        assert started.wait(10)
        for index in range(10):
            (low if index % 2 else high).send("low" if index % 2 else "high")
        wait_until(lambda: worker.work_queue.qsize() == 10)

        released.set()

        assert ledger.wait_for(10) == ["high"] * 5 + ["low"] * 5

    def test_queues_are_consumed_side_by_side(
        self, broker: Broker, ledger: Ledger, start_worker: StartWorker
    ) -> None:
        names = ["first", "second", "third"]
        actors = [self.declare(broker, ledger.write, name, queue_name=name) for name in names]
        start_worker()

        for actor in actors:
            actor.send_many([(actor.actor_name,)] * 10)

        for name in names:
            broker.join(name, timeout=JOIN_TIMEOUT)
        assert sorted(ledger.entries) == [name for name in sorted(names) for _ in range(10)]

    def test_a_worker_consumes_the_queues_it_was_told_to(
        self, broker: Broker, ledger: Ledger, start_worker: StartWorker
    ) -> None:
        wanted = self.declare(broker, ledger.write, "wanted", queue_name="wanted")
        other = self.declare(broker, ledger.write, "other", queue_name="other")
        start_worker(queues={"wanted"})

        other.send("other")
        other.send_with_options(args=("other",), delay=1)
        wanted.send("wanted")
        wanted.send_with_options(args=("wanted",), delay=1)

        broker.join("wanted", timeout=JOIN_TIMEOUT)
        with pytest.raises(QueueJoinTimeout):
            broker.join("other", timeout=100)
        assert ledger.entries == ["wanted", "wanted"]

    def test_a_queue_declared_later_is_consumed_too(
        self, broker: Broker, ledger: Ledger, start_worker: StartWorker
    ) -> None:
        start_worker()

        actor = self.declare(broker, ledger.write, queue_name="late")
        actor.send("late")

        assert ledger.wait_for(1) == ["late"]

    def test_workers_share_a_queue_without_duplicates(
        self, broker: Broker, ledger: Ledger, start_worker: StartWorker
    ) -> None:
        actor = self.declare(broker, ledger.write)
        for _ in range(3):
            start_worker(worker_threads=2)

        actor.send_many([(index,) for index in range(500)])

        broker.join("default", timeout=JOIN_TIMEOUT)
        assert sorted(ledger.entries) == list(range(500))

    def test_stopping_one_worker_does_not_touch_what_another_runs(
        self, broker: Broker, ledger: Ledger, start_worker: StartWorker
    ) -> None:
        running, released = threading.Event(), threading.Event()

        def work() -> None:
            ledger.write("started")
            running.set()
            released.wait(10)

        actor = self.declare(broker, work)
        probe = self.declare(broker, ledger.write, "probe")
        idle = start_worker()
        idle.pause()
        start_worker(worker_threads=1, queue_prefetch=1)
        actor.send()
        assert running.wait(10)

        idle.stop(timeout=5000)
        start_worker()
        probe.send("probe")

        assert ledger.wait_for(2) == ["started", "probe"]
        released.set()
        broker.join("default", timeout=JOIN_TIMEOUT)
        assert ledger.entries == ["started", "probe"]

    def test_a_paused_worker_starts_nothing_until_it_is_resumed(
        self, broker: Broker, ledger: Ledger, start_worker: StartWorker
    ) -> None:
        actor = self.declare(broker, ledger.write)
        worker = start_worker()

        worker.pause()
        actor.send("sent")
        with pytest.raises(QueueJoinTimeout):
            broker.join("default", timeout=200)
        assert ledger.entries == []
        worker.resume()

        broker.join("default", timeout=JOIN_TIMEOUT)
        assert ledger.entries == ["sent"]

    def test_stopping_gives_back_at_once_what_was_not_started(
        self, broker: Broker, open_consumer: OpenConsumer, start_worker: StartWorker
    ) -> None:
        if not self.redelivers_on_close:
            pytest.skip("this broker redelivers after a while")
        running, released = threading.Event(), threading.Event()

        def block() -> None:
            running.set()
            released.wait(10)

        actor = self.declare(broker, block)
        worker = start_worker(worker_threads=1, queue_prefetch=10)
        sent = [actor.send() for _ in range(5)]
        assert running.wait(10)
        wait_until(lambda: worker.work_queue.qsize() == 4)

        stopping = threading.Thread(target=worker.stop, kwargs={"timeout": 10_000})
        stopping.start()
        wait_until(lambda: worker.work_queue.qsize() == 0)
        released.set()
        stopping.join(10)

        assert ids_of(self.take(open_consumer(), 4)) == ids_of(sent[1:])

    def test_stopping_waits_for_what_is_running(
        self, broker: Broker, ledger: Ledger, start_worker: StartWorker
    ) -> None:
        running = threading.Event()

        def work() -> None:
            running.set()
            threading.Event().wait(0.2)
            ledger.write("finished")

        actor = self.declare(broker, work)
        worker = start_worker()
        actor.send()
        assert running.wait(10)

        worker.stop(timeout=10_000)

        assert ledger.entries == ["finished"]
        broker.join("default", timeout=JOIN_TIMEOUT)

    def test_the_timeout_of_a_stop_is_kept_and_what_still_runs_is_given_back(
        self, broker: Broker, open_consumer: OpenConsumer, start_worker: StartWorker
    ) -> None:
        if not self.redelivers_on_close:
            pytest.skip("this broker redelivers after a while")
        running, released = threading.Event(), threading.Event()

        def block() -> None:
            running.set()
            released.wait(20)

        worker = start_worker(worker_threads=1)
        message = self.declare(broker, block).send()
        assert running.wait(10)

        worker.stop(timeout=100)

        assert ids_of(self.take(open_consumer(), 1)) == [message.message_id]
        released.set()
        wait_until(lambda: not any(thread.is_alive() for thread in worker.workers))

    def test_async_actors_run(
        self, broker: Broker, ledger: Ledger, start_worker: StartWorker
    ) -> None:
        async def work(index: int) -> None:
            await asyncio.sleep(0.1)
            ledger.write(index)

        actor = self.declare(broker, work)
        start_worker(worker_threads=1, async_slots=50)

        actor.send_many([(index,) for index in range(50)])

        broker.join("default", timeout=JOIN_TIMEOUT)
        assert sorted(ledger.entries) == list(range(50))

    def test_joining_an_idle_queue_returns_at_once(self, broker: Broker) -> None:
        broker.declare_queue("default")

        broker.join("default", timeout=1000)

    def test_joining_times_out_when_nobody_works(self, broker: Broker) -> None:
        self.fill(broker, 1)

        with pytest.raises(QueueJoinTimeout):
            broker.join("default", timeout=50)
