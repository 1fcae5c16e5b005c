from __future__ import annotations

import pytest

import dramatiq
from dramatiq import errors
from dramatiq.middleware import (
    Interrupt,
    MiddlewareError,
    Shutdown,
    SkipMessage,
    TimeLimitExceeded,
)
from dramatiq.results import ResultError, ResultFailure, ResultMissing, ResultTimeout

PARENTS = {
    Interrupt: BaseException,
    Shutdown: Interrupt,
    TimeLimitExceeded: Interrupt,
    MiddlewareError: Exception,
    SkipMessage: MiddlewareError,
    errors.DramatiqError: Exception,
    errors.DecodeError: errors.DramatiqError,
    errors.QueueJoinTimeout: errors.DramatiqError,
    errors.RateLimitExceeded: errors.DramatiqError,
    errors.Retry: errors.DramatiqError,
    errors.BrokerError: errors.DramatiqError,
    errors.ActorNotFound: errors.BrokerError,
    errors.QueueNotFound: errors.BrokerError,
    errors.BrokerConnectionError: errors.BrokerError,
    errors.ConnectionFailed: errors.BrokerConnectionError,
    errors.ConnectionClosed: errors.BrokerConnectionError,
    ResultError: errors.DramatiqError,
    ResultTimeout: ResultError,
    ResultMissing: ResultError,
    ResultFailure: ResultError,
}

PLAIN = [
    errors.DramatiqError,
    errors.BrokerError,
    errors.ActorNotFound,
    errors.QueueNotFound,
    errors.QueueJoinTimeout,
    errors.BrokerConnectionError,
    errors.ConnectionFailed,
    errors.ConnectionClosed,
    errors.RateLimitExceeded,
    ResultError,
    ResultTimeout,
    ResultMissing,
]


@pytest.mark.parametrize("error_class", PARENTS, ids=lambda each: each.__name__)
def test_each_error_has_one_parent(error_class):
    assert (PARENTS[error_class],) == error_class.__bases__


@pytest.mark.parametrize("error_class", PLAIN)
def test_the_message_is_required_and_kept_as_it_is(error_class):
    about = object()

    error = error_class(about)

    assert error.message is about
    assert (about,) == error.args
    assert str(about) == str(error)
    with pytest.raises(TypeError):
        error_class()


@pytest.mark.parametrize(("message", "text"), [("text", "text"), ("", "''"), (0, "0"), ([], "[]")])
def test_the_text_is_that_of_the_message_and_never_empty(message, text):
    assert text == str(errors.DramatiqError(message))


def test_a_decode_error_keeps_what_could_not_be_decoded():
    cause = ValueError()

    error = errors.DecodeError("failed", b"data", cause)

    assert ("failed", b"data", cause) == (error.message, error.data, error.error)
    assert str(error) == "failed"


def test_a_retry_needs_no_message():
    retry = errors.Retry()

    assert ("", None, (), "''") == (retry.message, retry.delay, retry.args, str(retry))


def test_a_retry_keeps_its_delay():
    retry = errors.Retry(delay=3)

    assert (3, ()) == (retry.delay, retry.args)
    assert errors.Retry("again", 4).delay == 4


def test_a_result_failure_keeps_what_the_actor_raised():
    failure = ResultFailure("text", orig_exc_type="ValueError", orig_exc_msg="wrong")

    assert ("text", "ValueError", "wrong") == (
        failure.message,
        failure.orig_exc_type,
        failure.orig_exc_msg,
    )
    assert ("", "", "") == (
        ResultFailure().message,
        ResultFailure().orig_exc_type,
        ResultFailure().orig_exc_msg,
    )


def test_a_missing_result_reads_like_the_call():
    message = dramatiq.Message("q", "add", (1,), {"to": 2}, {})

    assert str(ResultMissing(message)) == "add(1, to=2)"
    assert str(ResultTimeout(message)) == "add(1, to=2)"


@pytest.mark.parametrize("error_class", [MiddlewareError, SkipMessage, Interrupt, Shutdown])
def test_errors_of_hooks_and_interrupts_take_any_arguments(error_class):
    assert () == error_class().args
    assert (1, "two") == error_class(1, "two").args


def test_a_broad_except_does_not_catch_an_interrupt():
    def actor():
        try:
            raise Shutdown
        except Exception:
            pytest.fail("caught")

    with pytest.raises(Shutdown):
        actor()
