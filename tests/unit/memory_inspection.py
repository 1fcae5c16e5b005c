"""The inspection contract over lists in memory: what commands are tested with."""

from __future__ import annotations

import dataclasses

from dramatiq.brokers.stub import StubBroker
from dramatiq.common import q_name
from dramatiq.inspection import (
    Inspection,
    MessageInfo,
    Page,
    QueueCounts,
    QueueInfo,
    State,
)


class InspectedBroker(StubBroker):
    """A broker whose inspection is the double; what is sent to it is not in there."""

    def __init__(self):
        super().__init__()
        self.double = MemoryInspection(self)

    @property
    def inspection(self):
        return self.double


class MemoryInspection(Inspection):
    def __init__(self, broker):
        super().__init__(broker)
        self.stored = []
        self.paused = set()
        self.registered = []
        self.findings = []
        self.oldest_at = None
        #: Raised by everything that is asked.
        self.error = None
        self.steps = []

    def add(self, message, state=State.READY, *, queue_name=None, **fields):
        """Store a message; tests alone call this."""
        payload = message if isinstance(message, bytes) else message.encode()
        name = queue_name or message.queue_name
        info = MessageInfo(f"key-{len(self.stored)}", name, state, payload, **fields)
        self.stored.append(info)
        return info

    def queues(self):
        self._check()
        names = {each.queue_name for each in self.stored} | self.paused
        names |= {q_name(name) for name in self.broker.queues}
        return [self.queue(name) for name in sorted(names)]

    def queue(self, queue_name):
        self._check()
        states = [each.state for each in self.stored if each.queue_name == queue_name]
        counts = QueueCounts(*(states.count(state) for state in State))
        return QueueInfo(queue_name, counts, queue_name in self.paused, self.oldest_at)

    def messages(self, state, selection=None, *, limit=100, cursor=None, look_at=None):
        self._check()
        found = [
            each
            for each in self.stored
            if each.state is state and (selection is None or matches(each, selection))
        ]
        if state is State.DEAD:
            found.sort(key=lambda each: -(each.died_at or 0))
        start = int(cursor or 0)
        end = start + min(limit, 2)  # small pages, so that their edges are met
        return Page(found[start:end], str(end) if end < len(found) else None)

    def find(self, message_id):
        self._check()
        return [each for each in self.stored if id_of(each) == message_id]

    def count_dead(self, selection, *, limit=None):
        self._check()
        return len(self._dead(selection))

    def workers(self):
        self._check()
        return self.registered

    def pause(self, queue_name):
        self.paused.add(queue_name)

    def resume(self, queue_name):
        self.paused.discard(queue_name)

    def requeue(self, selection, *, limit=None, on_progress=None):
        chosen = [each for each in self._dead(selection) if each.message][:limit]
        for each in chosen:
            self.stored[self.stored.index(each)] = dataclasses.replace(each, state=State.READY)
        return self._done(chosen, on_progress)

    def delete_dead(self, selection, *, limit=None, on_progress=None):
        chosen = self._dead(selection)[:limit]
        for each in chosen:
            self.stored.remove(each)
        return self._done(chosen, on_progress)

    def purge(self, queue_name, states):
        if State.LEASED in states:
            raise ValueError("leased")
        chosen = [
            each for each in self.stored if each.queue_name == queue_name and each.state in states
        ]
        for each in chosen:
            self.stored.remove(each)
        return len(chosen)

    def diagnose(self):
        self._check()
        return self.findings

    def in_state(self, state):
        """Return the ids of the messages in a state; tests alone call this."""
        return [id_of(each) for each in self.stored if each.state is state]

    def _dead(self, selection):
        return [
            each for each in self.stored if each.state is State.DEAD and matches(each, selection)
        ]

    def _done(self, chosen, on_progress):
        self.steps.append(len(chosen))
        if on_progress is not None:
            on_progress(len(chosen))
        return len(chosen)

    def _check(self):
        if self.error is not None:
            raise self.error


def id_of(info):
    return info.message.message_id if info.message else None


def matches(info, selection):
    message = info.message
    died_at = info.died_at or 0
    wishes = [
        (selection.queue_name, lambda: info.queue_name == selection.queue_name),
        (selection.actor_name, lambda: message and message.actor_name == selection.actor_name),
        (selection.message_id, lambda: id_of(info) == selection.message_id),
        (selection.error, lambda: selection.error.lower() in (info.reason or "").lower()),
        (selection.since, lambda: died_at >= selection.since),
        (selection.until, lambda: died_at <= selection.until),
        (selection.keys, lambda: info.key in selection.keys),
    ]
    return all(is_met() for wish, is_met in wishes if wish is not None)
