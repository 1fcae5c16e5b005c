"""Workflows and history on PostgreSQL beyond their contracts: transactions, lock order, expiry."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import threading

import pytest

import dramatiq
from dramatiq import Message, Worker
from dramatiq.broker import Broker
from dramatiq.brokers.postgres import PostgresBroker
from dramatiq.composition import WorkflowFailed, group
from dramatiq.history import AttemptOutcome, History, HistorySelection
from dramatiq.message import generate_unique_id
from dramatiq.postgres.repeating import run_again
from dramatiq.rate_limits.backends import PostgresBackend as RateLimiterBackend
from dramatiq.results import Results
from dramatiq.results.backends import PostgresBackend
from dramatiq.testing.history_contract import MANY, add, make_attempt, make_failure
from dramatiq.testing.waiting import run_together, wait_until
from dramatiq.workflows.store import Arrival, Change, Status
from dramatiq.workflows.stores.postgres import PostgresStore

#: A worker that dies of what it runs.
VICTIM = """
import os, signal, sys, threading
import dramatiq
from dramatiq.brokers.postgres import PostgresBroker

broker = PostgresBroker(sys.argv[1])

@dramatiq.actor(broker=broker)
def die():
    os.kill(os.getpid(), signal.SIGKILL)

worker = dramatiq.Worker(broker, worker_threads=1)
worker.start()
threading.Event().wait()
"""


@pytest.fixture
def broker(postgres_server, postgres, monkeypatch):
    broker = PostgresBroker(postgres_server.url)
    broker.declare_queue("default")
    monkeypatch.setattr("dramatiq.broker.global_broker", broker)
    yield broker
    broker.close()


@pytest.fixture
def store(broker):
    return broker.make_workflow_store()


def make(store, **fields):
    flow = generate_unique_id()
    store.add(flow, 1)
    assert store.change(flow, Change({}, {":state": b"running", **fields}))
    return flow


def count(postgres, table):
    [(found,)] = postgres.execute(f"SELECT count(*) FROM dramatiq.{table}").fetchall()  # noqa: S608
    return found


def test_messages_are_stored_if_and_only_if_their_workflow_goes_on(broker, store):
    flow = make(store, **{"0:pos": b"0"})
    step = Change({"0:pos": b"0"}, {"0:pos": b"1"})

    def envelope():
        return broker.preparer()(Message("default", "work", (), {}, {}), None)

    assert store.stores_messages
    assert store.change(flow, step, [envelope()])
    assert not store.change(flow, step, [envelope()])

    assert broker.queue_counts("default").ready == 1


def test_who_arrives_at_the_same_workflows_in_another_order_waits_for_no_one_for_ever(store):
    rounds, parties = 15, 4
    flows = [make(store, **{"0:left": b"%d" % (rounds * parties)}) for _ in range(6)]

    def arrive(party):
        shuffled = random.Random(party).sample(flows, len(flows))
        for number in range(rounds):
            child = party * rounds + number
            store.arrive([Arrival(flow, "0", child, b"+1") for flow in shuffled])

    run_together(parties, arrive)

    done = b"%d" % (rounds * parties)
    assert {(b"0", done)} == {tuple(store.read(flow, ["0:left", ":done"])) for flow in flows}


def test_a_transaction_that_deadlocks_is_carried_out_again(broker, store, postgres):
    flows = [make(store), make(store)]
    both = threading.Barrier(2)
    tries = []

    def lock(party):
        def operation(cursor):
            tries.append(party)
            for flow in flows[:: 1 if party else -1]:
                cursor.execute(
                    "UPDATE dramatiq.flows SET created_at = created_at + 1 WHERE flow = %s", (flow,)
                )
                if len(tries) <= 2:
                    both.wait()
                    break
            for flow in flows[:: 1 if party else -1]:
                cursor.execute(
                    "UPDATE dramatiq.flows SET created_at = created_at + 1 WHERE flow = %s", (flow,)
                )

        run_again(broker.database, operation)

    run_together(2, lock)

    assert len(tries) == 3


def test_a_workflow_that_has_expired_is_gone_and_swept(store, postgres):
    flow = make(store, **{f"0#{number}": b"+1" for number in range(1500)})
    assert store.change(flow, Change({}, {}, ttl=0))

    assert store.arrive([Arrival(flow, "0", 0, b"+1")]) == [Status.GONE]
    assert store.read(flow, [":state"]) == [None]
    assert store.flows(10) == ([], None)
    assert not store.change(flow, Change({":state": b"running"}, {":state": b"done"}))

    kept = make(store)
    assert store.flows(10) == ([kept], None)
    assert (count(postgres, "flows"), count(postgres, "flow_fields")) == (1, 1)


def test_what_is_written_while_a_workflow_is_deleted_goes_too(store, postgres):
    flow = make(store)
    deleting = threading.Thread(target=store.delete, args=(flow,))
    waiting = "SELECT 1 FROM pg_locks WHERE NOT granted"

    with postgres.transaction():
        postgres.execute("SELECT * FROM dramatiq.lock_flows(%s, '{}', '{}')", ([flow],))
        postgres.execute("INSERT INTO dramatiq.flow_fields VALUES (%s, 'late', '')", (flow,))
        deleting.start()
        wait_until(lambda: postgres.execute(waiting).fetchall())
    deleting.join()

    assert (count(postgres, "flows"), count(postgres, "flow_fields")) == (0, 0)


def test_arrivals_write_how_long_a_workflow_lives_once_in_a_while(store, postgres):
    flow = make(store)
    version = f"SELECT xmin FROM dramatiq.flows WHERE flow = '{flow}'"  # noqa: S608
    before = postgres.execute(version).fetchall()

    store.arrive([Arrival(flow, "0", 0, b"+1")])
    assert postgres.execute(version).fetchall() == before

    postgres.execute("UPDATE dramatiq.flows SET expires_at = expires_at - 3700000")
    before = postgres.execute(version).fetchall()
    store.arrive([Arrival(flow, "0", 1, b"+1")])
    assert postgres.execute(version).fetchall() != before


def test_a_message_that_brings_down_three_processes_fails_its_workflow(broker, postgres):
    die = dramatiq.actor(lambda: None, actor_name="die", broker=broker)
    composed = group([die.message()]) | die.message()
    composed.run()
    postgres.execute("UPDATE dramatiq.messages SET crashes = 2")

    victim = [sys.executable, "-c", VICTIM, broker.database.url]
    assert subprocess.run(victim, check=False, timeout=30).returncode == -signal.SIGKILL
    assert broker.membership.sweep(is_graceful=False) == 1

    with pytest.raises(WorkflowFailed, match="poison"):
        composed.get_result(block=True, timeout=5_000)


def test_the_result_of_a_message_is_there_when_its_workflow_goes_on(broker, postgres):
    backend = PostgresBackend(broker=broker)
    broker.add_middleware(Results(backend=backend))
    first = dramatiq.actor(lambda: 42, actor_name="first", broker=broker, store_results=True)
    sent = first.message()
    found = []

    def look(_):
        found.append(backend.get_result(sent))

    looking = dramatiq.actor(look, actor_name="looking", broker=broker)
    worker = Worker(broker, worker_threads=2)
    worker.start()

    (group([sent]) | looking.message()).run().get_result(block=True, timeout=10_000)

    assert found == [42]
    worker.stop()


@pytest.mark.parametrize(
    "middleware",
    [
        lambda broker: Results(backend=PostgresBackend(broker=broker)),
        lambda broker: dramatiq.middleware.GroupCallbacks(RateLimiterBackend(broker=broker)),
    ],
)
def test_a_broker_without_a_store_keeps_workflows_beside_results_or_limits(broker, middleware):
    other = Broker(middleware=[middleware(broker)])

    store = other.make_workflow_store()

    assert isinstance(store, PostgresStore)
    assert not store.stores_messages
    assert store.read(make(store), [":state"]) == [b"running"]


def test_a_worker_records_its_history_in_the_schema_of_the_broker(broker, postgres):
    broker.add_middleware(History())
    outcomes = iter([ValueError("first"), None])

    def work():
        if (error := next(outcomes)) is not None:
            raise error

    actor = dramatiq.actor(work, broker=broker, max_retries=1, min_backoff=1, max_backoff=1)
    message = actor.send()
    worker = Worker(broker, worker_threads=1)
    worker.start()

    wait_until(lambda: len(broker.history.of_message(message.message_id)) == 2)
    worker.stop()
    first, second = broker.history.of_message(message.message_id)
    assert ("ValueError", AttemptOutcome.RETRIED) == (first.exception, first.outcome)
    assert (2, AttemptOutcome.DONE) == (second.number, second.outcome)
    assert count(postgres, "history") == 2


def test_names_that_postgresql_cannot_store_or_index_are_recorded_all_the_same(broker):
    store = broker.make_history_store()
    names = ["a\0b", "\ud800", "ä" * 3_000, "ä" * 2_999]

    for name in names:
        failure = make_failure(message_id=name, actor_name=name, queue_name=name, exception=name)
        add(store, failure, make_attempt(message_id=name))

    for name in names:
        assert name in {each.message_id for each in store.of_message(name)}
    assert len(store.attempts(HistorySelection(actor_name=names[0])).attempts) == 1
    assert sorted(each.count for each in store.failures()) == [1, 1, 2]


def test_every_question_to_the_history_walks_along_an_index(broker, postgres):
    store = broker.make_history_store()
    add(store, *(make_failure(parent_id="p", group_id="g") for _ in range(500)), max_records=MANY)
    postgres.execute("ANALYZE dramatiq.history")
    columns = ("message_id", "actor_name", "queue_name", "outcome", "parent_id", "group_id")

    def plan(cursor, name):
        statement = b"EXPLAIN " + store._sql[name]
        arguments = {"value": "x", "before": 9, "count": 5}
        return "\n".join(line for (line,) in cursor.execute(statement, arguments))

    for name in ("newest", *(f"newest_by_{column}" for column in columns)):
        told = broker.database.run(lambda cursor, name=name: plan(cursor, name))
        assert "Index Scan" in told, told
        assert "Seq Scan" not in told, told
        assert "Sort" not in told, told
