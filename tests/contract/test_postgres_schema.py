"""The tables on PostgreSQL: made, checked, and brought up to date."""

from __future__ import annotations

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import psycopg
import pytest

from dramatiq import Message
from dramatiq.brokers.postgres import PostgresBroker
from dramatiq.brokers.sqlite import SQLiteBroker
from dramatiq.errors import ConnectionFailed
from dramatiq.inspection import InspectionNotSupported
from dramatiq.postgres.migrations import NEWEST


@pytest.fixture
def schema(postgres):
    postgres.execute('DROP SCHEMA IF EXISTS "Shop" CASCADE')
    yield "Shop"
    postgres.execute('DROP SCHEMA IF EXISTS "Shop" CASCADE')


@pytest.fixture
def broker(postgres_server, schema):
    # Not shared with the broker of another test, whose tables were seen.
    url = f"{postgres_server.url}?application_name={os.urandom(4).hex()}"
    broker = PostgresBroker(url, schema=schema)
    yield broker
    broker.close()


def message():
    return Message("default", "work", (), {}, {})


def set_version(postgres, number, compatible_from=1):
    postgres.execute(
        'UPDATE "Shop".version SET number = %s, compatible_from = %s',
        (number, compatible_from),
    )


def test_tables_are_made_at_the_first_use(broker):
    broker.enqueue(message())

    assert broker.queue_counts("default").ready == 1


def test_several_may_make_them_at_once(postgres_server, schema):
    def send(number):
        url = f"{postgres_server.url}?application_name={number}"
        broker = PostgresBroker(url, schema=schema)
        broker.enqueue(message())
        counts = broker.queue_counts("default")
        broker.close()
        return counts.ready

    with ThreadPoolExecutor(6) as pool:
        assert max(pool.map(send, range(6))) == 6


def test_tables_of_an_older_version_are_refused_with_what_to_do(broker, postgres):
    broker.inspection.migrate_schema()
    set_version(postgres, NEWEST - 1 or -1)

    with pytest.raises(ConnectionFailed, match="dramatiq migrate-schema"):
        broker.enqueue(message())


def test_tables_of_a_newer_version_are_used_if_that_allows_it(broker, postgres):
    broker.inspection.migrate_schema()
    set_version(postgres, NEWEST + 1, compatible_from=NEWEST)

    broker.enqueue(message())

    assert broker.queue_counts("default").ready == 1


def test_tables_of_a_version_that_does_not_allow_it_are_refused(broker, postgres):
    broker.inspection.migrate_schema()
    set_version(postgres, NEWEST + 2, compatible_from=NEWEST + 1)

    with pytest.raises(ConnectionFailed, match="Install the version"):
        broker.enqueue(message())


def test_tables_of_version_1_are_brought_up_to_date(broker, postgres):
    broker.inspection.migrate_schema()
    broker.enqueue(message())
    kept = {"messages", "dead", "workers", "done", "paused", "audit", "version"}
    tables = postgres.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'Shop'")
    for name in {name for (name,) in tables} - kept:
        postgres.execute(f'DROP TABLE "Shop".{name}')
    postgres.execute('DROP FUNCTION "Shop".lock_flows')
    set_version(postgres, 1)

    assert broker.inspection.migrate_schema() == (1, NEWEST)

    assert broker.queue_counts("default").ready == 1
    assert postgres.execute('SELECT * FROM "Shop".results').fetchall() == []


def test_migrating_again_changes_nothing(broker):
    assert broker.inspection.migrate_schema() == (0, NEWEST)
    assert broker.inspection.migrate_schema() == (NEWEST, NEWEST)


def test_the_command_makes_the_tables(postgres_server, postgres):
    postgres.execute("DROP SCHEMA IF EXISTS dramatiq CASCADE")
    command = [sys.executable, "-m", "dramatiq", "migrate-schema"]
    environment = {**os.environ, "DRAMATIQ_BROKER_URL": postgres_server.url}

    done = subprocess.run(
        command, env=environment, capture_output=True, text=True, timeout=30, check=True
    )

    assert done.stdout == f"The tables are made (version {NEWEST}).\n"
    assert postgres.execute("SELECT number FROM dramatiq.version").fetchone() == (NEWEST,)


def test_a_role_that_may_not_make_them_is_told_so(postgres_server, postgres, schema):
    postgres.execute("DROP ROLE IF EXISTS poor")
    postgres.execute("CREATE ROLE poor LOGIN")
    broker = PostgresBroker(postgres_server.url.replace("postgres@", "poor@"), schema=schema)

    with pytest.raises(ConnectionFailed, match="the role may not do this"):
        broker.enqueue(message())

    broker.close()
    postgres.execute("DROP ROLE poor")


def test_a_role_that_may_only_use_the_tables_can_work(postgres_server, postgres, broker, schema):
    broker.inspection.migrate_schema()
    postgres.execute("DROP ROLE IF EXISTS poor")
    postgres.execute("CREATE ROLE poor LOGIN")
    name = '"Shop"'
    postgres.execute(f"GRANT USAGE ON SCHEMA {name} TO poor")
    postgres.execute(f"GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA {name} TO poor")
    other = PostgresBroker(postgres_server.url.replace("postgres@", "poor@"), schema=schema)
    other.enqueue(message())
    consumer = other.consume("default")

    [taken] = consumer.fetch(1, 5000)
    consumer.ack(taken)

    consumer.close()
    other.close()
    postgres.execute(f"REVOKE ALL ON ALL TABLES IN SCHEMA {name} FROM poor")
    postgres.execute(f"REVOKE ALL ON SCHEMA {name} FROM poor")
    postgres.execute("DROP ROLE poor")


def test_a_broker_without_tables_says_so(tmp_path):
    broker = SQLiteBroker(tmp_path / "dramatiq.db")

    with pytest.raises(InspectionNotSupported, match="nothing to do"):
        broker.inspection.migrate_schema()


@pytest.mark.parametrize("schema", ["", "x" * 41, "shop'", "a.b"])
def test_a_name_that_could_not_be_written_everywhere_is_refused(schema):
    with pytest.raises(ValueError, match="40 bytes"):
        PostgresBroker("postgresql://127.0.0.1/x", schema=schema)


def test_a_url_that_is_none_is_refused_without_repeating_the_password():
    with pytest.raises(ValueError, match="no connection string") as refused:
        PostgresBroker("postgresql://me:secret@host:port/x y=z&&")

    assert "secret" not in str(refused.value)


def test_errors_do_not_tell_the_password(postgres_server):
    port = postgres_server.port
    broker = PostgresBroker(f"postgresql://nobody:secret@127.0.0.1:{port}/nothing")

    with pytest.raises(ConnectionFailed) as refused:
        broker.enqueue(message())

    assert "secret" not in str(refused.value)
    assert f"127.0.0.1:{port}/nothing" in str(refused.value)
    assert "secret" not in broker.display_url
    assert isinstance(refused.value.__cause__, psycopg.OperationalError)
