from __future__ import annotations

import pytest

import dramatiq
from dramatiq import Message, MessageProxy
from dramatiq.middleware import GroupCallbacks
from dramatiq.rate_limits import Barrier
from dramatiq.rate_limits.backends import StubBackend

VARIABLE = "dramatiq_group_callback_barrier_ttl"


def queued(broker):
    queue = broker.queues["default"]
    return [Message.decode(queue.get(timeout=1)) for _ in range(queue.qsize())]


@pytest.fixture
def backend():
    return StubBackend()


@pytest.fixture
def middleware(stub_broker, backend):
    dramatiq.actor(lambda *args: None, actor_name="work")
    return GroupCallbacks(backend)


def callback(number):
    return Message("default", "work", (number,), {}, {"n": number})


def members(backend, count, *, key="group"):
    Barrier(backend, key).create(count)
    options = {
        "group_completion_uuid": key,
        "group_completion_callbacks": [callback(1).asdict(), callback(2).asdict()],
    }
    return [MessageProxy(Message("default", "work", (), {}, dict(options))) for _ in range(count)]


def test_the_backend_and_the_life_of_barriers_are_kept(backend):
    assert GroupCallbacks(backend).rate_limiter_backend is backend
    assert GroupCallbacks(backend).barrier_ttl == 86_400_000
    assert GroupCallbacks(rate_limiter_backend=backend, barrier_ttl=5).barrier_ttl == 5


def test_the_environment_overrides_the_life_of_barriers(backend, monkeypatch):
    monkeypatch.setenv(VARIABLE, "7")

    with pytest.warns(FutureWarning, match=VARIABLE):
        middleware = GroupCallbacks(backend, barrier_ttl=5)

    assert middleware.barrier_ttl == 7


def test_the_last_member_calls_back(stub_broker, backend, middleware):
    first, second, last = members(backend, 3)

    middleware.after_process_message(stub_broker, first, result=1)
    middleware.after_process_message(stub_broker, second, result=None)
    assert queued(stub_broker) == []

    middleware.after_process_message(stub_broker, last, result=3)
    assert [message.options["n"] for message in queued(stub_broker)] == [1, 2]


def test_a_failure_does_not_count(stub_broker, backend, middleware):
    first, last = members(backend, 2)

    middleware.after_process_message(stub_broker, first, exception=ValueError())
    middleware.after_process_message(stub_broker, last, result=1)
    assert queued(stub_broker) == []

    middleware.after_process_message(stub_broker, first, result=1)
    assert len(queued(stub_broker)) == 2


def test_a_skipped_member_does_not_count(stub_broker, backend, middleware):
    first, last = members(backend, 2)

    middleware.after_skip_message(stub_broker, first)
    middleware.after_process_message(stub_broker, last, result=1)

    assert queued(stub_broker) == []


def test_a_member_that_was_marked_failed_counts(stub_broker, backend, middleware):
    [only] = members(backend, 1)
    only.fail()

    middleware.after_process_message(stub_broker, only, result=1)

    assert len(queued(stub_broker)) == 2


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"group_completion_uuid": "group"},
        {"group_completion_callbacks": [callback(1).asdict()]},
        {"group_completion_uuid": "group", "group_completion_callbacks": []},
        {"group_completion_uuid": None, "group_completion_callbacks": [callback(1).asdict()]},
    ],
)
def test_other_messages_call_nobody(stub_broker, middleware, options):
    proxy = MessageProxy(Message("default", "work", (), {}, options))

    middleware.after_process_message(stub_broker, proxy, result=1)

    assert queued(stub_broker) == []
