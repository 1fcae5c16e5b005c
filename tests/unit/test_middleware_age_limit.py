from __future__ import annotations

import logging

import pytest

import dramatiq
from dramatiq import Message, MessageProxy
from dramatiq.common import current_millis
from dramatiq.middleware import AgeLimit, SkipMessage

HOUR = 3_600_000


def proxy_aged(age, **options):
    timestamp = current_millis() - age
    return MessageProxy(Message("default", "work", (), {}, options, message_timestamp=timestamp))


def declare(broker, **options):
    return dramatiq.actor(int, actor_name="work", broker=broker, **options)


@pytest.mark.parametrize(
    ("constructor", "actor", "message", "is_skipped"),
    [
        (None, {}, {}, False),
        (1000, {}, {}, True),
        (2 * HOUR, {}, {}, False),
        (None, {"max_age": 1000}, {}, True),
        (1000, {"max_age": 2 * HOUR}, {}, False),
        (1000, {"max_age": None}, {}, False),
        (1000, {"max_age": 0}, {}, False),
        (None, {}, {"max_age": 1000}, True),
        (None, {"max_age": 1000}, {"max_age": 2 * HOUR}, False),
        (None, {"max_age": 1000}, {"max_age": None}, True),
        (None, {"max_age": 1000}, {"max_age": 0}, True),
    ],
)
def test_the_message_decides_then_the_actor_then_the_constructor(
    stub_broker, constructor, actor, message, is_skipped
):
    declare(stub_broker, **actor)
    middleware = AgeLimit(max_age=constructor)
    proxy = proxy_aged(HOUR, **message)

    try:
        middleware.before_process_message(stub_broker, proxy)
    except SkipMessage:
        was_skipped = True
    else:
        was_skipped = False

    assert (was_skipped, proxy.failed) == (is_skipped, is_skipped)


def test_a_message_that_is_too_old_is_failed_and_skipped(stub_broker, caplog):
    declare(stub_broker)
    proxy = proxy_aged(HOUR)

    with pytest.raises(SkipMessage) as caught:
        AgeLimit(max_age=HOUR).before_process_message(stub_broker, proxy)

    assert str(caught.value) == "Message age limit exceeded"
    assert proxy.failed
    [record] = caplog.records
    assert record.levelno == logging.WARNING
    assert proxy.message_id in record.getMessage()


def test_float_timestamps_are_fine(stub_broker):
    declare(stub_broker)
    proxy = MessageProxy(proxy_aged(0).copy(message_timestamp=current_millis() + 0.5))

    AgeLimit(max_age=HOUR).before_process_message(stub_broker, proxy)

    assert not proxy.failed
