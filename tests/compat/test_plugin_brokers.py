"""What published brokers and application factories do with us, in small stand-ins of our own.

The brokers know the contract of 2.x only: enqueue, and consumers with ``__next__``, ack and nack.
"""

from __future__ import annotations

import heapq
import threading
import time
from collections import defaultdict, deque

import pytest

import dramatiq
from dramatiq import (
    Actor,
    Broker,
    Consumer,
    Message,
    MessageProxy,
    Middleware,
    QueueJoinTimeout,
    QueueNotFound,
    get_logger,
)
from dramatiq.actor import _queue_name_re
from dramatiq.brokers.stub import StubBroker
from dramatiq.common import compute_backoff, current_millis, dq_name, xq_name
from dramatiq.middleware import CurrentMessage, TimeLimit
from dramatiq.results import Missing, ResultBackend, Results

#: Milliseconds after which a join gives up.
DEADLINE = 10_000


# -- a broker whose server enforces delays: no delay queues, no eta


class ServerProxy(MessageProxy):
    def __init__(self, message, receipt):
        super().__init__(message)
        self.receipt = receipt


class ServerConsumer(Consumer):
    def __init__(self, broker, queue_name, prefetch, timeout):
        self.logger = get_logger(__name__, type(self))
        self.broker = broker
        self.store = broker.store[queue_name]
        self.prefetch = prefetch
        self.timeout = timeout
        self.buffer = deque()
        self.held = 0
        self.misses = 0

    def __next__(self):
        if self.held < self.prefetch and self.store and self.store[0][0] <= current_millis():
            with self.broker.lock:
                _, receipt, data = heapq.heappop(self.store)
            self.held += 1
            self.misses = 0
            return ServerProxy(Message.decode(data), receipt)
        self.misses, backoff = compute_backoff(self.misses, max_backoff=min(self.timeout, 20))
        time.sleep(backoff / 1000)
        return None

    def ack(self, message):
        self.held -= 1
        self.broker.settled["ack"].append(message.receipt)

    def nack(self, message):
        self.held -= 1
        self.broker.settled["nack"].append(message.receipt)

    def requeue(self, messages):
        for message in messages:
            self.held -= 1
            self.broker.settled["requeue"].append(message.receipt)

    def close(self):
        self.requeue(self.buffer)
        self.broker.settled["close"].append(None)


class ServerBroker(Broker):
    """Its own attributes are set first: adding middleware asks for the queues."""

    def __init__(self, *, middleware=None):
        self.queues = set()
        self.lock = threading.Lock()
        self.store = defaultdict(list)
        self.settled = defaultdict(list)
        self.received = []
        self.sequence = 0
        super().__init__(middleware=middleware)
        self.queues = {}

    @property
    def consumer_class(self):
        return ServerConsumer

    def consume(self, queue_name, prefetch=1, timeout=30000):
        if queue_name not in self.queues:
            raise QueueNotFound(queue_name)
        return self.consumer_class(self, queue_name, prefetch, timeout)

    def declare_queue(self, queue_name):
        if queue_name not in self.queues:
            self.emit_before("declare_queue", queue_name)
            self.queues[queue_name] = object()
            self.emit_after("declare_queue", queue_name)

    def enqueue(self, message, *, delay=None):
        self.emit_before("enqueue", message, delay)
        self.received.append(type(message))
        with self.lock:
            self.sequence += 1
            entry = (current_millis() + (delay or 0), self.sequence, message.encode())
            heapq.heappush(self.store[message.queue_name], entry)
        self.emit_after("enqueue", message, delay)
        return message

    def get_declared_delay_queues(self):
        return set()

    def flush(self, queue_name):
        self.store[queue_name].clear()

    def flush_all(self):
        for queue_name in self.queues:
            self.flush(queue_name)

    def join(self, queue_name, *, timeout=None):
        deadline = time.monotonic() + timeout / 1000
        while time.monotonic() < deadline:
            ended = len(self.settled["ack"]) + len(self.settled["nack"])
            if not self.store[queue_name] and ended == self.sequence:
                return
            time.sleep(0.001)
        raise QueueJoinTimeout(queue_name)


@pytest.fixture
def server_broker(monkeypatch):
    broker = ServerBroker()
    monkeypatch.setattr("dramatiq.broker.global_broker", broker)
    return broker


def test_a_server_broker_runs_messages(server_broker, running):
    ran = []
    work = dramatiq.actor(ran.append, actor_name="work")

    with running(server_broker) as worker:
        for n in range(20):
            work.send(n)
        server_broker.join("default", timeout=DEADLINE)
        assert set(worker.consumers) == {"default"}

    assert sorted(ran) == list(range(20))
    assert len(server_broker.settled["ack"]) == 20


def test_a_server_broker_runs_async_actors(server_broker, running):
    ran = []

    @dramatiq.actor
    async def work(n):
        ran.append(n)

    with running(server_broker):
        for n in range(20):
            work.send(n)
        server_broker.join("default", timeout=DEADLINE)

    assert sorted(ran) == list(range(20))


def test_a_server_broker_gets_proxies_to_retry_and_delays_itself(server_broker, running):
    attempts = []

    @dramatiq.actor(min_backoff=5, max_backoff=5, max_retries=2)
    def work():
        attempts.append(CurrentMessage.get_current_message().options.get("retries"))
        raise ValueError

    server_broker.add_middleware(CurrentMessage())

    with running(server_broker):
        message = work.send()
        server_broker.join("default", timeout=DEADLINE)

    assert attempts == [None, 1, 2]
    assert server_broker.received == [Message, ServerProxy, ServerProxy]
    assert (len(server_broker.settled["ack"]), len(server_broker.settled["nack"])) == (2, 1)
    assert "eta" not in message.options


def test_a_server_broker_delays_messages_itself(server_broker, running):
    ran = []
    work = dramatiq.actor(ran.append, actor_name="work")

    with running(server_broker):
        work.send_with_options(args=(2,), delay=60)
        work.send_with_options(args=(1,), delay=5)
        server_broker.join("default", timeout=DEADLINE)

    assert ran == [1, 2]


def test_a_server_brokers_consumer_is_closed_last(server_broker, running):
    dramatiq.actor(max)

    with running(server_broker):
        pass

    assert server_broker.settled["close"] == [None]


def test_the_prefetch_may_be_assigned_before_the_start(server_broker):
    dramatiq.actor(max)
    worker = dramatiq.Worker(server_broker, worker_timeout=100, worker_threads=1)
    worker.queue_prefetch = 3

    worker.start()
    prefetches = {consumer.prefetch for consumer in worker.consumers.values()}
    worker.stop()

    assert prefetches == {3}


def test_what_was_not_started_is_requeued_through_the_consumer(server_broker):
    started, may_end = threading.Event(), threading.Event()

    @dramatiq.actor
    def work():
        started.set()
        may_end.wait(DEADLINE / 1000)

    worker = dramatiq.Worker(server_broker, worker_timeout=100, worker_threads=1)
    worker.queue_prefetch = 5
    worker.start()
    for _ in range(5):
        work.send()
    assert started.wait(DEADLINE / 1000)
    deadline = time.monotonic() + DEADLINE / 1000
    while server_broker.store["default"] and time.monotonic() < deadline:
        time.sleep(0.001)

    stopper = threading.Thread(target=worker.stop)
    stopper.start()
    may_end.set()
    stopper.join(DEADLINE / 1000)

    settled = server_broker.settled
    assert len(settled["ack"]) + len(settled["requeue"]) == 5
    assert len(settled["ack"]) >= 1


def test_sending_many_loops_over_enqueue(server_broker):
    work = dramatiq.actor(max)

    messages = work.send_many([(1,), (2,)])

    assert [message.args for message in messages] == [(1,), (2,)]
    assert server_broker.received == [Message, Message]


# -- a broker on a database: changes messages in place, replaces its middleware


class TableConsumer(Consumer):
    # No call of a base constructor.
    def __init__(self, broker, queue_name):
        self.broker = broker
        self.queue_name = queue_name

    def __next__(self):
        with self.broker.lock:
            rows = self.broker.rows
            for index, (queue_name, fields) in enumerate(rows):
                if queue_name == self.queue_name:
                    del rows[index]
                    message = Message(**fields)
                    message.options["row"] = object()
                    return MessageProxy(message)
        time.sleep(0.002)
        return None

    def ack(self, message):
        assert type(message.options["row"]) is object
        self.broker.ended.append(("ack", message.queue_name))

    def nack(self, message):
        self.broker.ended.append(("nack", message.queue_name))


class TableBackend(ResultBackend):
    def __init__(self):
        super().__init__()
        self.stored = {}

    def _get(self, message_key):
        return self.stored.get(message_key, Missing)

    def _store(self, message_key, result, ttl):
        self.stored[message_key] = result


class TableBroker(Broker):
    def __init__(self, *, middleware=None):
        super().__init__(middleware=[])
        self.middleware = []
        self.lock = threading.Lock()
        self.rows = []
        self.ended = []
        for each in middleware or []:
            self.add_middleware(each)
        self.add_middleware(Results(backend=TableBackend(), store_results=True))

    def consume(self, queue_name, prefetch=1, timeout=30000):
        return TableConsumer(self, queue_name)

    def declare_queue(self, queue_name):
        if queue_name not in self.queues:
            self.emit_before("declare_queue", queue_name)
            self.queues[queue_name] = True
            self.emit_after("declare_queue", queue_name)
            delay_name = dq_name(queue_name)
            self.delay_queues.add(delay_name)
            self.emit_after("declare_delay_queue", delay_name)

    def enqueue(self, message, *, delay=None):
        queue_name = message.queue_name
        if delay is not None:
            queue_name = dq_name(queue_name)
            # In place, not on a copy.
            message.options["eta"] = current_millis() + delay
        self.emit_before("enqueue", message, delay)
        data = {**message.asdict(), "options": dict(message.options), "queue_name": queue_name}
        data["options"].pop("row", None)
        with self.lock:
            self.rows.append((queue_name, data))
        self.emit_after("enqueue", message, delay)
        return message


@pytest.fixture
def table_broker(monkeypatch):
    broker = TableBroker(middleware=[each() for each in dramatiq.middleware.default_middleware])
    monkeypatch.setattr("dramatiq.broker.global_broker", broker)
    return broker


def wait_for(condition):
    deadline = time.monotonic() + DEADLINE / 1000
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.001)


def test_a_table_broker_runs_and_stores_results(table_broker, running):
    work = dramatiq.actor(lambda n: n * 2, actor_name="work")

    with running(table_broker):
        message = work.send(2)
        assert message.get_result(block=True, timeout=DEADLINE) == 4
        wait_for(lambda: table_broker.ended == [("ack", "default")])


def test_a_table_broker_leaves_delays_to_the_worker(table_broker, running):
    ran = []
    work = dramatiq.actor(ran.append, actor_name="work")

    with running(table_broker) as worker:
        work.send_with_options(args=(1,), delay=20)
        wait_for(lambda: len(table_broker.ended) == 2)
        assert set(worker.consumers) == {"default", "default.DQ"}

    assert ran == [1]
    assert table_broker.ended == [("ack", "default.DQ"), ("ack", "default")]


def test_a_table_broker_retries(table_broker, running):
    attempts = []

    @dramatiq.actor(max_retries=1, max_backoff=1)
    def work():
        attempts.append(1)
        raise ValueError("wrong")

    with running(table_broker):
        message = work.send()
        with pytest.raises(dramatiq.results.ResultFailure, match="wrong"):
            message.get_result(block=True, timeout=DEADLINE)
        wait_for(lambda: len(table_broker.ended) == 3)

    assert len(attempts) == 2
    assert [outcome for outcome, _ in table_broker.ended] == ["ack", "ack", "nack"]


def test_the_base_class_answers_for_the_queues(table_broker):
    dramatiq.actor(max, queue_name="low")

    assert table_broker.get_declared_queues() == {"low"}
    assert table_broker.get_declared_delay_queues() == {"low.DQ"}
    assert table_broker.get_declared_delay_queues() is not table_broker.delay_queues


# -- brokers that adapt what they are given


def test_a_broker_may_change_the_queue_of_actors(monkeypatch):
    class Prefixed(StubBroker):
        def declare_actor(self, actor):
            actor.queue_name = f"app-{actor.queue_name}"
            super().declare_actor(actor)

    broker = Prefixed()

    work = dramatiq.actor(max, broker=broker)

    assert work.queue_name == work.message().queue_name == "app-default"
    assert "app-default" in broker.queues


def test_a_broker_may_look_at_its_middleware_while_it_is_made():
    class Looking(StubBroker):
        def __init__(self, middleware=None):
            super().__init__(middleware)
            [limit] = [each for each in self.middleware if isinstance(each, TimeLimit)]
            self.lease = limit.time_limit

    assert Looking().lease == 600_000


def test_a_broker_may_mimic_dead_letters():
    broker = StubBroker()

    assert isinstance(broker.dead_letters_by_queue, defaultdict)
    assert broker.dead_letters_by_queue["any"] == []
    assert xq_name("default") == "default.XQ"


# -- application factories


@pytest.fixture
def default_actor_class():
    before = dramatiq.actor.__kwdefaults__["actor_class"]
    yield
    dramatiq.actor.__kwdefaults__["actor_class"] = before


def test_a_factory_makes_actors_before_there_is_a_broker(default_actor_class, running):
    class LazyActor(Actor):
        """Declared late; until then it only remembers."""

        def __init__(self, fn, *, broker, **kwargs):
            self._fn, self._kwargs, self._real = fn, kwargs, None
            broker.lazy_actors.append(self)

        def __getattr__(self, name):
            if name == "_real":
                raise AttributeError(name)
            return getattr(self._real, name)

        def send(self, *args, **kwargs):
            return self._real.send(*args, **kwargs)

    class LazyBroker:
        def __init__(self):
            self.lazy_actors = []
            self.actor_options = set(StubBroker().actor_options)

    lazy = LazyBroker()
    dramatiq.actor.__kwdefaults__["actor_class"] = LazyActor
    ran = []

    @dramatiq.actor(broker=lazy, queue_name="q", max_retries=1)
    def work(n):
        ran.append(n)

    assert type(work) is LazyActor
    broker = StubBroker()
    for each in lazy.lazy_actors:
        each._real = Actor(each._fn, broker=broker, **each._kwargs)

    with running(broker):
        work.send(1)
        broker.join("q", timeout=DEADLINE)

    assert ran == [1]


def test_a_broker_may_answer_for_its_options_by_a_property():
    class Lazy(StubBroker):
        def __init__(self, middleware=None):
            self._options = set()
            super().__init__(middleware)

        @property
        def actor_options(self):
            return self._options | {"extra"}

        @actor_options.setter
        def actor_options(self, options):
            self._options = options

    work = dramatiq.actor(max, broker=Lazy(), extra=1, max_retries=2)

    assert work.options == {"extra": 1, "max_retries": 2}


def test_a_registry_keeps_actors_for_brokers_to_come(running):
    class Registry:
        actor_options = frozenset({"max_retries"})

        def __init__(self):
            self.actors = {}

        def declare_actor(self, actor):
            self.actors[actor.actor_name] = actor

    registry, broker, ran = Registry(), StubBroker(), []
    assert _queue_name_re.fullmatch("default")
    work = Actor(
        ran.append,
        broker=registry,
        actor_name="work",
        queue_name="default",
        priority=0,
        options={},
    )
    for each in registry.actors.values():
        each.broker = broker
        broker.declare_actor(each)

    with running(broker):
        work.send(1)
        broker.join("default", timeout=DEADLINE)

    assert ran == [1]


def test_actors_of_a_subclass_run_through_its_call(stub_broker, running):
    calls = []

    class InContext(Actor):
        def __call__(self, *args, **kwargs):
            calls.append(self.actor_name)
            return super().__call__(*args, **kwargs)

    @dramatiq.actor(actor_class=InContext)
    def work():
        pass

    @dramatiq.actor(actor_class=InContext)
    async def async_work():
        pass

    stub_broker.add_middleware(dramatiq.middleware.AsyncIO())
    with running(stub_broker):
        work.send()
        async_work.send()
        stub_broker.join("default", timeout=DEADLINE)

    assert sorted(calls) == ["async_work", "work"]


def test_middleware_may_be_added_next_to_others(stub_broker):
    class AppContext(Middleware):
        pass

    middleware = AppContext()

    stub_broker.add_middleware(middleware, before=dramatiq.middleware.AgeLimit)

    assert stub_broker.middleware[0] is middleware
