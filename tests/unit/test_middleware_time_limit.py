from __future__ import annotations

import logging
import math
import threading
import time
import warnings

import pytest

import dramatiq
from dramatiq import Message, MessageProxy
from dramatiq import threading as interrupts
from dramatiq.middleware import TimeLimit, TimeLimitExceeded, time_limit
from dramatiq.threading import _task_target

#: Seconds after which a test gives up.
DEADLINE_S = 5


def declare(broker, **options):
    return dramatiq.actor(int, actor_name="work", broker=broker, **options)


def proxy_with(**options):
    return MessageProxy(Message("default", "work", (), {}, options))


class Target:
    """Stands for what a message runs in."""

    key = "target"
    description = "worker thread 1"

    def __init__(self):
        self.interrupts = []

    def interrupt(self, exception):
        self.interrupts.append(exception)


@pytest.fixture
def target():
    target = Target()
    token = _task_target.set(target)
    yield target
    _task_target.reset(token)


def limit_of(middleware):
    [(deadline, _)] = middleware.manager.deadlines.values()
    return (deadline - time.monotonic()) * 1000


@pytest.mark.parametrize(
    ("constructor", "actor", "message", "limit"),
    [
        ({}, {}, {}, 600_000),
        ({"time_limit": 9000}, {}, {}, 9000),
        ({"time_limit": 9000}, {"time_limit": 8000}, {}, 8000),
        ({"time_limit": 9000}, {"time_limit": 8000}, {"time_limit": 7000}, 7000),
        ({"time_limit": 9000}, {"time_limit": 8000}, {"time_limit": None}, 8000),
        ({"time_limit": 9000}, {"time_limit": 8000}, {"time_limit": 0}, 8000),
    ],
)
def test_the_message_decides_then_the_actor_then_the_constructor(
    stub_broker, constructor, actor, message, limit
):
    declare(stub_broker, **actor)
    middleware = TimeLimit(**constructor)

    middleware.before_process_message(stub_broker, proxy_with(**message))

    assert limit_of(middleware) == pytest.approx(limit, abs=1000)


@pytest.mark.parametrize("limit", [math.inf, None])
def test_limits_can_be_lifted(stub_broker, target, limit):
    declare(stub_broker, time_limit=limit)
    middleware = TimeLimit()

    middleware.before_process_message(stub_broker, proxy_with())
    middleware.manager.interrupt_overdue(time.monotonic() + 1e9)

    assert target.interrupts == []


@pytest.mark.parametrize("hook", ["after_process_message", "after_skip_message"])
def test_the_deadline_ends_with_the_message(stub_broker, hook):
    declare(stub_broker)
    middleware = TimeLimit()
    proxy = proxy_with()

    middleware.before_process_message(stub_broker, proxy)
    getattr(middleware, hook)(stub_broker, proxy)

    assert middleware.manager.deadlines == {}


@pytest.mark.parametrize("hook", ["after_process_message", "after_skip_message"])
def test_a_message_without_deadline_ends_without_trouble(stub_broker, hook):
    getattr(TimeLimit(), hook)(stub_broker, proxy_with())


def test_an_overdue_message_is_interrupted_once(stub_broker, target, caplog):
    declare(stub_broker)
    middleware = TimeLimit(time_limit=1000)
    middleware.before_process_message(stub_broker, proxy_with())

    middleware.manager.interrupt_overdue(time.monotonic())
    assert target.interrupts == []

    middleware.manager.interrupt_overdue(time.monotonic() + 1)
    middleware.manager.interrupt_overdue(time.monotonic() + 2)
    assert target.interrupts == [TimeLimitExceeded]
    assert caplog.record_tuples == [
        (
            "dramatiq.middleware.time_limit.TimeLimit",
            logging.WARNING,
            "Time limit exceeded. Raising exception in worker thread 1.",
        )
    ]


def test_limits_are_enforced_from_process_boot_on(stub_broker):
    declare(stub_broker)
    middleware = TimeLimit(time_limit=10, interval=5)
    stub_broker.middleware = [middleware]
    caught = []

    def work():
        stub_broker.emit_before("process_message", proxy_with())
        deadline = time.monotonic() + DEADLINE_S
        try:
            while time.monotonic() < deadline:
                time.sleep(0.001)
        except TimeLimitExceeded as error:
            caught.append(error)

    stub_broker.emit_after("process_boot")
    thread = threading.Thread(target=work)
    thread.start()
    thread.join(DEADLINE_S * 2)

    assert len(caught) == 1


def test_without_process_boot_nothing_is_enforced(stub_broker):
    before = threading.active_count()

    TimeLimit(interval=1)

    assert threading.active_count() == before


def test_booting_twice_enforces_once(stub_broker):
    before = threading.active_count()
    middleware = TimeLimit()

    middleware.after_process_boot(stub_broker)
    middleware.after_process_boot(stub_broker)

    assert threading.active_count() == before + 1


@pytest.mark.parametrize("module", [interrupts, time_limit])
def test_an_unsupported_platform_is_warned_of(stub_broker, monkeypatch, module):
    monkeypatch.setattr(module, "current_platform", "not supported")
    before = threading.active_count()

    with pytest.warns(RuntimeWarning) as caught:
        TimeLimit().after_process_boot(stub_broker)

    assert [str(warning.message) for warning in caught] == [
        "TimeLimit cannot kill threads on your current platform ('not supported')."
    ]
    assert threading.active_count() == before


def test_a_supported_platform_is_not_warned_of(stub_broker):
    with warnings.catch_warnings():
        warnings.simplefilter("error")

        TimeLimit().after_process_boot(stub_broker)


class Record:
    """Stands for the place where a thread writes down what it runs."""

    moment = None

    def kill_at(self, moment):
        self.moment = moment


@pytest.mark.parametrize(
    ("constructor", "options", "allowed_ms"),
    [
        ({}, {}, 630_000),
        ({"time_limit": 1000, "grace": 500}, {}, 1500),
        ({"grace": 500}, {"time_limit": 2000}, 2500),
        ({"time_limit": math.inf}, {}, math.inf),
    ],
)
def test_the_process_is_to_be_killed_after_limit_and_grace(
    stub_broker, target, constructor, options, allowed_ms
):
    declare(stub_broker)
    message = proxy_with(**options)
    message._record = Record()

    TimeLimit(**constructor).before_process_message(stub_broker, message)

    remaining_ms = (message._record.moment - time.monotonic()) * 1000
    assert remaining_ms == pytest.approx(allowed_ms, abs=1000)


@pytest.mark.parametrize("constructor", [{"grace": None}, {"time_limit": None}])
def test_without_grace_or_limit_no_process_is_to_be_killed(stub_broker, target, constructor):
    declare(stub_broker)
    message = proxy_with()
    message._record = Record()

    TimeLimit(**constructor).before_process_message(stub_broker, message)

    assert message._record.moment is None


def test_messages_of_other_tools_need_no_record(stub_broker, target):
    declare(stub_broker)

    TimeLimit().before_process_message(stub_broker, Message("default", "work", (), {}, {}))
