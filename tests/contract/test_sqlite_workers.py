"""Workers on one file: what happens to what a dead one was running."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from contextlib import closing

import pytest

from dramatiq import Message, Worker, actor, flight_recorder
from dramatiq.brokers.sqlite import SQLiteBroker
from dramatiq.brokers.sqlite.statements import schema
from dramatiq.testing.waiting import wait_until

#: Starts a worker that runs messages 1 and 2, the second one later, holds 3 and waits to be killed.
VICTIM = """
import sys, threading, time
import dramatiq
from dramatiq.brokers.sqlite import SQLiteBroker
from dramatiq.broker import MessageProxy

broker = SQLiteBroker(sys.argv[1])
runs = [threading.Event(), threading.Event()]

@dramatiq.actor(broker=broker)
def work(number):
    runs[number - 1].set()
    threading.Event().wait()

worker = dramatiq.Worker(broker, worker_threads=2)
worker.queue_prefetch = 3
worker.start()
work.send(1)
runs[0].wait()
work.send(2)
runs[1].wait()
work.send(3)
while broker.queue_counts("default").leased < 3:
    time.sleep(0.01)
print("ready", flush=True)
threading.Event().wait()
"""


@pytest.fixture
def broker(tmp_path):
    broker = SQLiteBroker(tmp_path / "dramatiq.db")
    broker.declare_queue("default")
    yield broker
    broker.close()


@pytest.fixture
def start_worker(broker):
    workers = []

    def start_worker():
        worker = Worker(broker, worker_threads=4, worker_timeout=100)
        workers.append(worker)
        worker.start()
        return worker

    yield start_worker
    for worker in workers:
        worker.stop()


def kill_victim(broker):
    with subprocess.Popen(
        [sys.executable, "-c", VICTIM, broker.path], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout.readline() == "ready\n"
        process.kill()


def rows(broker, query):
    with closing(sqlite3.connect(broker.path)) as connection:
        return connection.execute(query).fetchall()


def test_only_what_was_running_waits_and_the_longest_running_comes_back_first(broker, start_worker):
    kill_victim(broker)
    before = rows(broker, "SELECT seq, state, crashes FROM messages ORDER BY seq")
    assert before == [(1, 2, 0), (2, 2, 0), (3, 2, 0)]

    assert broker.membership.sweep() == 3

    after = rows(broker, "SELECT seq, state, crashes FROM messages ORDER BY position, seq")
    assert sorted(after) == [(1, 1, 1), (2, 1, 1), (3, 0, 0)]
    [(first,), (second,)] = rows(broker, "SELECT position FROM messages WHERE state = 1")
    assert second - first == 125
    ran = []
    actor(ran.append, actor_name="work", broker=broker)
    start_worker()
    wait_until(lambda: len(ran) == 3)
    assert ran == [3, 1, 2]


def test_the_third_crash_is_the_last(broker):
    kill_victim(broker)
    broker.database.write(lambda connection: connection.execute("UPDATE messages SET crashes = 2"))

    broker.membership.sweep()

    letters = broker.dead_letters("default")
    assert {each.reason for each in letters} == {"poison: 3 processes died while they ran it"}
    assert len(letters) == 2
    assert rows(broker, "SELECT seq, state, crashes FROM messages WHERE state != 3") == [(3, 0, 2)]


def test_the_recorders_of_the_dead_go(broker):
    kill_victim(broker)
    [(name,)] = rows(broker, "SELECT name FROM worker_recorders")
    assert len(flight_recorder.read(name)) == 2

    broker.membership.sweep()

    assert flight_recorder.read(name) == []
    assert rows(broker, "SELECT * FROM worker_recorders") == []


def test_whoever_takes_the_place_of_a_dead_worker_puts_the_blame_too(broker):
    kill_victim(broker)

    broker.membership.owner()

    assert rows(broker, "SELECT count(*) FROM messages WHERE crashes = 1") == [(2,)]


def test_each_worker_of_a_process_is_registered_with_its_recorder(broker, start_worker):
    first, second = start_worker(), start_worker()

    names = rows(broker, "SELECT name FROM worker_recorders")

    assert {(first.recorder.name,), (second.recorder.name,)} == set(names)


def test_a_file_made_before_there_were_recorders_gets_their_table(tmp_path):
    path = tmp_path / "old.db"
    with closing(sqlite3.connect(path)) as connection, connection:
        for statement in [*schema("schema"), "CREATE TABLE schemas (name TEXT PRIMARY KEY)"]:
            connection.execute(statement)
        connection.execute("INSERT INTO schemas VALUES ('messages-1')")
    broker = SQLiteBroker(path)

    broker.enqueue(Message("default", "work", (), {}, {}))

    assert rows(broker, "SELECT * FROM worker_recorders") == []
    broker.close()


def test_what_still_runs_when_a_broker_is_closed_is_not_blamed(broker, start_worker):
    recorder = broker.make_flight_recorder(1)
    broker.enqueue(Message("default", "work", (), {}, {}))
    consumer = broker.consume("default")
    [message] = consumer.fetch(1, 1000)
    recorder.records[0].begin(message._lease)

    broker.close()

    assert rows(broker, "SELECT state, crashes FROM messages") == [(0, 0)]
    recorder.close()
