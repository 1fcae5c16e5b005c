"""The PostgreSQL broker behind a pooler that gives each transaction another session."""

from __future__ import annotations

import psycopg
import pytest

import dramatiq
from dramatiq.brokers.postgres import PostgresBroker
from dramatiq.testing.waiting import wait_until
from tests.servers import PgBouncer


@pytest.fixture(params=["refuses options", "ignores options"])
def pooler(request, postgres_server, postgres, tmp_path):
    ignored = {"ignore_startup_parameters": "options"} if "ignores" in request.param else {}
    pooler = PgBouncer(tmp_path, postgres_server, **ignored).start()
    yield pooler
    pooler.close()


@pytest.fixture
def broker(pooler):
    broker = PostgresBroker(pooler.url)
    yield broker
    broker.close()


def test_workers_find_messages_without_a_session_of_their_own(broker, postgres):
    ran = []
    actor = dramatiq.actor(ran.append, actor_name="work", broker=broker)
    worker = dramatiq.Worker(broker, worker_threads=2, worker_timeout=100)
    worker.start()

    for number in range(20):
        actor.send(number)
    actor.send_with_options(args=(20,), delay=50)

    wait_until(lambda: sorted(ran) == list(range(21)))
    assert broker.database.is_pooled
    assert not broker.is_listening
    assert postgres.execute("SELECT has_lock FROM dramatiq.workers").fetchall() == [(False,)]
    assert [each.is_alive for each in broker.inspection.workers()] == [True]
    assert any("pooler" in each.text for each in broker.inspection.diagnose())
    worker.stop()


def test_messages_of_a_transaction_through_the_pooler_are_there_when_it_commits(broker, pooler):
    actor = dramatiq.actor(lambda: None, actor_name="work", broker=broker)
    with psycopg.connect(pooler.url, prepare_threshold=None) as connection:
        with broker.transaction(connection):
            actor.send()
        assert broker.queue_counts("default").ready == 0

    assert broker.queue_counts("default").ready == 1
