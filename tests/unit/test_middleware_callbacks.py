from __future__ import annotations

import pytest

import dramatiq
from dramatiq import ActorNotFound, Message, MessageProxy
from dramatiq.middleware import Callbacks


def queued(broker):
    queue = broker.queues["default"]
    return [Message.decode(queue.get(timeout=1)) for _ in range(queue.qsize())]


def proxy_with(**options):
    return MessageProxy(Message("default", "work", (1,), {"a": 2}, options))


@pytest.fixture
def middleware():
    return Callbacks()


@pytest.fixture
def declare(stub_broker):
    for name in ("from_actor", "from_message"):
        dramatiq.actor(lambda data, outcome: None, actor_name=name)

    def declare(**options):
        return dramatiq.actor(lambda *args: None, actor_name="work", **options)

    return declare


def test_a_message_without_callbacks_calls_nobody(stub_broker, declare, middleware):
    declare()

    middleware.after_process_message(stub_broker, proxy_with(), result=1)
    middleware.after_process_message(stub_broker, proxy_with(), exception=ValueError())

    assert queued(stub_broker) == []


def test_success_is_told_with_the_message_and_its_result(stub_broker, declare, middleware):
    declare(on_success="from_actor", on_failure="from_message")
    proxy = proxy_with(extra="x")

    middleware.after_process_message(stub_broker, proxy, result={"n": 1})

    [message] = queued(stub_broker)
    assert message.actor_name == "from_actor"
    assert message.args == (
        {**proxy.asdict(), "args": [1]},
        {"n": 1},
    )


def test_a_result_of_none_is_told_too(stub_broker, declare, middleware):
    declare(on_success="from_actor")

    middleware.after_process_message(stub_broker, proxy_with(), result=None)

    assert queued(stub_broker)[0].args[1] is None


def test_failure_is_told_with_the_message_and_what_was_raised(stub_broker, declare, middleware):
    declare(on_failure="from_actor", on_success="from_message")
    proxy = proxy_with()

    middleware.after_process_message(stub_broker, proxy, exception=KeyError("x"))

    [message] = queued(stub_broker)
    assert message.actor_name == "from_actor"
    assert message.args == (
        {**proxy.asdict(), "args": [1]},
        {"type": "KeyError", "message": "'x'"},
    )


@pytest.mark.parametrize(
    ("option", "outcome"),
    [("on_success", {"result": 1}), ("on_failure", {"exception": ValueError()})],
)
def test_the_message_decides_before_the_actor(stub_broker, declare, middleware, option, outcome):
    declare(**{option: "from_actor"})

    middleware.after_process_message(stub_broker, proxy_with(**{option: "from_message"}), **outcome)
    middleware.after_process_message(stub_broker, proxy_with(**{option: None}), **outcome)

    assert [message.actor_name for message in queued(stub_broker)] == [
        "from_message",
        "from_actor",
    ]


def test_success_is_told_of_a_message_that_was_marked_failed(stub_broker, declare, middleware):
    declare(on_success="from_actor")
    proxy = proxy_with()
    proxy.fail()

    middleware.after_process_message(stub_broker, proxy, result=1)

    assert len(queued(stub_broker)) == 1


def test_an_interrupt_is_a_failure(stub_broker, declare, middleware):
    declare(on_failure="from_actor")

    middleware.after_process_message(
        stub_broker, proxy_with(), exception=dramatiq.middleware.Shutdown()
    )

    assert queued(stub_broker)[0].args[1] == {"type": "Shutdown", "message": ""}


def test_an_actor_object_among_the_options_of_an_actor_works(stub_broker, declare, middleware):
    target = stub_broker.get_actor("from_actor")
    declare(on_success=target)

    middleware.after_process_message(stub_broker, proxy_with(), result=1)

    assert queued(stub_broker)[0].actor_name == "from_actor"


def test_an_unknown_target_is_an_error_of_the_hook(stub_broker, declare, middleware):
    declare(on_success="unknown")

    with pytest.raises(ActorNotFound):
        middleware.after_process_message(stub_broker, proxy_with(), result=1)

    assert queued(stub_broker) == []


def test_the_message_carries_the_options_of_now(stub_broker, declare, middleware):
    declare(on_failure="from_actor")
    proxy = proxy_with()
    proxy.options["retries"] = 1

    middleware.after_process_message(stub_broker, proxy, exception=ValueError())

    assert queued(stub_broker)[0].args[0]["options"] == {"retries": 1}
