from __future__ import annotations

import pytest

import dramatiq
from dramatiq import Message, MessageProxy
from dramatiq.middleware import Pipelines


def queued(broker, queue_name="default"):
    queue = broker.queues[queue_name]
    return [Message.decode(queue.get(timeout=1)) for _ in range(queue.qsize())]


def step(**options):
    return Message("default", "next", (1,), {"a": 2}, options)


def proxy_before(target, **options):
    return MessageProxy(
        Message("default", "work", (), {}, {"pipe_target": target.asdict(), **options})
    )


@pytest.fixture
def middleware(stub_broker):
    dramatiq.actor(lambda *args, **kwargs: None, actor_name="work")
    return Pipelines()


def test_the_next_step_gets_the_result_as_its_last_argument(stub_broker, middleware):
    target = step()

    middleware.after_process_message(stub_broker, proxy_before(target), result={"n": 1})

    assert queued(stub_broker) == [target.copy(args=(1, {"n": 1}))]


def test_a_result_of_none_is_an_argument_too(stub_broker, middleware):
    middleware.after_process_message(stub_broker, proxy_before(step()), result=None)

    assert queued(stub_broker)[0].args == (1, None)


def test_a_target_that_came_from_json_works(stub_broker, middleware):
    proxy = MessageProxy(Message.decode(proxy_before(step()).encode()))

    middleware.after_process_message(stub_broker, proxy, result=2)

    assert queued(stub_broker)[0].args == (1, 2)


@pytest.mark.parametrize(
    ("options", "is_ignored"),
    [({"pipe_ignore": True}, True), ({"pipe_ignore": False}, False), ({}, False)],
)
def test_the_next_step_may_ignore_the_result(stub_broker, middleware, options, is_ignored):
    middleware.after_process_message(stub_broker, proxy_before(step(**options)), result=2)

    assert queued(stub_broker)[0].args == ((1,) if is_ignored else (1, 2))


def test_the_current_actor_may_keep_its_result(stub_broker, middleware):
    dramatiq.actor(max, actor_name="quiet", pipe_ignore=True)
    proxy = MessageProxy(proxy_before(step()).copy(actor_name="quiet"))

    middleware.after_process_message(stub_broker, proxy, result=2)

    assert queued(stub_broker)[0].args == (1,)


def test_the_current_message_cannot_keep_its_result(stub_broker, middleware):
    middleware.after_process_message(stub_broker, proxy_before(step(), pipe_ignore=True), result=2)

    assert queued(stub_broker)[0].args == (1, 2)


def test_the_next_step_is_delayed_by_its_own_option(stub_broker, middleware):
    middleware.after_process_message(stub_broker, proxy_before(step(delay=60_000)), result=2)

    [message] = queued(stub_broker, "default.DQ")
    assert "eta" in message.options
    assert queued(stub_broker) == []


def test_a_failure_ends_the_pipeline(stub_broker, middleware):
    middleware.after_process_message(stub_broker, proxy_before(step()), exception=ValueError())

    assert queued(stub_broker) == []


def test_a_message_that_was_marked_failed_ends_the_pipeline(stub_broker, middleware):
    proxy = proxy_before(step())
    proxy.fail()

    middleware.after_process_message(stub_broker, proxy, result=1)

    assert queued(stub_broker) == []


@pytest.mark.parametrize("options", [{}, {"pipe_target": None}])
def test_a_message_without_target_starts_nothing(stub_broker, middleware, options):
    proxy = MessageProxy(Message("default", "work", (), {}, options))

    middleware.after_process_message(stub_broker, proxy, result=1)

    assert queued(stub_broker) == []


def test_the_option_of_an_actor_is_accepted_and_not_used(stub_broker, middleware):
    dramatiq.actor(max, actor_name="other", pipe_target=step().asdict())
    proxy = MessageProxy(Message("default", "other", (), {}, {}))

    middleware.after_process_message(stub_broker, proxy, result=1)

    assert queued(stub_broker) == []


def test_the_message_itself_is_not_changed(stub_broker, middleware):
    target = step()
    proxy = proxy_before(target)

    middleware.after_process_message(stub_broker, proxy, result=2)

    assert proxy.options["pipe_target"]["args"] == (1,)
