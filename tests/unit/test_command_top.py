from __future__ import annotations

import io

import pytest

import dramatiq
from dramatiq.cli.commands.frame import Snapshot, changes_per_second, render
from dramatiq.cli.commands.paint import Paint
from dramatiq.cli.commands.top import look, look_again
from dramatiq.errors import ConnectionFailed
from dramatiq.inspection import MessageInfo, QueueCounts, QueueInfo, State, WorkerInfo
from dramatiq.message import Message

NOW = 1_700_000_000_000
PLAIN = Paint(io.StringIO(), {})


def queue(name, ready=0, **fields):
    return QueueInfo(name, QueueCounts(ready=ready), **fields)


def full_snapshot(queues=3, workers=3, failures=3):
    message = Message("mail", "mail", ("ann",), {}, {}, message_timestamp=NOW - 3000)
    dead = MessageInfo(
        "key", "mail", State.DEAD, message.encode(), died_at=NOW - 60_000, reason="KeyError: 'x'\n"
    )
    return Snapshot(
        NOW,
        "SQLiteBroker at sqlite:////app/dramatiq.db",
        queues=[queue(f"queue-{number}", number) for number in range(queues)],
        workers=[WorkerInfo(f"worker-{number}", "host", number) for number in range(workers)],
        running=[MessageInfo("key", "mail", State.LEASED, message.encode())],
        failures=[dead] * failures,
    )


def test_a_frame_shows_queues_workers_what_runs_and_what_failed():
    snapshot = full_snapshot()

    text = "\n".join(render(snapshot, 120, 50, PLAIN, hint="q ends"))

    assert "SQLiteBroker at sqlite:////app/dramatiq.db  q ends" in text
    assert "queue-2      2        0       0     0  -         -" in text
    assert "worker-1  host    1" in text
    assert "mail   mail('ann')  3s ago" in text
    assert "mail   mail('ann')  1m ago  KeyError: 'x'" in text


@pytest.mark.parametrize(("width", "height"), [(80, 24), (40, 12), (20, 5), (1, 1), (200, 100)])
def test_a_frame_fits_the_terminal_whatever_its_size(width, height):
    snapshot = full_snapshot(queues=60, workers=40, failures=20)

    lines = render(snapshot, width, height, PLAIN, hint="every 2 s, q ends")

    assert len(lines) <= height
    assert max(map(len, lines)) <= width


def test_what_does_not_fit_is_counted_and_short_lists_stay_whole():
    snapshot = full_snapshot(queues=60, workers=2, failures=2)

    lines = render(snapshot, 120, 30, PLAIN, hint="")

    text = "\n".join(lines)
    assert len(lines) == 30
    shown = sum(line.startswith("queue-") for line in lines)
    assert f"... and {60 - shown} more" in text
    assert "worker-1" in text
    assert text.count("KeyError") == 2


def test_backlogs_that_grow_or_shrink_are_told_per_second():
    before = Snapshot(NOW, "", queues=[queue("a", 10), queue("b", 10), queue("gone", 1)])
    now = Snapshot(NOW + 2000, "", queues=[queue("a", 30), queue("b", 5), queue("new", 1)])

    assert changes_per_second(before, now) == {"a": 10.0, "b": -2.5}
    assert changes_per_second(None, now) == {}
    assert changes_per_second(now, now) == {}


def test_paused_queues_and_latencies_stand_out():
    snapshot = Snapshot(NOW, "", queues=[queue("a", is_paused=True, oldest_at=NOW - 90_000)])

    text = "\n".join(render(snapshot, 120, 50, PLAIN, hint=""))

    assert "1m 30s   paused" in text


def test_what_a_broker_cannot_tell_is_said():
    text = "\n".join(render(Snapshot(NOW, "Broker"), 80, 50, PLAIN, hint=""))

    assert text.count("this broker cannot tell") == 4


def test_an_outage_is_told_above_the_last_that_is_known():
    snapshot = Snapshot(NOW, "", queues=[queue("a")], error="The broker cannot be reached: no\x1b[")

    lines = render(snapshot, 80, 50, PLAIN, hint="")

    assert lines[1] == "The broker cannot be reached: no ["
    assert any(line.startswith("a ") for line in lines)


def test_one_frame_is_printed_in_full_without_a_terminal(command, inspected_broker):
    @dramatiq.actor(queue_name="mail")
    def mail(name):
        pass

    inspected_broker.double.add(mail.message("ann"), State.LEASED)

    code, output, _ = command("top")

    assert code == 0
    assert output.startswith("dramatiq top  ")
    assert "mail('ann')" in output
    assert "\x1b" not in output


def test_a_broker_that_is_away_from_the_start_ends_it(command, inspected_broker):
    inspected_broker.double.error = ConnectionFailed("nobody there")

    assert command("top", "--once")[0] == 4


@pytest.mark.parametrize("interval", ["0", "fast", "nan"])
def test_intervals_have_limits(command, interval):
    assert command("top", "--interval", interval)[0] == 2


def test_each_look_knows_the_one_before(inspected_broker):
    first = look(inspected_broker, None)

    assert first.changes == {}
    assert look(inspected_broker, first).queues == []


def test_an_outage_while_watching_keeps_the_last_look(inspected_broker):
    first = look(inspected_broker, None)
    inspected_broker.double.error = ConnectionFailed("gone")

    second = look_again(inspected_broker, first)

    assert second.queues == first.queues
    assert second.error == "The broker cannot be reached: gone"
