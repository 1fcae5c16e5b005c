"""Sending inside the application's transaction on PostgreSQL."""

from __future__ import annotations

import contextvars

import django
import django.conf
import psycopg
import pytest
import sqlalchemy
import sqlalchemy.orm

import dramatiq
from dramatiq.brokers.postgres import PostgresBroker
from dramatiq.errors import BrokerError
from dramatiq.testing.waiting import wait_until


@pytest.fixture
def broker(postgres_server, postgres):
    broker = PostgresBroker(postgres_server.url)
    yield broker
    broker.close()


@pytest.fixture
def work(broker):
    return dramatiq.actor(lambda number: None, actor_name="work", broker=broker)


@pytest.fixture
def connection(postgres_server):
    with psycopg.connect(postgres_server.url) as connection:
        yield connection
        connection.rollback()


@pytest.fixture
def engine(postgres_server):
    engine = sqlalchemy.create_engine(
        postgres_server.url.replace("postgresql", "postgresql+psycopg")
    )
    yield engine
    engine.dispose()


@pytest.fixture(scope="session")
def django_connection(postgres_server):
    django.conf.settings.configure(
        SECRET_KEY="x",
        DATABASES={
            "default": {
                "ENGINE": "django.db.backends.postgresql",
                "HOST": "127.0.0.1",
                "PORT": postgres_server.port,
                "USER": "postgres",
                "NAME": "postgres",
            }
        },
    )
    django.setup()
    from django.db import connection

    yield connection
    connection.close()


def ready(broker):
    return broker.queue_counts("default").ready


def test_a_message_is_there_once_the_transaction_commits(broker, work, connection):
    with broker.transaction(connection):
        work.send(1)

    assert ready(broker) == 0
    connection.commit()
    assert ready(broker) == 1


def test_a_message_is_gone_with_the_transaction(broker, work, connection):
    broker.enqueue(work.message(1), connection=connection)

    connection.rollback()

    assert ready(broker) == 0


def test_a_savepoint_takes_back_its_own_messages_only(broker, work, connection):
    with broker.transaction(connection):
        work.send(1)
        with connection.transaction(force_rollback=True):
            work.send(2)
    connection.commit()

    consumer = broker.consume("default")
    assert [message.args for message in consumer.fetch(5, 2000)] == [(1,)]
    consumer.close()


def test_a_waiting_worker_starts_it_when_it_is_committed(broker, connection):
    ran = []
    actor = dramatiq.actor(ran.append, actor_name="work", broker=broker)
    worker = dramatiq.Worker(broker, worker_threads=1)
    worker.start()
    with broker.transaction(connection):
        actor.send(1)
        actor.send_with_options(args=(2,), delay=1)

    connection.commit()

    wait_until(lambda: sorted(ran) == [1, 2])
    worker.stop()


def test_thousands_are_all_there_or_none(broker, work, postgres_server):
    with psycopg.connect(postgres_server.url, autocommit=True) as connection:
        with broker.transaction(connection):
            work.send_many([(number,) for number in range(2500)])

        assert ready(broker) == 2500


def test_outside_of_the_block_it_is_sent_at_once(broker, work, connection):
    with broker.transaction(connection):
        pass

    work.send(1)

    assert ready(broker) == 1


def test_other_contexts_and_brokers_do_not_join(broker, work, connection, postgres_server):
    outside = contextvars.copy_context()
    other = PostgresBroker(postgres_server.url)
    with broker.transaction(connection):
        outside.run(work.send, 1)
        other.enqueue(work.message(2))

    connection.rollback()

    assert ready(broker) == 2
    other.close()


def test_the_inner_block_wins(broker, work, connection, postgres_server):
    with (
        psycopg.connect(postgres_server.url) as inner,
        broker.transaction(connection),
        broker.transaction(inner),
    ):
        work.send(1)

    connection.rollback()
    assert ready(broker) == 1  # the inner one was committed by its own block


def test_a_transaction_that_has_failed_takes_no_message(broker, work, connection):
    with pytest.raises(psycopg.errors.DivisionByZero):
        connection.execute("SELECT 1 / 0")

    with pytest.raises(BrokerError, match="aborted"):
        broker.enqueue(work.message(1), connection=connection)


def test_a_connection_of_sqlalchemy_is_joined(broker, work, engine):
    with engine.begin() as connection, broker.transaction(connection):
        work.send(1)
        assert ready(broker) == 0
    with engine.connect() as connection:
        broker.enqueue(work.message(2), connection=connection)
        connection.rollback()

    assert ready(broker) == 1


def test_a_session_of_sqlalchemy_is_joined(broker, work, engine):
    with sqlalchemy.orm.Session(engine) as session, broker.transaction(session):
        work.send(1)
        session.rollback()
        work.send(2)
        session.commit()

    assert ready(broker) == 1


def test_the_connection_of_django_is_joined(broker, work, django_connection):
    from django.db import transaction

    with transaction.atomic(), broker.transaction(django_connection):
        work.send(1)
        assert ready(broker) == 0
    with transaction.atomic(), broker.transaction(django_connection):
        work.send(2)
        transaction.set_rollback(True)

    assert ready(broker) == 1


def test_anything_else_is_refused_with_what_to_give(broker):
    engine = sqlalchemy.create_engine("sqlite://")
    with engine.connect() as connection, pytest.raises(TypeError, match=r"psycopg 3"):
        broker.transaction(connection).__enter__()
    engine.dispose()
    with pytest.raises(TypeError, match=r"builtins\.str"):
        broker.enqueue(dramatiq.Message("default", "work", (), {}, {}), connection="x")
