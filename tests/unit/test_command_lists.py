"""Commands that look: actors, queues, workers, messages, inspect."""

from __future__ import annotations

import json

import pytest

import dramatiq
from dramatiq.common import current_millis
from dramatiq.inspection import State, WorkerInfo
from dramatiq.results import Results
from dramatiq.results.backends import StubBackend


@pytest.fixture
def store(inspected_broker):
    return inspected_broker.double


@pytest.fixture
def mail(inspected_broker):
    @dramatiq.actor(queue_name="mail", priority=5, max_retries=3)
    def mail(recipient, *, copies=1):
        pass

    return mail


def test_actors_are_listed_with_what_they_take_and_where_they_are(command, mail):
    code, output, _ = command("actors")

    assert code == 0
    header, row = output.splitlines()
    assert header.split()[:2] == ["ACTOR", "QUEUE"]
    assert row.startswith("mail   mail          5  (recipient, *, copies=1)  max_retries=3")
    assert "test_command_lists.py:" in row


def test_actors_are_listed_for_programs(command, mail):
    class Resize(dramatiq.GenericActor):
        def perform(self, picture):
            pass

    code, output, _ = command("actors", "--json")

    assert code == 0
    resize, letter = json.loads(output)
    assert resize["name"] == "Resize"
    assert resize["signature"] == "(picture)"
    assert letter["options"] == {"max_retries": 3}
    assert letter["is_async"] is False


def test_without_actors_the_command_says_to_name_modules(command):
    code, output, errors = command("actors")

    assert (code, output) == (0, "")
    assert "Name the modules that declare them" in errors


def test_queues_are_listed_with_counts_latency_and_whether_they_are_paused(command, store, mail):
    for state in (State.READY, State.READY, State.DELAYED, State.LEASED, State.DEAD):
        store.add(mail.message("ann"), state)
    store.oldest_at = current_millis() - 61_500
    store.pause("mail")

    code, output, _ = command("queues")

    assert code == 0
    header, row = output.splitlines()
    assert header.split() == ["QUEUE", "READY", "DELAYED", "LEASED", "DEAD", "LATENCY", "PAUSED"]
    assert row.split() == ["mail", "2", "1", "1", "1", "1m", "1s", "yes"]


def test_queues_are_listed_for_programs(command, store, mail):
    store.add(mail.message("ann"))

    _, output, _ = command("queues", "--json")

    assert json.loads(output) == [
        {
            "name": "mail",
            "ready": 1,
            "delayed": 0,
            "leased": 0,
            "dead": 0,
            "latency_ms": None,
            "is_paused": False,
        }
    ]


def test_workers_are_listed(command, store):
    store.registered = [
        WorkerInfo("one", "host", 17, started_at=current_millis() - 7_200_000, leased=3),
        WorkerInfo("two", is_alive=False),
    ]

    _, output, _ = command("workers")

    _, one, two = output.splitlines()
    assert one.split() == ["one", "host", "17", "2h", "ago", "-", "yes", "3"]
    assert two.split() == ["two", "-", "-", "-", "-", "no", "0"]


def test_messages_of_a_state_are_listed_over_all_pages_up_to_the_limit(command, store, mail):
    for number in range(7):
        store.add(mail.message(f"p{number}"))
    store.add(mail.message("dead"), State.DEAD)

    _, output, _ = command("messages", "--limit", "5")

    calls = [line.split()[2] for line in output.splitlines()[1:]]
    assert calls == [f"mail('p{number}')" for number in range(5)]


def test_dead_letters_are_listed_with_their_reason(command, store, mail):
    store.add(mail.message("ann"), State.DEAD, died_at=current_millis() - 5000, reason="Boom: no\n")
    store.add(b"\x00rubbish", State.DEAD, queue_name="mail", reason="cannot be decoded")

    _, output, _ = command("messages", "--state", "dead", "--queue", "mail")

    _, first, second = output.splitlines()
    assert "5s ago  Boom: no" in first
    assert "(cannot be decoded)" in second


def test_messages_are_chosen_by_queue_actor_error_and_time(command, store, mail):
    now = current_millis()
    store.add(mail.message("old"), State.DEAD, died_at=now - 7_200_000, reason="Timeout")
    store.add(mail.message("new"), State.DEAD, died_at=now, reason="Timeout")
    store.add(mail.message("other"), State.DEAD, died_at=now, reason="KeyError")
    arguments = ["--state", "dead", "--actor", "mail", "--error", "timeout", "--since", "1h"]

    _, output, _ = command("messages", *arguments, "--json")

    assert [each["message"]["args"] for each in json.loads(output)] == [["new"]]


def test_an_unknown_queue_is_wrong_usage_with_a_suggestion(command, mail):
    code, output, errors = command("messages", "--queue", "mial")

    assert (code, output) == (2, "")
    assert "No queue 'mial' is known (mail). Did you mean 'mail'?" in errors


def test_a_message_is_told_with_its_timeline_arguments_and_traceback(command, store, mail):
    message = mail.message_with_options(
        args=("ann",),
        kwargs={"copies": 2},
        traceback="Traceback:\n  boom\n",
        requeue_timestamp=current_millis(),
        retries=3,
    )
    store.add(message, State.DEAD, died_at=current_millis(), reason="Boom", crashes=2)

    code, output, _ = command("inspect", message.message_id)

    assert code == 0
    lines = output.splitlines()
    labels = [line[:11].strip() for line in lines if line[:11].strip()]
    assert labels == [
        "message",
        "actor",
        "queue",
        "state",
        "sent",
        "failed",
        "died",
        "reason",
        "arguments",
        "options",
        "crashes",
        "traceback",
    ]
    assert "recipient = 'ann'" in output
    assert "copies = 2" in output
    assert "retries=3" in output
    assert lines[-1].endswith("  boom")


def test_a_message_is_told_with_its_result_if_there_is_one(command, store, inspected_broker, mail):
    backend = StubBackend()
    inspected_broker.add_middleware(Results(backend=backend))
    message = mail.message("ann")
    store.add(message, State.LEASED, worker_id="worker-1")
    backend.store_result(message, {"sent": 1}, 10_000)

    _, output, _ = command("inspect", message.message_id)

    assert "held by    worker-1" in output
    assert "result     {'sent': 1}" in output


def test_a_message_that_is_not_stored_is_a_failure(command):
    code, output, errors = command("inspect", "nope")

    assert (code, output) == (1, "")
    assert "no message 'nope' is stored. It may have run to its end" in errors


def test_a_message_that_cannot_be_decoded_is_told_as_it_is_stored(command, store, monkeypatch):
    info = store.add(b"\x00rubbish\xff", State.DEAD, queue_name="mail", reason="what is this")
    monkeypatch.setattr(store, "find", lambda _: [info, info])

    code, output, _ = command("inspect", "some-id")

    assert code == 0
    assert output.count("cannot be decoded; it is stored as key-0") == 2
    assert "payload     rubbish\\xff" in output


def test_messages_and_workers_are_there_for_programs(command, store, mail):
    message = mail.message("ann")
    store.add(message, State.LEASED, worker_id="one")
    store.add(b"rubbish", State.DEAD, queue_name="mail")
    store.registered = [WorkerInfo("one", "host", 17)]

    (told,) = json.loads(command("inspect", message.message_id, "--json")[1])
    (dead,) = json.loads(command("messages", "--state", "dead", "--json")[1])
    (worker,) = json.loads(command("workers", "--json")[1])

    assert told["worker_id"] == "one"
    assert told["message"]["message_id"] == message.message_id
    assert (dead["message"], dead["payload"]) == (None, "rubbish")
    assert (worker["worker_id"], worker["pid"]) == ("one", 17)


def test_messages_that_are_held_are_listed_with_who_holds_them(command, store, mail):
    store.add(mail.message("ann"), State.LEASED, worker_id="worker-1")

    _, output, _ = command("messages", "--state", "leased")

    assert output.splitlines()[1].endswith("mail   mail('ann')  worker-1")
