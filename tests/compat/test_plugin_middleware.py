"""What published middleware and tracing tools do with us, in small stand-ins of our own."""

from __future__ import annotations

import contextvars
import importlib
import json
import threading
import time
from collections import defaultdict

import pytest

import dramatiq
from dramatiq import Actor, Broker, Message, Middleware
from dramatiq.brokers.sqlite import SQLiteBroker
from dramatiq.brokers.stub import StubBroker
from dramatiq.common import current_millis
from dramatiq.middleware import CurrentMessage, Interrupt, SkipMessage, default_middleware
from dramatiq.middleware.threading import (
    current_platform,
    raise_thread_exception,
    supported_platforms,
)
from dramatiq.rate_limits import Barrier
from dramatiq.rate_limits.backends import StubBackend as LimitsBackend

#: Milliseconds after which a join gives up.
DEADLINE = 10_000
#: Seconds after which any other wait gives up.
DEADLINE_S = 10


# -- an error tracker replaces Broker.__init__ and keeps its state on the proxy


class Tracking(Middleware):
    """Opens a scope for each message and closes it in the hooks after."""

    def __init__(self):
        self.scopes = []

    def before_enqueue(self, broker, message, delay):
        message.options["trace"] = {"id": "abc"}

    def before_process_message(self, broker, message):
        assert getattr(message, "_scope", None) is None
        message._scope = [message.options["trace"]["id"]]
        message._payload = json.dumps(message.asdict())

    def after_process_message(self, broker, message, *, result=None, exception=None):
        throws = message.options.get("throws") or broker.get_actor(message.actor_name).options.get(
            "throws"
        )
        message._scope.append(type(exception).__name__ if exception else None)
        message._scope.append(bool(throws))
        self.scopes.append(message._scope)

    after_skip_message = after_process_message


@pytest.fixture
def tracked(monkeypatch):
    original = Broker.__init__

    def replacement(self, *args, **kwargs):
        middleware = kwargs.pop("middleware", None)
        if len(args) == 1:
            middleware, args = args[0], ()
        if middleware is None:
            middleware = [each() for each in default_middleware]
        middleware = [each for each in middleware if not isinstance(each, Tracking)]
        original(self, *args, **kwargs, middleware=[Tracking(), *middleware])

    monkeypatch.setattr(Broker, "__init__", replacement)


@pytest.mark.parametrize("arguments", [((), {}), (([],), {}), ((), {"middleware": []})])
def test_a_tracker_gets_into_every_broker_first(tracked, tmp_path, arguments):
    args, kwargs = arguments
    stub = StubBroker(*args, **kwargs)
    sqlite = SQLiteBroker(tmp_path / "messages.db", middleware=kwargs.get("middleware"))

    assert isinstance(stub.middleware[0], Tracking)
    assert isinstance(sqlite.middleware[0], Tracking)
    assert len(stub.middleware) == (1 if args or kwargs else 1 + len(default_middleware))
    sqlite.close()


@pytest.mark.parametrize("is_async", [False, True])
def test_a_tracker_keeps_its_scope_on_the_proxy(tracked, monkeypatch, running, is_async):
    broker = StubBroker()
    monkeypatch.setattr("dramatiq.broker.global_broker", broker)

    def work():
        raise KeyError("x")

    async def async_work():
        raise KeyError("x")

    actor = dramatiq.actor(async_work if is_async else work, throws=KeyError)

    with running(broker):
        actor.send()
        broker.join("default", timeout=DEADLINE, fail_fast=False)

    assert broker.middleware[0].scopes == [["abc", "KeyError", True]]


# -- tracing tools wrap methods


def test_a_tracer_wraps_sending_and_processing(stub_broker, running, monkeypatch):
    spans = []

    def wrap(owner, name):
        wrapped = getattr(owner, name)

        def wrapper(self, *args, **kwargs):
            spans.append((name, len(args)))
            return wrapped(self, *args, **kwargs)

        monkeypatch.setattr(owner, name, wrapper)

    worker_module = importlib.import_module("dramatiq.worker")
    ran = []

    @dramatiq.actor
    def work(value):
        ran.append(value)

    @dramatiq.actor
    async def async_work(value):
        ran.append(value)

    with running(stub_broker) as worker:
        # The worker runs already: the method is looked up for each message.
        wrap(Actor, "message_with_options")
        wrap(Actor, "send_with_options")
        wrap(worker_module._WorkerThread, "process_message")
        work.send(1)
        async_work.send(2)
        stub_broker.join("default", timeout=DEADLINE)
        worker.join()

    assert sorted(ran) == [1, 2]
    assert spans.count(("process_message", 1)) == 2
    assert spans.count(("send_with_options", 0)) == 2
    assert spans.count(("message_with_options", 0)) == 2


def test_a_tracer_passes_an_option_called_options(stub_broker):
    work = dramatiq.actor(max)

    message = work.send_with_options(args=(1, 2), options={"trace": "abc"})

    assert message.options == {"options": {"trace": "abc"}}


def test_a_tracer_marks_the_package(monkeypatch):
    monkeypatch.setattr(dramatiq, "_datadog_patch", True, raising=False)

    assert dramatiq._datadog_patch is True


@pytest.mark.parametrize("is_async", [False, True])
@pytest.mark.parametrize("is_loop_safe", [False, True])
def test_the_hooks_of_a_message_share_thread_and_context(
    stub_broker, running, is_async, is_loop_safe
):
    variable = contextvars.ContextVar("variable", default=None)
    seen = []

    class Activating(Middleware):
        def before_process_message(self, broker, message):
            message._token = variable.set(message.message_id)
            message._thread = threading.get_ident()

        def after_process_message(self, broker, message, *, result=None, exception=None):
            # Raises ValueError in any other context than the one it was set in.
            variable.reset(message._token)
            seen.append(message._thread == threading.get_ident())

    Activating.is_loop_safe = is_loop_safe
    stub_broker.add_middleware(Activating())
    inside = []

    def work():
        inside.append(variable.get())

    async def async_work():
        inside.append(variable.get())

    actor = dramatiq.actor(async_work if is_async else work)

    with running(stub_broker):
        messages = [actor.send() for _ in range(5)]
        stub_broker.join("default", timeout=DEADLINE)

    assert seen == [True] * 5
    assert sorted(inside) == sorted(message.message_id for message in messages)


# -- a middleware that aborts running and waiting messages


class Abort(Interrupt):
    pass


class Abortable(Middleware):
    def __init__(self):
        self.threads = {}
        self.aborted = set()

    @property
    def actor_options(self):
        return {"abortable"}

    def before_process_message(self, broker, message):
        if message.message_id in self.aborted:
            raise SkipMessage
        actor = broker.get_actor(message.actor_name)
        if message.options.get("abortable", actor.options.get("abortable", False)):
            self.threads[message.message_id] = threading.get_ident()

    def after_process_message(self, broker, message, *, result=None, exception=None):
        self.threads.pop(message.message_id, None)

    after_skip_message = after_process_message

    def abort(self, message_id):
        self.aborted.add(message_id)
        thread_id = self.threads.pop(message_id, None)
        if thread_id is not None:
            raise_thread_exception(thread_id, Abort)


@pytest.mark.skipif(current_platform not in supported_platforms, reason="no interrupts here")
def test_a_running_message_can_be_aborted_from_outside(stub_broker, running):
    started, caught = threading.Event(), []

    with running(stub_broker), running(stub_broker):
        # Added while two workers run already.
        abortable = Abortable()
        stub_broker.add_middleware(abortable)

        @dramatiq.actor(abortable=True, max_retries=0)
        def work():
            started.set()
            deadline = time.monotonic() + DEADLINE_S
            try:
                while time.monotonic() < deadline:
                    time.sleep(0.001)
            except Abort:
                caught.append("aborted")
                raise

        message = work.send()
        assert started.wait(DEADLINE_S)
        abortable.abort(message.message_id)
        stub_broker.join("default", timeout=DEADLINE, fail_fast=False)

    assert caught == ["aborted"]
    assert [each.message_id for each in stub_broker.dead_letters] == [message.message_id]


def test_a_waiting_message_can_be_aborted(stub_broker, running):
    ran = []
    abortable = Abortable()
    stub_broker.add_middleware(abortable)
    work = dramatiq.actor(lambda: ran.append(1), actor_name="work", abortable=True)
    message = work.send()

    abortable.abort(message.message_id)
    with running(stub_broker):
        stub_broker.join("default", timeout=DEADLINE)

    assert (ran, stub_broker.dead_letters) == ([], [])


# -- a scheduler


class Schedule:
    """An option's value that JSON does not know."""


class Scheduling(Middleware):
    actor_options = {"periodic"}  # noqa: RUF012 (plugins write it this way)

    def before_process_message(self, broker, message):
        if message.options.get("scheduled_at") == "long ago":
            raise SkipMessage("too late")


def test_a_scheduler_finds_its_actors_and_sends_them(stub_broker, running):
    ran = []
    stub_broker.add_middleware(Scheduling())
    dramatiq.actor(lambda: ran.append(1), actor_name="tick", periodic=Schedule())
    dramatiq.actor(max)

    [tick] = [each for each in stub_broker.actors.values() if "periodic" in each.options]
    assert tick.fn.__module__ == __name__
    assert (tick.actor_name, tick.queue_name) == ("tick", "default")

    with running(stub_broker):
        tick.send_with_options(scheduled_at="long ago")
        stub_broker.actors["tick"].send_with_options(scheduled_at="now")
        stub_broker.join("default", timeout=DEADLINE)

    assert ran == [1]


def test_a_scheduler_replaces_functions(stub_broker, running):
    ran = []
    work = dramatiq.actor(lambda: ran.append("old"), actor_name="work")
    work.fn = lambda: ran.append("new")

    with running(stub_broker):
        work.send()
        stub_broker.join("default", timeout=DEADLINE)

    assert ran == ["new"]


# -- workflows


class CountingBarrier(Barrier):
    """A barrier that is made before its number of parties is known."""

    def __init__(self, backend, key, *args, ttl=900_000):
        super().__init__(backend, key, *args, ttl=ttl)

    def create(self, parties):
        self.backend.add(self.key, -1, self.ttl)
        return self.backend.incr(self.key, parties, 100, self.ttl)

    def wait(self, *, block=True, timeout=None):
        assert not block
        return not self.backend.incr(self.key, 0, 0, self.ttl)


class Workflows(Middleware):
    def __init__(self, barriers):
        self.barriers = barriers
        self.noop = None

    def after_process_boot(self, broker):
        # Made at import, on whichever broker was the global one then.
        broker.declare_actor(self.noop)

    def after_process_message(self, broker, message, *, result=None, exception=None):
        if exception is not None or message.failed:
            return
        for encoded in message.options.get("next", []):
            following = Message(**encoded)
            broker.enqueue(
                following.copy(message_timestamp=time.time() * 1000, options={"step": (1, [2])}),
                delay=following.options.get("delay"),
            )


def test_workflows_pass_float_timestamps_and_nested_options(stub_broker, running):
    other, done, steps = StubBroker(), threading.Event(), []
    workflows = Workflows(LimitsBackend())
    workflows.noop = dramatiq.actor(done.set, actor_name="noop", broker=other)
    stub_broker.add_middleware(workflows)
    stub_broker.add_middleware(CurrentMessage())

    @dramatiq.actor
    def work():
        steps.append(CurrentMessage.get_current_message()._message)

    stub_broker.emit_after("process_boot")
    last = Message("default", "noop", (), {}, {"delay": 10})
    middle = work.message_with_options(next=[last.asdict()])

    with running(stub_broker):
        message = work.send_with_options(next=[middle.asdict()])
        assert done.wait(DEADLINE_S)
        stub_broker.join("default", timeout=DEADLINE)

    assert [step.message_id for step in steps] == [message.message_id, middle.message_id]
    assert isinstance(steps[1].message_timestamp, float)
    assert steps[1].options["step"] == [1, [2]]
    assert steps[1].message_datetime.tzinfo is not None
    assert isinstance(steps[0], Message)


def test_barriers_may_be_extended():
    barrier = CountingBarrier(LimitsBackend(), "key", ttl=5000)

    assert (barrier.key, barrier.ttl) == ("key", 5000)
    assert barrier.create(3)
    assert barrier.wait(block=False)


def test_the_store_of_limits_may_be_replaced():
    backend = LimitsBackend()
    backend.add("key", -1, 1000)

    backend.db = {}

    assert backend.add("key", -1, 1000)
    assert backend.incr("other", 1, 1, 1000)
    assert not backend.incr("other", 1, 1, 1000)


# -- trackers of state, in a database for example


def test_a_tracker_of_state_sees_every_step(stub_broker, running):
    states = defaultdict(list)

    class States(Middleware):
        def after_enqueue(self, broker, message, delay):
            state = "delayed" if delay else "enqueued"
            states[message.message_id].append(state)
            assert Message.decode(message.encode()) == message

        def before_process_message(self, broker, message):
            states[message.message_id].append("running")
            assert Message.decode(message.encode()) == message
            message.options["traceback"] = "none"

        def after_skip_message(self, broker, message):
            self.after_process_message(broker, message, status="skipped")

        def after_process_message(
            self, broker, message, *, result=None, exception=None, status=None
        ):
            if status is None:
                status = "done" if exception is None else "failed"
            states[message.message_id].append(status)
            assert message._asdict()["message_id"] == message.message_id

    stub_broker.add_middleware(States())

    @dramatiq.actor(max_retries=1, max_backoff=0)
    def fail():
        raise ValueError

    @dramatiq.actor
    def skip():
        raise SkipMessage

    with running(stub_broker):
        failing, skipping = fail.send(), skip.send()
        stub_broker.join("default", timeout=DEADLINE, fail_fast=False)

    assert states[skipping.message_id] == ["enqueued", "running", "skipped"]
    assert states[failing.message_id] == [
        "enqueued",
        "running",
        "failed",
        "enqueued",
        "enqueued",
        "running",
        "failed",
    ]


def test_hooks_get_result_and_exception_by_name(stub_broker, running):
    seen = []

    class Monitoring(Middleware):
        def after_process_message(self, broker, message, result=None, exception=None):
            seen.append((result, exception))

    class Strict(Middleware):
        def after_process_message(self, broker, message, **outcome):
            seen.append(set(outcome))

    stub_broker.middleware = [Monitoring(), Strict()]
    error = ValueError()

    @dramatiq.actor
    def work(fails):
        if fails:
            raise error

    with running(stub_broker, worker_threads=1):
        work.send(False)
        work.send(True)
        stub_broker.join("default", timeout=DEADLINE)

    assert seen == [{"result"}, (None, None), {"exception"}, (None, error)]


def test_tests_of_others_reset_the_broker(stub_broker, running):
    calls = []

    class Calling(Middleware):
        def before_process_message(self, broker, message):
            calls.append(message.actor_name)

    dramatiq.actor(max)
    stub_broker.actors.clear()
    stub_broker.middleware = [Calling()]
    stub_broker.flush_all()
    work = dramatiq.actor(lambda: None, actor_name="max")

    with running(stub_broker):
        work.send()
        stub_broker.join("default", timeout=DEADLINE)

    assert calls == ["max"]


@pytest.mark.parametrize(
    "path",
    [
        "dramatiq.brokers.stub.StubBroker",
        "dramatiq.encoder.JSONEncoder",
        "dramatiq.encoder.PickleEncoder",
        "dramatiq.middleware.AgeLimit",
        "dramatiq.middleware.AsyncIO",
        "dramatiq.middleware.Callbacks",
        "dramatiq.middleware.CurrentMessage",
        "dramatiq.middleware.Pipelines",
        "dramatiq.middleware.Retries",
        "dramatiq.middleware.ShutdownNotifications",
        "dramatiq.middleware.TimeLimit",
        "dramatiq.rate_limits.backends.stub.StubBackend",
        "dramatiq.results.backends.StubBackend",
    ],
)
def test_settings_name_classes_by_path(path):
    module_name, _, name = path.rpartition(".")

    assert getattr(importlib.import_module(module_name), name)()


# -- dashboards


def test_a_dashboard_enqueues_a_dead_letter_again(stub_broker, running):
    ran = []

    @dramatiq.actor(max_retries=0)
    def work():
        ran.append(1)
        if len(ran) == 1:
            raise ValueError

    with running(stub_broker):
        work.send()
        stub_broker.join("default", timeout=DEADLINE, fail_fast=False)
        [dead] = stub_broker.dead_letters
        stub_broker.flush_all()
        past = current_millis() - 1000
        again = stub_broker.enqueue(
            dead.copy(queue_name="default", options={"eta": past, "retries": 0})
        )
        stub_broker.join("default", timeout=DEADLINE)

    assert again.message_id == dead.message_id
    assert len(ran) == 2


# -- signals of others


def test_an_extension_emits_signals_of_its_own(stub_broker):
    calls = []

    class Extended(Middleware):
        def before_async_thread_boot(self, broker, thread):
            calls.append(("before", thread))

        def after_async_thread_boot(self, broker, thread):
            calls.append(("after", thread))

    stub_broker.add_middleware(Extended())

    stub_broker.emit_before("async_thread_boot", "thread")
    stub_broker.emit_after("async_thread_boot", "thread")

    assert calls == [("before", "thread"), ("after", "thread")]
