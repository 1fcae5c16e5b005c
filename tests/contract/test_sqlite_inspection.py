"""What is peculiar to looking into an SQLite file; the rest is in the broker contract."""

from __future__ import annotations

import sqlite3
import subprocess
import sys

import pytest

import dramatiq
from dramatiq.brokers.sqlite import SQLiteBroker
from dramatiq.brokers.sqlite.statements import schema
from dramatiq.inspection import Selection, State
from dramatiq.testing.waiting import wait_until


@pytest.fixture
def path(tmp_path):
    return tmp_path / "dramatiq.db"


@pytest.fixture
def broker(path):
    broker = SQLiteBroker(path)
    yield broker
    broker.close()


def tell_another_process(path, call, exit_code=0):
    """Have another process act on the file."""
    program = (
        "import os, sys; from dramatiq.brokers.sqlite import SQLiteBroker; "
        "from dramatiq.inspection import Selection; "
        f"SQLiteBroker(sys.argv[1]).inspection.{call}"
    )
    finished = subprocess.run([sys.executable, "-c", program, str(path)], timeout=30, check=False)
    assert finished.returncode == exit_code


def test_another_process_pauses_a_queue_and_resumes_it(broker, path, start_worker):
    ran = []
    actor = dramatiq.actor(broker=broker, actor_name="note")(ran.append)
    other = dramatiq.actor(broker=broker, actor_name="other", queue_name="other")(ran.append)
    start_worker(broker)
    actor.send("before")
    wait_until(lambda: ran == ["before"])

    tell_another_process(path, "pause('default')")
    actor.send("paused")
    other.send("other")
    wait_until(lambda: ran == ["before", "other"])
    assert broker.inspection.queue("default").is_paused
    tell_another_process(path, "resume('default')")

    wait_until(lambda: ran == ["before", "other", "paused"])


def test_a_paused_queue_stays_paused_when_the_file_is_opened_again(broker, path):
    broker.inspection.pause("default.DQ")
    broker.close()

    assert [info.name for info in SQLiteBroker(path).inspection.queues()] == ["default"]
    assert SQLiteBroker(path).inspection.queue("default").is_paused


def test_a_file_from_before_there_were_pauses_can_be_used(path):
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE schemas (name TEXT PRIMARY KEY)")
        connection.execute("INSERT INTO schemas VALUES ('messages-1')")
        for statement in schema("schema"):
            connection.execute(statement)
    connection.close()
    broker = SQLiteBroker(path)
    try:
        broker.inspection.pause("default")

        assert broker.consume("default").fetch(1, 0) == []
        assert broker.inspection.queue("default").is_paused
    finally:
        broker.close()


def test_workers_that_are_dead_are_told_from_those_that_live(broker):
    broker.database.write(
        lambda connection: connection.execute(
            "INSERT INTO workers (slot, pid, started_at) VALUES (900, 1, 2)"
        )
    )
    dead, alive = broker.inspection.workers()[0], broker.membership.owner()

    assert (dead.pid, dead.started_at, dead.is_alive, dead.leased) == (1, 2, False, 0)
    found = {worker.worker_id: worker.is_alive for worker in broker.inspection.workers()}
    assert found == {dead.worker_id: False, str(alive): True}


def test_pages_name_places_that_do_not_move_while_messages_go(broker):
    broker.declare_queue("default")
    for priority in (0, 5, 0, 5):
        broker.enqueue(
            dramatiq.Message("default", "a", (), {}, {"broker_priority": priority}, str(priority))
        )
    first = broker.inspection.messages(State.READY, limit=2)
    consumer = broker.consume("default")
    consumer.ack(consumer.fetch(1, 100)[0])

    rest = broker.inspection.messages(State.READY, limit=2, cursor=first.cursor)

    assert [info.message.message_id for info in first.items] == ["5", "5"]
    assert [info.message.message_id for info in rest.items] == ["0", "0"]
    consumer.close()


def test_a_dead_letter_that_was_run_under_a_lost_lease_runs_again_when_it_is_put_back(broker):
    broker.declare_queue("default")
    broker.enqueue(dramatiq.Message("default", "a", (), {}, {}))
    consumer = broker.consume("default")
    consumer.nack(consumer.fetch(1, 100)[0])
    broker.database.write(
        lambda connection: connection.execute("INSERT INTO done SELECT did, 0 FROM messages")
    )

    assert broker.inspection.requeue(Selection("default")) == 1

    assert len(consumer.fetch(1, 100)) == 1
    consumer.close()


def test_whoever_dies_while_putting_dead_letters_back_leaves_the_rest_dead(broker, path):
    broker.declare_queue("default")
    broker.enqueue_many(dramatiq.Message("default", "a", (n,), {}, {}) for n in range(600))
    consumer = broker.consume("default")
    for message in consumer.fetch(600, 100):
        consumer.nack(message)

    kill = "lambda moved: os.kill(os.getpid(), 9)"
    tell_another_process(path, f"requeue(Selection(), on_progress={kill})", exit_code=-9)

    counts = broker.inspection.queue("default").counts
    assert (counts.ready, counts.dead) == (500, 100)
    assert [message.args for message in consumer.fetch(2, 100)] == [(0,), (1,)]
    consumer.close()
