"""Workers on PostgreSQL: who is dead, what becomes of what they held, and of their connections."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from contextlib import closing

import pytest

from dramatiq import Message, Worker, actor, flight_recorder
from dramatiq.brokers._processes import host, started
from dramatiq.brokers.postgres import PostgresBroker
from dramatiq.brokers.postgres.membership import Suspect
from dramatiq.delivery import Outcome, Settlement
from dramatiq.errors import BrokerConnectionError, ConnectionClosed
from dramatiq.testing.waiting import wait_until
from tests.servers import PostgresServer

#: Starts a worker that runs messages 1 and 2, the second one later, holds 3 and waits to be killed.
VICTIM = """
import sys, threading, time
import dramatiq
from dramatiq.brokers.postgres import PostgresBroker

broker = PostgresBroker(sys.argv[1])
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

#: Uses a broker, forks, and uses it in both processes at once.
FORK = """
import os, sys
import dramatiq
from dramatiq.brokers.postgres import PostgresBroker

broker = PostgresBroker(sys.argv[1])

@dramatiq.actor(broker=broker)
def work(number):
    pass

worker = dramatiq.Worker(broker, worker_threads=1)
worker.start()

def use():
    for number in range(100):
        work.send(number)
    broker.join("default", timeout=20_000)

use()
child = os.fork()
if child == 0:
    status = 1
    try:
        work.send(1)
        own = dramatiq.Worker(broker, worker_threads=1)
        own.start()
        use()
        own.stop()
        broker.close()
        status = 0
    finally:
        os._exit(status)
use()
assert os.waitpid(child, 0)[1] == 0
use()
worker.stop()
broker.close()
"""


@pytest.fixture
def broker(postgres_server, postgres):
    broker = PostgresBroker(postgres_server.url)
    broker.declare_queue("default")
    yield broker
    broker.close()


@pytest.fixture
def start_worker(broker):
    workers = []

    def start_worker(broker=broker):
        worker = Worker(broker, worker_threads=4, worker_timeout=100)
        workers.append(worker)
        worker.start()
        return worker

    yield start_worker
    for worker in workers:
        worker.stop()


@pytest.fixture
def server(tmp_path):
    """A server that may be harmed."""
    server = PostgresServer(tmp_path / "own").start()
    yield server
    server.close()


@pytest.fixture
def fragile(server):
    broker = PostgresBroker(server.url)
    broker.declare_queue("default")
    yield broker
    broker.close()


def kill_victim(broker):
    with subprocess.Popen(
        [sys.executable, "-c", VICTIM, broker.database.url], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout.readline() == "ready\n"
        process.kill()


def rows(postgres, columns):
    query = f"SELECT {columns} FROM dramatiq.messages ORDER BY seq"  # noqa: S608
    return postgres.execute(query).fetchall()


def sweep(broker):
    return broker.membership.sweep(is_graceful=False)


def fill(broker, count):
    broker.enqueue_many([Message("default", "work", (number,), {}, {}) for number in range(count)])


def test_only_what_was_running_waits_and_the_longest_running_comes_back_first(
    broker, postgres, start_worker
):
    kill_victim(broker)
    assert rows(postgres, "seq, state, crashes") == [(1, 2, 0), (2, 2, 0), (3, 2, 0)]

    assert sweep(broker) == 3

    assert rows(postgres, "seq, state, crashes") == [(1, 1, 1), (2, 1, 1), (3, 0, 0)]
    (first,), (second,), _ = rows(postgres, "position")
    assert 100 <= second - first <= 150
    ran = []
    actor(ran.append, actor_name="work", broker=broker)
    start_worker()
    wait_until(lambda: len(ran) == 3)
    assert ran == [3, 1, 2]


def test_the_third_crash_is_the_last(broker, postgres):
    kill_victim(broker)
    postgres.execute("UPDATE dramatiq.messages SET crashes = 2")

    sweep(broker)

    letters = broker.dead_letters("default")
    assert {each.reason for each in letters} == {"poison: 3 processes died while they ran it"}
    assert len(letters) == 2
    assert rows(postgres, "seq, state, crashes") == [(3, 0, 2)]


def test_the_recorders_of_the_dead_go(broker, postgres):
    kill_victim(broker)
    [(recorders,)] = postgres.execute("SELECT recorders FROM dramatiq.workers").fetchall()
    [name] = recorders
    assert len(flight_recorder.read(name)) == 2

    sweep(broker)

    assert flight_recorder.read(name) == []
    assert postgres.execute("SELECT * FROM dramatiq.workers").fetchall() == []


def test_a_worker_notices_by_itself_that_another_has_died(broker, start_worker):
    kill_victim(broker)
    ran = []
    actor(ran.append, actor_name="work", broker=broker)

    start_worker()

    wait_until(lambda: sorted(ran) == [1, 2, 3], timeout_s=5)


def test_what_still_runs_when_a_broker_is_closed_is_not_blamed(broker, postgres):
    recorder = broker.make_flight_recorder(1)
    fill(broker, 1)
    consumer = broker.consume("default")
    [message] = consumer.fetch(1, 1000)
    recorder.records[0].begin(message._lease)

    broker.close()

    assert rows(postgres, "state, crashes") == [(0, 0)]
    consumer.close()
    recorder.close()


def suspect(**fields):
    defaults = {
        "owner": 99,
        "host": "elsewhere",
        "pid": 1,
        "started": "1",
        "has_lock": True,
        "silence_ms": 11_000,
        "server_up_ms": 100_000,
    }
    return Suspect(**{**defaults, **fields})


@pytest.mark.parametrize(
    ("fields", "limit"),
    [
        ({}, 10_000),
        ({"silence_ms": 9_000}, None),
        ({"silence_ms": 61_000}, 60_000),
        ({"has_lock": False}, None),
        ({"has_lock": False, "silence_ms": 31_000}, 30_000),
        ({"server_up_ms": 9_000}, None),
        ({"host": host(), "pid": os.getpid(), "silence_ms": 61_000}, None),
        ({"host": host(), "pid": 2**22 + 1, "silence_ms": 1}, 0),
        ({"host": host(), "pid": os.getppid(), "started": "0", "silence_ms": 1}, 0),
        ({"host": host(), "pid": os.getppid(), "started": started(os.getppid())}, None),
    ],
)
def test_who_is_dead(broker, fields, limit):
    assert broker.membership._judge(suspect(**fields), is_graceful=False) == limit


def test_nobody_elsewhere_is_dead_while_we_come_back_ourselves(broker):
    assert broker.membership._judge(suspect(), is_graceful=True) is None


def join_as_another(postgres, *, silence_ms):
    [(owner,)] = postgres.execute(
        "INSERT INTO dramatiq.workers "
        "(host, pid, started, has_lock, started_at, beat_at, recorders) "
        "VALUES ('elsewhere', 1, '1', true, 0, dramatiq.now_ms() - %s, '{}') RETURNING id",
        (silence_ms,),
    ).fetchall()
    return owner


def test_a_worker_whose_lock_is_held_is_alive(broker, postgres, postgres_server):
    owner = join_as_another(postgres, silence_ms=11_000)
    dead = suspect(owner=owner)
    with closing(postgres_server.connect()) as session:
        assert session.execute(broker.sql["lock"], {"owner": owner}).fetchone() == (True,)

        broker.membership._reclaim(dead, 10_000)

        assert [each.worker_id for each in broker.inspection.workers()] == [str(owner)]
        assert broker.inspection.workers()[0].is_alive

    def is_gone():
        broker.membership._reclaim(dead, 10_000)
        return broker.inspection.workers() == []

    wait_until(is_gone)


def test_a_worker_that_has_been_heard_of_meanwhile_is_alive(broker, postgres):
    owner = join_as_another(postgres, silence_ms=1_000)

    broker.membership._reclaim(suspect(owner=owner), 10_000)

    assert len(broker.inspection.workers()) == 1


def test_a_running_worker_holds_its_lock_and_beats(broker, postgres, start_worker):
    start_worker()

    wait_until(lambda: [each.is_alive for each in broker.inspection.workers()] == [True])
    wait_until(lambda: broker.is_listening)
    [(before,)] = postgres.execute("SELECT beat_at FROM dramatiq.workers").fetchall()
    wait_until(
        lambda: postgres.execute("SELECT beat_at FROM dramatiq.workers").fetchone()[0] > before
    )
    [(has_lock,)] = postgres.execute("SELECT has_lock FROM dramatiq.workers").fetchall()
    assert has_lock


def test_a_worker_that_was_taken_for_dead_goes_on_as_a_new_one(broker, postgres, start_worker):
    ran = []
    actor(ran.append, actor_name="work", broker=broker)
    start_worker()
    wait_until(lambda: len(broker.inspection.workers()) == 1)
    [old] = broker.inspection.workers()

    postgres.execute("DELETE FROM dramatiq.workers")

    wait_until(lambda: broker.inspection.workers() not in ([], [old]))
    broker.enqueue(Message("default", "work", (1,), {}, {}))
    wait_until(lambda: ran == [1])


def test_who_was_struck_off_leases_nothing(broker, postgres):
    consumer = broker.consume("default")
    fill(broker, 1)
    postgres.execute("DELETE FROM dramatiq.workers")

    with pytest.raises(ConnectionClosed, match="taken for dead"):
        consumer.fetch(1, 1000)

    assert rows(postgres, "state") == [(0,)]
    assert not consumer.recover()
    consumer.close()


def test_what_ran_to_its_end_under_a_lost_lease_does_not_run_again(broker, postgres):
    fill(broker, 1)
    late = broker.consume("default")
    [message] = late.fetch(1, 1000)
    postgres.execute("UPDATE dramatiq.messages SET state = 0, owner = NULL")

    assert late.settle([Settlement(message, Outcome.ACK)]) == [False]

    successor = broker.consume("default")
    assert successor.fetch(1, 100) == []
    assert rows(postgres, "state") == []
    late.close()
    successor.close()


def test_what_is_leased_to_nobody_goes_back(broker, postgres):
    fill(broker, 1)
    postgres.execute("UPDATE dramatiq.messages SET state = 2, owner = 12345")

    broker.maintain()

    assert rows(postgres, "state, owner") == [(0, None)]


def test_a_lost_reply_is_made_good(broker, monkeypatch, postgres):
    fill(broker, 2)
    monkeypatch.setattr("dramatiq.brokers._leasing.RECONCILE_S", 0.0)
    monkeypatch.setattr("dramatiq.brokers._leasing.CONFIRM_S", 0.0)
    consumer = broker.consume("default")
    lost, *_ = consumer.fetch(1, 1000)
    consumer._held.clear()  # as if it had never arrived
    consumer.recover()

    messages = []
    wait_until(lambda: messages.extend(consumer.fetch(2, 100)) or len(messages) == 2)

    assert lost.message_id in {each.message_id for each in messages}
    consumer.close()


def test_a_fork_shares_no_connection(postgres_server, postgres):
    subprocess.run(
        [sys.executable, "-W", "error", "-c", FORK, postgres_server.url], check=True, timeout=40
    )


def test_work_goes_on_after_the_server_was_killed(server, fragile, start_worker, monkeypatch):
    monkeypatch.setattr("dramatiq.worker.consumer.settings.CONSUMER_RESTART_DELAY_SECS", 0.2)
    ran = []
    held, released = threading.Event(), threading.Event()

    def work(number):
        if number == 0:
            held.set()
            released.wait(20)
        ran.append(number)

    send = actor(work, broker=fragile).send
    start_worker(fragile)
    send(0)
    assert held.wait(10)

    server.kill()
    with pytest.raises(BrokerConnectionError):
        send(-1)
    released.set()
    server.start()
    send(1)

    fragile.join("default", timeout=20_000)
    assert ran == [0, 1]


def test_a_server_that_does_not_answer_is_given_up(server, fragile):
    fill(fragile, 1)
    server.send(signal.SIGSTOP)

    with pytest.raises(ConnectionClosed, match=r"no answer within 0\.5 seconds"):
        fragile.database.run(lambda cursor: cursor.execute("SELECT 1"), timeout_s=0.5)

    server.send(signal.SIGCONT)
    assert fragile.queue_counts("default").ready == 1


def test_a_server_that_takes_no_writes_says_why(broker, postgres):
    with pytest.raises(ConnectionClosed, match="it takes no writes"):
        broker.database.run(
            lambda cursor: (
                cursor.execute("SET TRANSACTION READ ONLY"),
                cursor.execute(broker.sql["beat"], {"owner": 1}),
            )
        )
