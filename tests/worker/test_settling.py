from __future__ import annotations

import random
import threading
import time

import pytest

from dramatiq.brokers.stub import StubBroker
from dramatiq.delivery import Envelope, MessageProxy, Outcome, Settlement
from dramatiq.message import Message
from dramatiq.middleware import Middleware, MiddlewareError
from dramatiq.testing.broker_suite import Recorder
from dramatiq.threading import Interrupt, raise_thread_exception
from dramatiq.worker.settling import (
    Confirmation,
    Inbox,
    announce,
    conclude,
    wants_confirmation,
)


def make_settlement(outcome=Outcome.ACK):
    message = Message(queue_name="default", actor_name="work", args=(), kwargs={}, options={})
    return Settlement(MessageProxy(message), outcome)


class Owner:
    """Waits as a consumer thread does: flag, last look, wait; woken through one event."""

    def __init__(self):
        self.woken = threading.Event()
        self.inbox = Inbox(self.woken.set)
        self.missed_wake_ups = 0

    def collect(self, count, *, timeout_s=5.0):
        collected = []
        while len(collected) < count:
            collected += self.inbox.drain()
            if len(collected) >= count:
                break
            if self.inbox.about_to_wait() and not self.woken.wait(timeout_s):
                self.missed_wake_ups += 1
            self.woken.clear()
            self.inbox.done_waiting()
        return collected


def test_the_inbox_gives_everything_in_order():
    inbox = Inbox(lambda: None)
    settlements = [make_settlement() for _ in range(10)]
    for settlement in settlements:
        inbox.put(settlement)

    assert len(inbox) == 10
    assert inbox.drain() == settlements
    assert len(inbox) == 0
    assert inbox.drain() == []


def test_the_owner_is_woken_only_while_it_waits():
    woken = []
    inbox = Inbox(lambda: woken.append(True))

    inbox.put(make_settlement())
    assert woken == []
    assert not inbox.about_to_wait()
    inbox.drain()
    assert inbox.about_to_wait()
    inbox.put(make_settlement())
    assert woken == [True]
    inbox.done_waiting()
    inbox.put(make_settlement())

    assert woken == [True]


@pytest.mark.parametrize("putters", [1, 4])
def test_no_wake_up_is_lost_in_many_rounds(putters):
    """Settlements arrive at every moment around the owner's decision to wait."""
    owner, rounds = Owner(), 400
    settlements = [make_settlement() for _ in range(rounds * putters)]
    start = threading.Barrier(putters + 1)

    def put(index):
        chooser = random.Random(index)
        start.wait(10)
        for number in range(rounds):
            for _ in range(chooser.randrange(200)):
                pass
            if number % 10 == 0:
                time.sleep(0)
            owner.inbox.put(settlements[index * rounds + number])

    threads = [threading.Thread(target=put, args=(index,)) for index in range(putters)]
    for thread in threads:
        thread.start()
    start.wait(10)

    collected = owner.collect(len(settlements))

    for thread in threads:
        thread.join(5)
    assert owner.missed_wake_ups == 0
    assert len(collected) == len(settlements)
    assert set(map(id, collected)) == set(map(id, settlements))


def test_a_confirmation_is_what_the_consumer_said():
    settlement = make_settlement()
    confirmation = Confirmation(settlement)
    threading.Timer(0.05, settlement.on_settled, (True,)).start()

    assert confirmation.wait(lambda: True)
    assert confirmation.settled


def test_waiting_for_a_confirmation_ends_when_it_cannot_come_any_more():
    confirmation = Confirmation(make_settlement())

    assert not confirmation.wait(lambda: False)
    assert not confirmation.settled


def test_an_interrupt_does_not_end_waiting_for_a_confirmation():
    settlement = make_settlement()
    confirmation = Confirmation(settlement)
    answers = []
    waiting = threading.Thread(target=lambda: answers.append(confirmation.wait(lambda: True)))
    waiting.start()
    raise_thread_exception(waiting.ident, Interrupt)
    waiting.join(1.5)
    assert waiting.is_alive()

    settlement.on_settled(True)

    waiting.join(5)
    assert answers == [True]


@pytest.mark.parametrize(
    ("outcome", "hooks"),
    [
        (Outcome.ACK, ["before_ack", "after_ack"]),
        (Outcome.NACK, ["before_nack", "after_nack"]),
        (Outcome.REQUEUE, []),
    ],
)
def test_hooks_run_around_settling(outcome, hooks):
    recorder = Recorder()
    broker, settlement = StubBroker([recorder]), make_settlement(outcome)

    assert announce(broker, settlement)
    assert wants_confirmation(broker, settlement) == bool(hooks)
    conclude(broker, settlement, settled=True)

    assert recorder.hooks == hooks


def test_no_hook_runs_after_a_message_that_was_not_ours_any_more():
    recorder = Recorder()

    conclude(StubBroker([recorder]), make_settlement(), settled=False)

    assert recorder.hooks == []


def test_what_was_stored_with_a_settlement_is_announced_before_it():
    recorder = Recorder()
    broker, settlement = StubBroker([recorder]), make_settlement()
    envelope = Envelope(settlement.message._message, b"", delivery_id=b"", delay=5)
    broker.follow_ups(settlement.message).envelopes.append(envelope)

    conclude(broker, settlement, settled=True)

    assert recorder.hooks == ["after_enqueue(delay)", "after_ack"]
    assert settlement.envelopes == []


def test_nobody_waits_for_a_word_that_no_hook_wants():
    assert not wants_confirmation(StubBroker(), make_settlement())


@pytest.mark.parametrize("error", [MiddlewareError("no")])
def test_a_hook_may_keep_a_message_from_settling(error, caplog):
    class Veto(Middleware):
        def before_ack(self, broker, message):
            raise error

    assert not announce(StubBroker([Veto()]), make_settlement())
    assert "kept" in caplog.text
