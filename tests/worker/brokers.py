"""Brokers with other consumers than the stub broker's own, and a way to make them fail."""

from __future__ import annotations

import threading
from queue import Empty, Queue

from dramatiq.broker import Broker, Consumer, MessageProxy
from dramatiq.brokers.stub import StubBroker
from dramatiq.message import Message


class OwnedStubBroker(StubBroker):
    """A stub broker whose consumers belong to one thread, as those of a real store do."""

    def consume(self, queue_name, prefetch=1, timeout=100):
        consumer = super().consume(queue_name, prefetch=100_000, timeout=timeout)
        consumer.is_owned = True
        return consumer


class LegacyBroker(Broker):
    """What a third party wrote for 2.x: no base class is asked for more than it documents.

    It has no delay queues and hands out messages one at a time. A consumer polls for up to
    ``poll_s`` seconds, whatever it is told.
    """

    def __init__(self, middleware=None, *, poll_s=0.05):
        super().__init__(middleware=middleware)
        self.poll_s = poll_s
        self.acked = []
        self.nacked = []
        self.requeued = []
        self.ack_threads = set()
        self.consumers = []
        self.errors = Queue()

    def declare_queue(self, queue_name):
        if queue_name not in self.queues:
            self.emit_before("declare_queue", queue_name)
            self.queues[queue_name] = Queue()
            self.emit_after("declare_queue", queue_name)

    def enqueue(self, message, *, delay=None):
        self.emit_before("enqueue", message, delay)
        self.queues[message.queue_name].put(message.encode())
        self.emit_after("enqueue", message, delay)
        return message

    def consume(self, queue_name, prefetch=1, timeout=30000):
        consumer = LegacyConsumer(self, self.queues[queue_name])
        self.consumers.append(consumer)
        return consumer


class LegacyConsumer(Consumer):
    def __init__(self, broker, queue):
        self.broker = broker
        self.queue = queue
        self.is_polling = threading.Event()
        self.is_closed = False

    def __next__(self):
        self.is_polling.set()
        try:
            data = self.queue.get(timeout=self.broker.poll_s)
        except Empty:
            return None
        finally:
            self.is_polling.clear()
        return MessageProxy(Message.decode(data))

    def _raise_error(self):
        try:
            error = self.broker.errors.get_nowait()
        except Empty:
            return
        raise error

    def ack(self, message):
        self._raise_error()
        self.broker.ack_threads.add(threading.current_thread())
        self.broker.acked.append(message.message_id)

    def nack(self, message):
        self._raise_error()
        self.broker.nacked.append(message.message_id)

    def requeue(self, messages):
        for message in messages:
            self.broker.requeued.append(message.message_id)

    def close(self):
        self.is_closed = True


def fail_times(monkeypatch, target, name, error, times=1):
    """Make a method raise for the first so many calls; return the list of the calls."""
    original, calls = getattr(target, name), []

    def call(*args, **kwargs):
        calls.append(args)
        if len(calls) <= times:
            raise error
        return original(*args, **kwargs)

    monkeypatch.setattr(target, name, call)
    return calls
