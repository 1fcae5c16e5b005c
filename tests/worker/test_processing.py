from __future__ import annotations

import logging

import pytest

from dramatiq.brokers.stub import StubBroker
from dramatiq.delivery import MessageProxy, Outcome
from dramatiq.errors import ActorNotFound, BrokerConnectionError, RateLimitExceeded, Retry
from dramatiq.message import Message
from dramatiq.middleware import Middleware, SkipMessage
from dramatiq.results import Results
from dramatiq.results.backends import StubBackend
from dramatiq.worker import processing


@pytest.fixture
def broker():
    return StubBroker([])


@pytest.fixture
def message():
    return MessageProxy(
        Message(queue_name="default", actor_name="work", args=(), kwargs={}, options={})
    )


@pytest.fixture
def actor(broker, declare):
    return declare(broker, print)


def test_the_actor_is_looked_up_after_the_hooks(broker, message, actor):
    assert processing.before(broker, message) is actor


def test_an_actor_that_is_not_declared_is_an_error(broker, message):
    with pytest.raises(ActorNotFound, match=r"^work$"):
        processing.before(broker, message)


def test_a_message_that_a_hook_marked_failed_is_not_run(broker, message, actor):
    class Fail(Middleware):
        def before_process_message(self, broker, message):
            message.fail()

    broker.add_middleware(Fail())

    assert processing.before(broker, message) is None


def test_hooks_get_one_of_the_two_keywords(broker, message):
    class Record(Middleware):
        calls = []  # noqa: RUF012 (one for the test)

        def after_process_message(self, broker, message, **outcome):
            self.calls.append(outcome)

    broker.add_middleware(Record())
    error = RuntimeError("failed")

    processing.after_success(broker, message, None)
    processing.after_failure(broker, message, error)

    assert Record.calls == [{"result": None}, {"exception": error}]
    assert message._exception is error


@pytest.mark.parametrize(
    ("error", "level", "template"),
    [
        (RateLimitExceeded("slow"), logging.DEBUG, "Rate limit exceeded in message %s: %s."),
        (
            KeyError("x"),
            logging.INFO,
            "Failed to process message %s with expected exception %s.",
        ),
        (
            RuntimeError("failed"),
            logging.ERROR,
            "Failed to process message %s with unhandled exception.",
        ),
        (Retry("again"), None, None),
    ],
)
def test_failures_are_logged_as_what_they_are(
    broker, message, declare, caplog, error, level, template
):
    declare(broker, print, throws=(KeyError,))
    caplog.set_level(logging.DEBUG)

    processing.after_failure(broker, message, error)

    records = [(each.levelno, each.msg) for each in caplog.records]
    assert records == ([] if level is None else [(level, template)])


def test_a_messages_own_list_of_expected_exceptions_wins(broker, message, actor, caplog):
    message.options["throws"] = KeyError
    caplog.set_level(logging.INFO)

    processing.after_failure(broker, message, KeyError("x"))

    assert "expected exception KeyError" in caplog.text


@pytest.mark.parametrize("results_class", [Results, type("Subclass", (Results,), {})])
def test_a_value_nobody_keeps_is_warned_of(broker, message, caplog, results_class):
    processing.after_success(broker, message, 42)
    assert "Consider adding the Results middleware" in caplog.text
    caplog.clear()

    broker.add_middleware(results_class(backend=StubBackend(), store_results=False))
    message.options["store_results"] = True
    processing.after_success(broker, message, 42)

    assert "Consider adding" not in caplog.text


def test_a_value_for_the_next_step_is_not_warned_of(broker, message, caplog):
    message.options["pipe_target"] = {}

    processing.after_success(broker, message, 42)

    assert caplog.text == ""


def test_a_skipped_message_keeps_the_exception_only_if_it_failed(broker, message, caplog):
    processing.after_skip(broker, message, SkipMessage("fine"))
    assert message._exception is None

    message.fail()
    skip = SkipMessage("too old")
    processing.after_skip(broker, message, skip)

    assert message._exception is skip
    assert caplog.records[0].levelno == logging.WARNING


# -- what to settle


def test_a_finished_message_is_acknowledged_and_a_failed_one_rejected(message):
    assert processing.settlement_of(message).outcome is Outcome.ACK

    message.fail()
    message.stuff_exception(RuntimeError("it broke"))
    settlement = processing.settlement_of(message)

    assert settlement.outcome is Outcome.NACK
    assert settlement.reason == "RuntimeError: it broke"
    assert settlement.payload == message.encode()


def test_a_dead_letter_that_cannot_be_encoded_keeps_its_payload(message):
    message.fail()
    message.options["span"] = object()

    settlement = processing.settlement_of(message)

    assert (settlement.reason, settlement.payload) == ("rejected", None)


def test_a_consequence_that_could_not_be_stored_keeps_the_message(broker, message):
    with pytest.raises(BrokerConnectionError), broker.follow_ups(message):
        raise BrokerConnectionError("gone")

    assert processing.settlement_of(message).outcome is Outcome.REQUEUE


@pytest.mark.parametrize("error", [TypeError("no JSON"), ActorNotFound("callback")])
def test_a_consequence_that_can_never_be_stored_makes_a_dead_letter(broker, message, error):
    with pytest.raises(type(error)), broker.follow_ups(message):
        raise error

    settlement = processing.settlement_of(message)

    assert settlement.outcome is Outcome.NACK
    assert message._exception is error


def test_a_consequence_that_a_hook_forbids_does_not_keep_the_message(broker, message):
    with pytest.raises(SkipMessage), broker.follow_ups(message):
        raise SkipMessage

    assert processing.settlement_of(message).outcome is Outcome.ACK
