from __future__ import annotations

import logging
import threading
import time
import warnings

import pytest

import dramatiq
from dramatiq import Message, MessageProxy
from dramatiq import threading as interrupts
from dramatiq.middleware import Shutdown, ShutdownNotifications, shutdown
from dramatiq.threading import _task_target

#: Seconds after which a test gives up.
DEADLINE_S = 5


def declare(broker, **options):
    return dramatiq.actor(int, actor_name="work", broker=broker, **options)


def proxy_with(**options):
    return MessageProxy(Message("default", "work", (), {}, options))


class Target:
    """Stands for what a message runs in."""

    def __init__(self, number):
        self.key = number
        self.description = f"worker thread {number}"
        self.interrupts = []

    def interrupt(self, exception):
        self.interrupts.append(exception)


@pytest.fixture
def target():
    target = Target(1)
    token = _task_target.set(target)
    yield target
    _task_target.reset(token)


@pytest.mark.parametrize(
    ("constructor", "actor", "message", "is_notified"),
    [
        (False, {}, {}, False),
        (True, {}, {}, True),
        (True, {"notify_shutdown": False}, {}, False),
        (False, {"notify_shutdown": True}, {}, True),
        (True, {"notify_shutdown": None}, {}, True),
        (False, {"notify_shutdown": True}, {"notify_shutdown": False}, False),
        (False, {"notify_shutdown": False}, {"notify_shutdown": True}, True),
        (False, {"notify_shutdown": True}, {"notify_shutdown": None}, True),
        (False, {"notify_shutdown": 1}, {}, True),
        (True, {}, {"notify_shutdown": 0}, False),
    ],
)
def test_the_message_decides_then_the_actor_then_the_constructor(
    stub_broker, constructor, actor, message, is_notified
):
    work = declare(stub_broker, **actor)
    middleware = ShutdownNotifications(constructor)

    assert middleware.should_notify(work, proxy_with(**message)) is is_notified
    assert middleware.should_notify(work, proxy_with(**message)._message) is is_notified


def test_by_default_nobody_is_notified(stub_broker, target):
    declare(stub_broker)
    middleware = ShutdownNotifications()

    middleware.before_process_message(stub_broker, proxy_with())
    middleware.before_worker_shutdown(stub_broker, None)

    assert target.interrupts == []


def test_a_running_message_that_asked_for_it_is_interrupted(stub_broker, target, caplog):
    caplog.set_level(logging.DEBUG)
    declare(stub_broker, notify_shutdown=True)
    middleware = ShutdownNotifications()

    middleware.before_process_message(stub_broker, proxy_with())
    middleware.before_worker_shutdown(stub_broker, None)

    assert target.interrupts == [Shutdown]
    name = "dramatiq.middleware.shutdown.ShutdownNotifications"
    assert caplog.record_tuples == [
        (name, logging.DEBUG, "Sending shutdown notification to worker threads..."),
        (
            name,
            logging.INFO,
            "Worker shutdown notification. Raising exception in worker thread 1.",
        ),
    ]


@pytest.mark.parametrize("hook", ["after_process_message", "after_skip_message"])
def test_a_message_that_has_ended_is_not_interrupted(stub_broker, target, hook):
    declare(stub_broker, notify_shutdown=True)
    middleware = ShutdownNotifications()
    proxy = proxy_with()

    middleware.before_process_message(stub_broker, proxy)
    getattr(middleware, hook)(stub_broker, proxy)
    middleware.before_worker_shutdown(stub_broker, None)

    assert target.interrupts == []


@pytest.mark.parametrize("hook", ["after_process_message", "after_skip_message"])
def test_a_message_that_never_started_ends_without_trouble(stub_broker, hook):
    getattr(ShutdownNotifications(), hook)(stub_broker, proxy_with())


def test_the_thread_itself_is_interrupted(stub_broker):
    declare(stub_broker, notify_shutdown=True)
    middleware = ShutdownNotifications()
    started, caught = threading.Event(), []

    def work():
        middleware.before_process_message(stub_broker, proxy_with())
        started.set()
        deadline = time.monotonic() + DEADLINE_S
        try:
            while time.monotonic() < deadline:
                time.sleep(0.001)
        except Shutdown as error:
            caught.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    assert started.wait(DEADLINE_S)
    middleware.before_worker_shutdown(stub_broker, None)
    thread.join(DEADLINE_S * 2)

    assert len(caught) == 1


@pytest.mark.parametrize("module", [interrupts, shutdown])
def test_an_unsupported_platform_is_warned_of(stub_broker, monkeypatch, module):
    monkeypatch.setattr(module, "current_platform", "not supported")

    with pytest.warns(RuntimeWarning) as caught:
        ShutdownNotifications().after_process_boot(stub_broker)

    assert [str(warning.message) for warning in caught] == [
        "ShutdownNotifications cannot kill threads on your current platform ('not supported')."
    ]


def test_a_supported_platform_is_not_warned_of(stub_broker):
    with warnings.catch_warnings():
        warnings.simplefilter("error")

        ShutdownNotifications().after_process_boot(stub_broker)
