"""Commands that act: requeue, delete, purge, pause, resume."""

from __future__ import annotations

import io
import sys

import pytest

import dramatiq
from dramatiq.cli.commands.dead_letters import move
from dramatiq.cli.commands.progress import Throttle
from dramatiq.common import current_millis
from dramatiq.inspection import Selection, State

#: A moment long after the tests.
NEVER = 10**15


class Keyboard(io.StringIO):
    def isatty(self):
        return True


@pytest.fixture(autouse=True)
def nobody_to_ask(monkeypatch):
    monkeypatch.setattr(sys, "stdin", io.StringIO())


@pytest.fixture
def store(inspected_broker):
    return inspected_broker.double


@pytest.fixture
def letters(store):
    """Three dead letters of two actors in two queues; their ids by what they are called."""

    @dramatiq.actor(queue_name="mail")
    def mail(name):
        pass

    @dramatiq.actor(queue_name="pictures")
    def resize(name):
        pass

    now = current_millis()
    messages = {"old": mail.message("old"), "new": mail.message("new"), "other": resize.message(1)}
    store.add(messages["old"], State.DEAD, died_at=now - 7_200_000, reason="Timeout: 30 s")
    store.add(messages["new"], State.DEAD, died_at=now, reason="KeyError: 'x'")
    store.add(messages["other"], State.DEAD, died_at=now, reason="Timeout: 5 s")
    return {name: message.message_id for name, message in messages.items()}


def test_dead_letters_go_back_to_their_queues(command, store, letters):
    code, output, errors = command("requeue", "--yes")

    assert (code, output) == (0, "3 requeued\n")
    assert "Requeue 3 dead letters." in errors
    assert len(store.in_state(State.READY)) == 3


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--queue", "mail"], {"old", "new"}),
        (["--actor", "resize"], {"other"}),
        (["--error", "timeout"], {"old", "other"}),
        (["--since", "1h"], {"new", "other"}),
        (["--until", "1h"], {"old"}),
        (["--queue", "mail", "--error", "KeyError"], {"new"}),
        (["--limit", "2"], {"old", "new"}),
    ],
)
def test_only_those_that_were_chosen_are_requeued(command, store, letters, arguments, expected):
    command("requeue", "--yes", *arguments)

    assert set(store.in_state(State.READY)) == {letters[name] for name in expected}


def test_one_message_is_requeued_by_its_id(command, store, letters):
    command("requeue", "--yes", "--id", letters["new"])

    assert store.in_state(State.READY) == [letters["new"]]


def test_what_dies_after_the_count_is_left_alone(command, store, letters, monkeypatch):
    mail = store.broker.get_actor("mail")
    count_dead = store.count_dead

    def count_and_fail_another(selection):
        count = count_dead(selection)
        store.add(mail.message("x"), State.DEAD, died_at=NEVER)
        store.stored.insert(0, store.stored.pop())  # the first that would be moved
        return count

    monkeypatch.setattr(store, "count_dead", count_and_fail_another)

    _, output, _ = command("requeue", "--yes")

    assert output == "3 requeued\n"
    assert set(store.in_state(State.READY)) == set(letters.values())


def test_what_died_by_a_clock_that_is_ahead_of_ours_is_meant_too(command, store, letters):
    mail = store.broker.get_actor("mail")
    store.add(mail.message("x"), State.DEAD, died_at=current_millis() + 60_000)

    assert command("requeue", "--yes")[1] == "4 requeued\n"


def test_what_cannot_be_decoded_stays_dead_and_is_told(command, store, letters):
    store.add(b"rubbish", State.DEAD, queue_name="mail", died_at=current_millis())

    code, output, errors = command("requeue", "--yes")

    assert (code, output) == (1, "3 requeued\n")
    assert "1 of them were not requeued" in errors


def test_dead_letters_are_deleted(command, store, letters):
    code, output, errors = command("delete", "--yes", "--queue", "pictures")

    assert (code, output) == (0, "1 deleted\n")
    assert "Delete 1 dead letter for good." in errors
    assert letters["other"] not in store.in_state(State.DEAD)


@pytest.mark.parametrize("name", ["requeue", "delete"])
def test_a_dry_run_counts_and_does_nothing(command, store, letters, name):
    code, output, errors = command(name, "--dry-run", "--yes")

    assert (code, output) == (0, "")
    assert "Dry run." in errors
    assert "3 dead letters" in errors
    assert len(store.in_state(State.DEAD)) == 3


@pytest.mark.parametrize("name", ["requeue", "delete"])
def test_without_a_terminal_nothing_is_done_unless_told_to(command, store, letters, name):
    code, output, errors = command(name)

    assert (code, output) == (2, "")
    assert "3 dead letters" in errors
    assert "Repeat with --yes" in errors
    assert len(store.in_state(State.DEAD)) == 3


@pytest.mark.parametrize(("answer", "code"), [("y\n", 0), ("Yes\n", 0), ("\n", 1), ("n\n", 1)])
def test_on_a_terminal_the_user_is_asked(command, store, letters, monkeypatch, answer, code):
    monkeypatch.setattr(sys, "stdin", Keyboard(answer))

    assert command("delete")[0] == code
    assert len(store.in_state(State.DEAD)) == (3 if code else 0)


def test_nothing_to_do_is_fine(command, letters):
    code, output, errors = command("requeue", "--actor", "nobody")

    assert (code, output) == (0, "")
    assert "There are no dead letters like this." in errors


def test_a_message_that_was_named_and_is_not_dead_is_a_failure(command, letters):
    code, _, errors = command("requeue", "--id", "nope")

    assert code == 1
    assert "no dead letter 'nope'" in errors


def test_a_pace_is_kept_with_small_steps(store, letters):
    waits, shown = [], []
    throttle = Throttle(10.0, waits.append, clock=lambda: 0.0)

    done = move(store.requeue, Selection(), 3, 10.0, shown.append, throttle)

    assert done == 3
    assert store.steps == [1, 1, 1]
    assert shown == [1, 2, 3]
    assert waits == pytest.approx([0.1, 0.2])


def test_a_paced_operation_ends_when_there_is_nothing_left(store, letters):
    throttle = Throttle(10.0, lambda _: None, clock=lambda: 0.0)

    assert move(store.requeue, Selection(), 10, 10.0, lambda _: None, throttle) == 3


def test_a_queue_is_purged_of_what_waits_but_not_of_its_dead(command, store, letters):
    mail = store.broker.get_actor("mail")
    for state in (State.READY, State.DELAYED, State.LEASED):
        store.add(mail.message(state.value), state)

    code, output, errors = command("purge", "mail", "--yes")

    assert (code, output) == (0, "2 dropped\n")
    assert "Drop 2 ready and delayed messages of mail for good." in errors
    assert len(store.in_state(State.LEASED)) == 1
    assert len(store.in_state(State.DEAD)) == 3


def test_dead_letters_are_purged_if_they_are_asked_for(command, store, letters):
    code, output, _ = command("purge", "mail", "pictures", "--state", "ready,dead", "--yes")

    assert (code, output) == (0, "3 dropped\n")


@pytest.mark.parametrize(
    ("states", "text"),
    [("leased", "workers hold these"), ("gone", "Choose from"), (",", "name at least one")],
)
def test_states_that_cannot_be_purged_are_wrong_usage(command, letters, states, text):
    code, _, errors = command("purge", "mail", "--state", states, "--yes")

    assert code == 2
    assert text in errors


def test_purging_asks_too(command, store, letters):
    store.add(store.broker.get_actor("mail").message("x"))

    code, _, errors = command("purge", "mail")

    assert code == 2
    assert "Drop 1 ready and delayed message of mail for good. Refused" in errors
    assert len(store.in_state(State.READY)) == 1


def test_queues_are_paused_and_resumed(command, store, letters):
    assert command("pause", "mail", "pictures.DQ")[:2] == (0, "mail: paused\npictures: paused\n")
    assert store.paused == {"mail", "pictures"}

    assert command("resume", "mail")[:2] == (0, "mail: resumed\n")
    assert store.paused == {"pictures"}


@pytest.mark.parametrize("name", ["pause", "resume", "purge"])
def test_a_typo_in_a_queue_stops_the_command_before_it_does_anything(command, store, letters, name):
    code, output, errors = command(name, "mail", "picturs")

    assert (code, output) == (2, "")
    assert "No queue 'picturs' is known (mail, pictures). Did you mean 'pictures'?" in errors
    assert store.paused == set()


def test_an_empty_queue_is_purged_without_a_question(command, letters):
    code, output, errors = command("purge", "mail")

    assert (code, output) == (0, "")
    assert errors == "There are no ready and delayed messages in mail.\n"


def test_a_purge_can_be_tried(command, store, letters):
    code, output, errors = command("purge", "mail", "--state", "dead", "--dry-run")

    assert (code, output) == (0, "")
    assert "Dry run. Without --dry-run: Drop 2 dead messages of mail for good." in errors
    assert len(store.in_state(State.DEAD)) == 3


@pytest.mark.parametrize("name", ["requeue", "messages"])
def test_a_typo_in_an_actor_is_told_where_its_name_is_known(command, letters, name):
    code, _, errors = command(name, "--actor", "resise")

    assert code == 0
    assert "Did you mean 'resize'?" in errors
