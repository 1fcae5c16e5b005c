"""The lease states of the SQLite broker against a model in memory, by random walks.

Workers are brokers without threads of their own, on one file. A worker dies as the kernel would
have it: its lock is gone, its row and its leases stay. Time stands still unless a rule moves it.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from unittest.mock import patch

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    initialize,
    invariant,
    multiple,
    rule,
)

from dramatiq.brokers.sqlite import SQLiteBroker
from dramatiq.brokers.sqlite.consumer import SQLiteConsumer
from dramatiq.delivery import Outcome, Settlement
from dramatiq.errors import ConnectionClosed
from dramatiq.message import Message
from tests.chaos.harness import INVARIANTS

IS_FULL = os.environ.get("DRAMATIQ_CHAOS") == "full"

QUEUE = "default"
READY, DELAYED, LEASED, DEAD = range(4)
#: Modules of the broker that ask for the time.
CLOCKS = [
    "dramatiq.brokers._store",
    "dramatiq.brokers.sqlite.broker",
    "dramatiq.brokers.sqlite.consumer",
    "dramatiq.brokers.sqlite.membership",
    "dramatiq.brokers.sqlite.statements",
]
WORKERS = 2

#: A file system in memory, where there is one: thousands of files are made here.
MEMORY = "/dev/shm" if Path("/dev/shm").is_dir() else None

workers = st.integers(0, WORKERS - 1)


@dataclass(eq=False)
class Stored:
    """A message as the model knows it."""

    key: str
    state: int
    priority: int
    position: int
    sequence: int
    owner: int | None = None
    #: The delivery that may settle it; None if its worker does not know that it has it.
    delivery: object = None

    @property
    def place(self):
        return self.priority, self.position, self.sequence


@dataclass(eq=False)
class Worker:
    """A worker as the test sees it: a real broker and consumer, and what the model says of it."""

    broker: SQLiteBroker
    consumer: SQLiteConsumer
    is_alive: bool = True
    is_registered: bool = True

    @property
    def owner(self):
        return self.consumer.owner


@dataclass(eq=False)
class Delivery:
    """One message handed out once; it may be settled late, twice, or not at all."""

    worker: Worker
    consumer: SQLiteConsumer
    proxy: object
    stored: Stored
    follow_up_keys: list[str] = field(default_factory=list)


class LeaseMachine(RuleBasedStateMachine):
    deliveries = Bundle("deliveries")

    def __init__(self):
        super().__init__()
        self.now = 1_000_000
        self.stack = ExitStack()
        for module in CLOCKS:
            self.stack.enter_context(patch(f"{module}.current_millis", lambda: self.now))
        self.directory = Path(tempfile.mkdtemp(dir=MEMORY))
        self.messages: dict[str, Stored] = {}
        self.handed_out: list[Delivery] = []
        self.done: set[str] = set()
        self.ended: set[str] = set()
        self.sent = 0
        self.everybody: list[Worker] = []
        self.workers = [self.new_worker() for _ in range(WORKERS)]

    def teardown(self):
        for worker in self.everybody:
            if worker.is_alive:
                worker.broker.close()
            worker.broker.database.close()
        self.stack.close()
        shutil.rmtree(self.directory)

    # -- helpers

    def new_worker(self):
        broker = SQLiteBroker(self.directory / "queue.db", middleware=[], synchronous="NORMAL")
        broker.declare_queue(QUEUE)
        self.everybody.append(Worker(broker, self.consumer_of(broker)))
        return self.everybody[-1]

    def consumer_of(self, broker):
        # Not through the broker, which would start a thread that looks for the dead.
        return SQLiteConsumer(broker, QUEUE, 100, 0)

    def new_message(self, priority=0):
        self.sent += 1
        options = {"broker_priority": -priority}
        return Message(QUEUE, "act", (), {}, options, message_id=f"message-{self.sent}")

    def remember(self, message, priority, delay):
        """Store in the model what was stored for real."""
        eta = self.now + (delay or 0)
        state = DELAYED if eta > self.now else READY
        sequence = int(message.message_id.partition("-")[2])
        self.messages[message.message_id] = Stored(
            message.message_id, state, priority, eta, sequence
        )

    def in_state(self, state):
        return [each for each in self.messages.values() if each.state == state]

    def give_back(self, stored):
        stored.state, stored.owner, stored.delivery = READY, None, None

    def take(self, worker, count):
        """Move messages in the model as a fetch does; return them in order."""
        for stored in self.in_state(DELAYED):
            if stored.position <= self.now:
                stored.state = READY
        for stored in self.in_state(READY):
            if stored.key in self.done:
                self.ended.add(stored.key)
                del self.messages[stored.key]
        taken = sorted(self.in_state(READY), key=lambda each: each.place)[:count]
        for stored in taken:
            stored.state, stored.owner = LEASED, worker.owner
        return taken

    def strike_off(self, worker):
        for stored in self.in_state(LEASED):
            if stored.owner == worker.owner:
                self.give_back(stored)
        worker.is_registered = False

    # -- sending and time

    @initialize()
    def begin_with_some(self):
        self.enqueue(0, 4, 0, None)

    @rule(
        worker=workers,
        count=st.integers(1, 4),
        priority=st.integers(0, 2),
        delay=st.sampled_from([None, 0, 1, 2, 50]),
    )
    def enqueue(self, worker, count, priority, delay):
        messages = [self.new_message(priority) for _ in range(count)]

        self.workers[worker].broker.enqueue_many(messages, delay=delay)

        for message in messages:
            self.remember(message, priority, delay)

    @rule(milliseconds=st.sampled_from([1, 2, 60]))
    def time_passes(self, milliseconds):
        self.now += milliseconds

    # -- taking

    @rule(target=deliveries, worker=workers, count=st.integers(1, 4))
    def fetch(self, worker, count):
        worker = self.workers[worker]
        if worker.consumer._is_struck_off:
            return self.notice_strike_off(worker)
        if not (self.in_state(READY) or self.due()):
            assert worker.consumer.fetch(count, 0) == []
            return multiple()

        messages = worker.consumer.fetch(count, 0)

        if not worker.is_registered:
            assert messages == []  # whoever was taken for dead gets no lease
            assert not worker.consumer.recover()
            return multiple()
        expected = self.take(worker, count)
        assert [each.message_id for each in messages] == [each.key for each in expected]
        return self.hand_out(worker, messages, expected)

    def due(self):
        return [each for each in self.in_state(DELAYED) if each.position <= self.now]

    def notice_strike_off(self, worker):
        with pytest.raises(ConnectionClosed):
            worker.consumer.fetch(1, 0)
        # It goes on as a new one.
        worker.consumer.close()
        with self.joining():
            worker.consumer = self.consumer_of(worker.broker)
        worker.is_alive = worker.is_registered = True
        return multiple()

    @contextmanager
    def joining(self):
        """Expect somebody to join, who is given the first lock that is free.

        If another is registered for that place, it must be dead and is struck off.
        """
        before = dict(self.rows("SELECT slot, id FROM workers"))
        yield
        for slot, owner in self.rows("SELECT slot, id FROM workers"):
            for each in self.everybody:
                if before.get(slot) == each.owner != owner and each.is_registered:
                    assert not each.is_alive
                    self.strike_off(each)

    def hand_out(self, worker, messages, stored):
        deliveries = []
        for proxy, each in zip(messages, stored, strict=True):
            proxy._origin = self  # so that follow-ups are collected
            each.delivery = Delivery(worker, worker.consumer, proxy, each)
            deliveries.append(each.delivery)
        self.handed_out += deliveries
        return multiple(*deliveries)

    @rule(
        mishap=st.sampled_from(
            [
                "lose_the_reply_of_a_fetch",
                "reconcile",
                "die",
                "die_and_be_noticed",
                "sweep",
                "be_replaced",
                "close_and_open",
            ]
        ),
        worker=workers,
    )
    def mishap(self, mishap, worker):
        getattr(self, mishap)(self.workers[worker])

    @rule(target=deliveries, worker=workers)
    def lose_all_leases_to_another(self, worker):
        self.die_and_be_noticed(self.workers[worker])
        return self.fetch(1 - worker, 9)

    @rule(worker=workers, outcome=st.sampled_from(Outcome))
    def settle_whatever_was_handed_out(self, worker, outcome):
        for worker in {id(each.worker): each.worker for each in self.handed_out}.values():
            self.settle([each for each in self.handed_out if each.worker is worker], outcome)

    def lose_the_reply_of_a_fetch(self, worker):
        if not worker.is_registered or worker.consumer._is_struck_off:
            return
        worker.consumer._transact([], 2)
        self.take(worker, 2)

    def reconcile(self, worker):
        for _ in range(2):
            worker.consumer._reconcile_at = 0.0
            worker.consumer._reconcile()
        for stored in self.in_state(LEASED):
            if stored.owner == worker.owner and stored.delivery is None:
                self.give_back(stored)

    # -- settling

    def settle(self, chosen, outcome):
        """Settle deliveries of one consumer together, as valid, late or repeated as they are."""
        consumer = chosen[0].consumer
        worker = chosen[0].worker
        # A worker settles through its present consumer what an earlier one handed out.
        if worker.consumer is not consumer and not worker.consumer._is_struck_off:
            consumer = worker.consumer
        if consumer._is_struck_off:
            return
        together = list({id(each): each for each in chosen if each.worker is worker}.values())
        expected = [
            each.stored.delivery is each
            and each.stored.state == LEASED
            and each.consumer is consumer
            for each in together
        ]

        confirmed = consumer.settle([Settlement(each.proxy, outcome) for each in together])

        assert confirmed == expected
        for each, is_settled in zip(together, confirmed, strict=True):
            if is_settled:
                self.conclude(each, outcome)
            elif (
                outcome is Outcome.ACK
                and not each.follow_up_keys
                and each.stored.key in self.messages
            ):
                self.done.add(each.stored.key)

    def conclude(self, delivery, outcome):
        stored = delivery.stored
        stored.delivery = None
        if outcome is Outcome.ACK:
            self.ended.add(stored.key)
            del self.messages[stored.key]
        elif outcome is Outcome.NACK:
            stored.state, stored.owner = DEAD, None
            stored.position = self.now
        else:
            self.give_back(stored)
        for key, priority, delay in delivery.follow_up_keys:
            stored_at = self.now
            state = DELAYED if delay > stored_at else READY
            self.messages[key] = Stored(key, state, priority, max(delay, stored_at), 0)
            self.sent += 1
            self.messages[key].sequence = self.sent

    @rule(chosen=st.lists(deliveries, min_size=1, max_size=4))
    def ack(self, chosen):
        self.settle(chosen, Outcome.ACK)

    @rule(chosen=st.lists(deliveries, min_size=1, max_size=2))
    def nack(self, chosen):
        self.settle(chosen, Outcome.NACK)

    @rule(chosen=st.lists(deliveries, min_size=1, max_size=4))
    def requeue(self, chosen):
        self.settle(chosen, Outcome.REQUEUE)

    @rule(delivery=deliveries, delay=st.sampled_from([0, 1, 40]))
    def retry(self, delivery, delay):
        message = self.new_message()
        with delivery.worker.broker.follow_ups(delivery.proxy):
            delivery.worker.broker.enqueue(message, delay=delay)
        delivery.follow_up_keys.append((message.message_id, 0, self.now + delay))

        self.settle([delivery], Outcome.ACK)

    # -- workers come and go

    def die(self, worker):
        membership = worker.broker.membership
        if worker.is_alive and membership._slot is not None:
            membership._lock_file.release(membership._slot)
            membership._slot = None  # the number may be somebody else's next
            worker.is_alive = False

    def die_and_be_noticed(self, worker):
        self.die(worker)
        self.sweep(worker)

    def sweep(self, worker):
        worker.broker.membership.sweep()

        for each in self.everybody:
            if not each.is_alive and each.is_registered:
                self.strike_off(each)

    def be_replaced(self, dead):
        """Another process starts, and may get the place of a dead one."""
        if dead.is_alive:
            return
        with self.joining():
            replacement = self.new_worker()
        self.workers[self.workers.index(dead)] = replacement

    def close_and_open(self, worker):
        if worker.consumer._is_struck_off:
            return
        worker.consumer.close()
        for stored in self.in_state(LEASED):
            if stored.owner == worker.owner and stored.delivery is not None:
                self.give_back(stored)
        worker.consumer = self.consumer_of(worker.broker)

    # -- what always holds

    def rows(self, sql, *arguments):
        return self.workers[0].broker.database.read(
            lambda connection: connection.execute(sql, arguments).fetchall()
        )

    @invariant()
    def the_store_is_what_the_model_says(self):
        rows = self.rows("SELECT payload, state, owner FROM messages")
        found = {Message.decode(payload.encode()).message_id: (s, o) for payload, s, o in rows}
        assert len(rows) == len(found)
        assert found == {key: (each.state, each.owner) for key, each in self.messages.items()}

    @invariant()
    def nothing_is_in_two_places_or_without_owner(self):
        for name, sql in INVARIANTS.items():
            assert self.rows(sql) == [], name

    @invariant()
    def nothing_that_ended_is_stored(self):
        assert not self.ended & set(self.messages)


TestLeaseMachine = LeaseMachine.TestCase
TestLeaseMachine.settings = settings(
    max_examples=3000 if IS_FULL else 250,
    stateful_step_count=40,
    deadline=None,
    print_blob=True,
    suppress_health_check=list(HealthCheck),
)
TestLeaseMachine = pytest.mark.timeout(900 if IS_FULL else 180)(pytest.mark.chaos(TestLeaseMachine))
