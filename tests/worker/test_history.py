from __future__ import annotations

import logging
from datetime import timedelta

import pytest

import dramatiq
from dramatiq import group, pipeline
from dramatiq.broker import Broker
from dramatiq.history import AttemptOutcome, History, HistorySelection, HistoryStore
from dramatiq.history.arguments import REDACTED
from dramatiq.middleware import GroupCallbacks, SkipMessage
from dramatiq.rate_limits.backends import StubBackend
from dramatiq.testing.waiting import wait_until


class Recording:
    """A broker with a history, and the means to look at it."""

    def __init__(self, broker, start_worker, **options):
        self.broker = broker
        self.history = History(**options)
        broker.add_middleware(self.history)
        self._start_worker = start_worker

    def actor(self, fn, **options):
        return dramatiq.actor(fn, broker=self.broker, **{"max_retries": 0, **options})

    def run(self, count=1):
        """Run all that was sent; return that many attempts, the oldest first."""
        worker = self._start_worker(self.broker)
        wait_until(lambda: self.history.flush() and len(self._attempts()) >= count)
        worker.stop()
        assert len(self._attempts()) == count
        return self._attempts()

    def _attempts(self):
        return self.broker.history.attempts(limit=1_000).attempts[::-1]


@pytest.fixture
def recording(broker, start_worker):
    return Recording(broker, start_worker)


def plain(work):
    def run(*args, **kwargs):
        return work(*args, **kwargs)

    return run


def coroutine(work):
    async def run(*args, **kwargs):
        return work(*args, **kwargs)

    return run


@pytest.fixture(params=[plain, coroutine])
def kind(request):
    """Turns a function into one of each kind that actors are made of."""
    return request.param


def test_an_attempt_tells_when_and_how_long_and_with_what(recording, kind):
    message = recording.actor(kind(lambda a, b: None), actor_name="add").send(1, b="x")

    [attempt] = recording.run()

    assert (message.message_id, "add", "default") == (
        attempt.message_id,
        attempt.actor_name,
        attempt.queue_name,
    )
    assert (AttemptOutcome.DONE, 1, None) == (attempt.outcome, attempt.number, attempt.exception)
    assert attempt.arguments == '{"args":[1],"kwargs":{"b":"x"}}'
    assert message.message_timestamp == attempt.sent_at
    assert attempt.sent_at <= attempt.started_at <= attempt.ended_at
    assert attempt.duration_ms >= 0
    assert attempt.parent_id is attempt.group_id is None


def test_each_attempt_of_a_retried_message_is_recorded(recording, kind):
    outcomes = iter([ValueError("first"), KeyError("second"), None])

    def work():
        if (error := next(outcomes)) is not None:
            raise error

    message = recording.actor(kind(work), max_retries=5, min_backoff=1).send()
    recording.run(3)

    attempts = recording.broker.history.of_message(message.message_id)

    assert [1, 2, 3] == [each.number for each in attempts]
    assert ["ValueError", "KeyError", None] == [each.exception for each in attempts]
    retried = AttemptOutcome.RETRIED
    assert [retried, retried, AttemptOutcome.DONE] == [each.outcome for each in attempts]
    assert attempts[0].error == "first"
    assert "raise error" in attempts[0].traceback
    assert all(each.parent_id is None for each in attempts)


def test_what_is_given_up_has_failed(recording, kind):
    def work():
        raise ValueError("no")

    recording.actor(kind(work), actor_name="fails").send()
    [attempt] = recording.run()

    assert attempt.outcome is AttemptOutcome.FAILED
    [group] = recording.broker.history.failures()
    assert ("fails", "ValueError", 1) == (group.actor_name, group.exception, group.count)
    assert "no" == group.sample.error


def test_what_is_skipped_is_recorded_as_that(recording, kind):
    def work():
        raise SkipMessage("not today")

    recording.actor(kind(work)).send()
    [attempt] = recording.run()

    assert (AttemptOutcome.SKIPPED, None) == (attempt.outcome, attempt.exception)


def test_a_message_for_an_unknown_actor_is_recorded(recording):
    recording.actor(print)
    message = dramatiq.Message("default", "unknown", (1,), {}, {})
    recording.broker.enqueue(message)

    [attempt] = recording.run()

    assert (AttemptOutcome.FAILED, "ActorNotFound") == (attempt.outcome, attempt.exception)


def test_messages_know_in_whose_processing_they_were_sent(recording, kind):
    child = recording.actor(print, actor_name="child")

    def work():
        child.send("one")
        child.send_with_options(args=("two",), delay=timedelta(milliseconds=1))

    parent = recording.actor(kind(work)).send()
    stranger = child.send("three")
    recording.run(4)

    history = recording.broker.history
    children = history.attempts(HistorySelection(parent_id=parent.message_id)).attempts
    assert len(children) == 2
    assert stranger.message_id not in {each.message_id for each in children}
    assert all(each.actor_name == "child" for each in children)


def test_each_step_of_a_pipeline_is_the_child_of_the_one_before(recording, kind):
    step = recording.actor(kind(lambda number: number + 1), actor_name="step")
    steps = pipeline([step.message(1), step.message(), step.message()], broker=recording.broker)
    first, second, third = steps.run().messages

    recording.run(3)

    history = recording.broker.history
    parents = [history.of_message(each.message_id)[0].parent_id for each in (first, second, third)]
    assert parents == [None, first.message_id, second.message_id]


def test_members_of_a_group_are_found_by_its_id(recording, kind):
    recording.broker.add_middleware(GroupCallbacks(StubBackend()))
    member = recording.actor(kind(lambda: None), actor_name="member")
    done = recording.actor(print, actor_name="done")
    members = group([member.message() for _ in range(3)], broker=recording.broker)
    members.add_completion_callback(done.message())
    members.run()

    attempts = recording.run(4)

    group_ids = {each.group_id for each in attempts if each.actor_name == "member"}
    assert len(group_ids) == 1
    selection = HistorySelection(group_id=group_ids.pop())
    assert len(recording.broker.history.attempts(selection).attempts) == 3
    [last] = [each for each in attempts if each.actor_name == "done"]
    assert last.parent_id in {each.message_id for each in attempts if each.actor_name == "member"}


def test_secrets_are_not_recorded_by_whatever_way_they_come(broker, start_worker):
    recording = Recording(broker, start_worker, redact={"password"})

    def log_in(user, password):
        pass

    actor = recording.actor(log_in)
    actor.send("ann", "s3cret")
    actor.send(user="ann", password="s3cret")

    for attempt in recording.run(2):
        assert "ann" in attempt.arguments
        assert REDACTED in attempt.arguments
        assert "s3cret" not in attempt.arguments


def test_arguments_that_cannot_be_redacted_are_not_recorded(broker, start_worker, caplog):
    def redact(actor_name, args, kwargs):
        raise RuntimeError("cannot")

    recording = Recording(broker, start_worker, redact=redact)
    recording.actor(plain(lambda secret: None)).send("s3cret")

    [attempt] = recording.run()

    assert attempt.arguments == REDACTED
    assert "are not recorded" in caplog.text


def test_limits_reach_the_store(broker, start_worker):
    recording = Recording(broker, start_worker, max_records=3)
    actor = recording.actor(plain(lambda: None))
    for _ in range(6):
        actor.send()
        recording.history.flush()
    worker = start_worker(broker)
    broker.join("default", timeout=10_000)
    worker.stop()
    # What is added prunes; a last one, alone, finds the others.
    actor.send()
    worker = start_worker(broker)
    broker.join("default", timeout=10_000)
    worker.stop()

    assert len(broker.history.attempts().attempts) == 3


@pytest.mark.parametrize("options", [{"ttl": 0}, {"max_records": 0}])
def test_limits_that_keep_nothing_are_refused(options):
    with pytest.raises(ValueError, match="must be positive"):
        History(**options)


def test_a_broker_without_history_says_how_to_get_one(broker):
    with pytest.raises(RuntimeError, match=r"add_middleware\(dramatiq.history.History\(\)\)"):
        _ = broker.history


def test_a_broker_that_has_no_place_for_it_asks_for_a_store(broker, start_worker, caplog):
    caplog.set_level(logging.ERROR)
    broker.make_history_store = lambda: Broker.make_history_store(broker)
    recording = Recording(broker, start_worker)
    recording.actor(plain(lambda: None)).send()

    worker = start_worker(broker)
    broker.join("default", timeout=10_000)
    worker.stop()

    with pytest.raises(RuntimeError, match=r"History\(store="):
        _ = broker.history
    assert caplog.text.count("Nothing is recorded") == 1


def test_a_history_out_of_reach_holds_up_no_message(broker, start_worker, caplog):
    class Unreachable(HistoryStore):
        def add(self, attempts, *, ttl, max_records):
            raise OSError("unplugged")

    recording = Recording(broker, start_worker, store=Unreachable())
    ran = []
    recording.actor(ran.append, actor_name="append").send(1)
    worker = start_worker(broker)
    broker.join("default", timeout=10_000)
    worker.stop()

    assert ran == [1]
    assert "unplugged" in caplog.text
