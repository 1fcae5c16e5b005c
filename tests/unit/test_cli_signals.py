from __future__ import annotations

import os
import select
import signal

from dramatiq.cli.signals import (
    ECHO_WINDOW_S,
    HANDLED_SIGNALS,
    SignalInbox,
    StopRequests,
    signals_blocked,
    try_block_signals,
    try_unblock_signals,
)


def blocked():
    return signal.pthread_sigmask(signal.SIG_BLOCK, [])


def test_a_request_within_the_window_is_an_echo():
    requests = StopRequests()

    assert not requests.is_repeated(100.0)
    assert not requests.is_repeated(100.0 + ECHO_WINDOW_S / 2)
    assert requests.is_repeated(100.0 + ECHO_WINDOW_S * 1.01)


def test_handled_signals_can_be_held_back_and_let_through():
    try_block_signals()
    held_back = blocked()
    try_unblock_signals()

    assert held_back >= HANDLED_SIGNALS
    assert not blocked() & HANDLED_SIGNALS


def test_signals_are_let_through_again_after_an_error():
    try:
        with signals_blocked():
            raise ZeroDivisionError
    except ZeroDivisionError:
        pass

    assert not blocked() & HANDLED_SIGNALS


def test_signals_arrive_as_numbers_that_can_be_waited_for():
    seen = []

    with SignalInbox([signal.SIGHUP, signal.SIGTERM], seen.append) as inbox:
        os.kill(os.getpid(), signal.SIGHUP)
        os.kill(os.getpid(), signal.SIGTERM)
        ready, _, _ = select.select([inbox.reader], [], [], 5)
        numbers = inbox.read()

    assert ready == [inbox.reader]
    assert sorted(numbers) == sorted(seen) == [signal.SIGHUP, signal.SIGTERM]


def test_an_empty_inbox_does_not_block():
    with SignalInbox([signal.SIGHUP]) as inbox:
        assert inbox.read() == []


def test_the_previous_handlers_come_back():
    before = signal.getsignal(signal.SIGHUP)

    with SignalInbox([signal.SIGHUP]):
        during = signal.getsignal(signal.SIGHUP)

    assert during != before
    assert signal.getsignal(signal.SIGHUP) == before
