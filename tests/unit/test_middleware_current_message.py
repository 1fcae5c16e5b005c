from __future__ import annotations

import contextvars
import threading

import pytest

from dramatiq import Message, MessageProxy
from dramatiq.middleware import CurrentMessage


@pytest.fixture
def proxy():
    return MessageProxy(Message("default", "work", (), {}, {}))


def test_outside_of_actors_there_is_none():
    assert CurrentMessage.get_current_message() is None


@pytest.mark.parametrize("hook", ["after_process_message", "after_skip_message"])
def test_the_current_message_is_the_proxy_until_the_end(stub_broker, proxy, hook):
    middleware = CurrentMessage()

    middleware.before_process_message(stub_broker, proxy)
    assert CurrentMessage.get_current_message() is proxy

    getattr(middleware, hook)(stub_broker, proxy)
    assert CurrentMessage.get_current_message() is None


def test_a_failure_is_an_end_too(stub_broker, proxy):
    middleware = CurrentMessage()

    middleware.before_process_message(stub_broker, proxy)
    middleware.after_process_message(stub_broker, proxy, exception=ValueError())

    assert CurrentMessage.get_current_message() is None


def test_instances_share_the_current_message(stub_broker, proxy):
    CurrentMessage().before_process_message(stub_broker, proxy)

    assert CurrentMessage().get_current_message() is proxy

    CurrentMessage().after_process_message(stub_broker, proxy)


def test_other_threads_do_not_see_it(stub_broker, proxy):
    seen = []
    middleware = CurrentMessage()
    middleware.before_process_message(stub_broker, proxy)

    thread = threading.Thread(target=lambda: seen.append(CurrentMessage.get_current_message()))
    thread.start()
    thread.join(5)

    assert seen == [None]
    middleware.after_process_message(stub_broker, proxy)


def test_a_copied_context_sees_it(stub_broker, proxy):
    middleware = CurrentMessage()
    middleware.before_process_message(stub_broker, proxy)
    context = contextvars.copy_context()
    middleware.after_process_message(stub_broker, proxy)

    assert context.run(CurrentMessage.get_current_message) is proxy
