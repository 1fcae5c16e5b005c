from __future__ import annotations

import copy
import pickle

import pytest

from dramatiq import Message, MessageProxy
from dramatiq.brokers.stub import StubBroker


class Custom(MessageProxy):
    pass


@pytest.fixture
def message():
    return Message("default", "add", (1, 2), {"to": 3}, {"a": 1})


@pytest.fixture
def proxy(message):
    return MessageProxy(message)


def test_a_proxy_starts_without_failure(proxy, message):
    assert (proxy.failed, proxy._exception) == (False, None)
    assert proxy._message is message


def test_a_proxy_can_be_marked_failed(proxy):
    proxy.fail()

    assert proxy.failed is True


def test_a_proxy_keeps_an_exception_until_it_is_cleared(proxy):
    error = ValueError()

    proxy.stuff_exception(error)
    assert proxy._exception is error

    proxy.clear_exception()
    assert proxy._exception is None


def test_clearing_twice_is_harmless(proxy):
    proxy.clear_exception()
    proxy.clear_exception()


@pytest.mark.parametrize("name", [*Message._fields, "message_datetime"])
def test_fields_are_read_from_the_message(proxy, message, name):
    assert getattr(proxy, name) == getattr(message, name)


def test_methods_are_those_of_the_message(proxy, message):
    assert proxy.asdict() == message.asdict()
    assert proxy._asdict() == message.asdict()
    assert proxy.encode() == message.encode()
    assert proxy.copy(options={"b": 2}) == message.copy(options={"b": 2})
    assert type(proxy.copy()) is Message


def test_options_are_shared_with_the_message(proxy, message):
    proxy.options["b"] = 2

    assert message.options == {"a": 1, "b": 2}


def test_unknown_attributes_are_attribute_errors(proxy):
    assert getattr(proxy, "_sentry_span_ctx", None) is None
    with pytest.raises(AttributeError, match="unknown"):
        _ = proxy.unknown


def test_anything_may_be_kept_on_the_proxy(proxy, message):
    proxy._span = "span"
    proxy.queue_name = "other"

    assert (proxy._span, proxy.queue_name) == ("span", "other")
    assert message.queue_name == "default"
    assert not hasattr(message, "_span")


def test_a_proxy_in_text(proxy, message):
    assert str(proxy) == str(message) == "add(1, 2, to=3)"
    assert repr(message) in repr(proxy)
    assert repr(proxy).startswith("<MessageProxy ")
    assert repr(Custom(message)).startswith("<Custom ")


def test_proxies_are_equal_when_their_messages_are(proxy, message):
    assert proxy == message
    assert message == proxy
    assert proxy == MessageProxy(message)
    assert proxy == Custom(message)
    assert proxy != MessageProxy(message.copy(args=()))
    assert proxy != 1


def test_a_proxy_has_no_hash(proxy):
    with pytest.raises(TypeError):
        hash(proxy)


def test_comparing_proxies_is_deprecated(proxy, message):
    with pytest.warns(DeprecationWarning, match="no order"):
        assert proxy < MessageProxy(message)


# -- copying


@pytest.mark.parametrize(
    "duplicate",
    [copy.copy, copy.deepcopy, lambda proxy: pickle.loads(pickle.dumps(proxy))],
    ids=["copy", "deepcopy", "pickle"],
)
def test_a_proxy_can_be_duplicated(proxy, duplicate):
    proxy.fail()
    proxy.stuff_exception(ValueError("wrong"))
    proxy._span = "span"

    duplicated = duplicate(proxy)

    assert type(duplicated) is MessageProxy
    assert duplicated == proxy
    assert (duplicated.failed, duplicated._span) == (True, "span")
    assert duplicated._exception.args == ("wrong",)


@pytest.mark.parametrize(
    "duplicate",
    [copy.copy, copy.deepcopy, lambda proxy: pickle.loads(pickle.dumps(proxy))],
    ids=["copy", "deepcopy", "pickle"],
)
def test_a_proxy_that_came_from_a_consumer_can_be_duplicated(duplicate):
    broker = StubBroker()
    broker.declare_queue("default")
    broker.enqueue(Message("default", "add", (1,), {}, {}))
    [proxy] = broker.consume("default").fetch(1, 1000)
    with broker.follow_ups(proxy):
        pass

    duplicated = duplicate(proxy)

    assert duplicated == proxy


# -- subclasses


def test_a_subclass_may_extend_the_constructor(message):
    class Tagged(MessageProxy):
        def __init__(self, message, tag):
            super().__init__(message)
            self.tag = tag

    assert (Tagged(message, 5).tag, Tagged(message, 5).actor_name) == (5, "add")


def test_the_stub_broker_keeps_exceptions_for_tests():
    broker = StubBroker()
    broker.declare_queue("default")
    broker.enqueue(Message("default", "add", (1,), {}, {}))
    proxy = next(broker.consume("default"))
    error = ValueError()

    proxy.stuff_exception(error)
    proxy.clear_exception()

    assert proxy._exception is error
    assert type(proxy).__name__ == "_StubMessageProxy"
