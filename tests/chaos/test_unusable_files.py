"""Files that cannot be used, for a while or at all: a clear error, and nothing is lost."""

from __future__ import annotations

import signal
import sqlite3
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

import pytest

import dramatiq
from dramatiq.brokers.sqlite import SQLiteBroker
from dramatiq.errors import ConnectionClosed, ConnectionFailed
from dramatiq.message import Message
from dramatiq.testing.waiting import wait_until
from dramatiq.worker import Worker
from tests.chaos.harness import open_site
from tests.chaos.mounts import read_only, small_disk

pytestmark = pytest.mark.chaos


def message(number=1, duration_ms=0):
    return Message("default", "work", (number, duration_ms), {}, {})


@pytest.fixture
def open_broker():
    """Make brokers that are closed at the end."""
    brokers = []

    def open_broker(path, **options):
        broker = SQLiteBroker(path, **options)
        brokers.append(broker)
        return broker

    yield open_broker
    for broker in brokers:
        broker.close()


def assert_refused(broker, error_class, *words):
    """Sending, looking and consuming are refused, with the file and what to do in the text."""
    for use in (
        lambda: broker.enqueue(message()),
        lambda: broker.queue_counts("default"),
        lambda: broker.consume("default"),
    ):
        with pytest.raises(error_class) as caught:
            use()
        assert broker.path in str(caught.value)
        for word in words:
            assert word in str(caught.value)


# -- files that are none of ours


def test_a_file_that_is_no_database_is_refused_and_left_as_it_is(tmp_path, open_broker):
    path = tmp_path / "notes.txt"
    path.write_text("Dear diary, " * 1000)

    assert_refused(
        open_broker(path), ConnectionFailed, "not an SQLite database", "Choose another path"
    )

    assert path.read_text() == "Dear diary, " * 1000


def test_a_database_of_another_application_is_refused_and_left_as_it_is(tmp_path, open_broker):
    path = tmp_path / "mail.db"
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("CREATE TABLE messages (sender TEXT)")
        connection.execute("INSERT INTO messages VALUES ('somebody')")

    assert_refused(open_broker(path), ConnectionFailed, "another application")

    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("SELECT * FROM messages").fetchall() == [("somebody",)]
        tables = connection.execute("SELECT name FROM sqlite_schema").fetchall()
        assert tables == [("messages",)]


def test_a_damaged_file_is_refused_with_the_way_out(tmp_path, open_broker):
    path = tmp_path / "queue.db"
    broker = open_broker(path)
    broker.enqueue_many(message(number) for number in range(500))
    broker.close()
    content = bytearray(path.read_bytes())
    content[4096:] = b"\xaa" * (len(content) - 4096)
    path.write_bytes(content)

    with pytest.raises(ConnectionFailed, match=r"it is damaged.*\.recover"):
        broker.enqueue(message())


# -- places where no file can be


def test_a_missing_folder_is_named(tmp_path, open_broker):
    broker = open_broker(tmp_path / "absent" / "queue.db")

    assert_refused(broker, ConnectionFailed, "Check that the folder exists")


def test_a_folder_is_no_file(tmp_path, open_broker):
    (tmp_path / "queue.db").mkdir()

    assert_refused(open_broker(tmp_path / "queue.db"), ConnectionFailed, "cannot be opened")


def test_a_broker_goes_on_as_soon_as_its_folder_is_there(tmp_path, open_broker):
    broker = open_broker(tmp_path / "later" / "queue.db")
    with pytest.raises(ConnectionFailed):
        broker.enqueue(message())

    (tmp_path / "later").mkdir()
    broker.enqueue(message())

    assert broker.queue_counts("default").ready == 1


def test_a_lock_file_that_cannot_be_opened_is_named(tmp_path, open_broker):
    (tmp_path / "queue.db-lock").mkdir()
    broker = open_broker(tmp_path / "queue.db")

    with pytest.raises(ConnectionFailed, match=r"Lock file .*queue\.db-lock cannot be opened"):
        broker.consume("default")


def test_a_read_only_file_is_refused_and_used_again_when_it_can_be_written(
    tmp_path, open_broker, monkeypatch
):
    monkeypatch.setattr("dramatiq.worker.CONSUMER_RESTART_DELAY_SECS", 0.1)
    ran = []
    with small_disk(tmp_path / "disk", "8m") as disk:
        broker = open_broker(disk / "queue.db")
        work = dramatiq.actor(actor_name="work", broker=broker)(
            lambda number, _: ran.append(number)
        )
        work.send(1, 0)
        broker.close()

        with read_only(disk):
            assert_refused(broker, ConnectionFailed, "Check")
            worker = Worker(broker, worker_timeout=100, worker_threads=1)
            worker.start()
        work.send(2, 0)
        broker.join("default", timeout=20_000)
        worker.stop()
        broker.close()

    assert sorted(ran) == [1, 2]


# -- files that somebody keeps locked


def test_a_lock_that_is_held_too_long_is_an_error_and_nothing_is_stored(site, open_broker):
    broker = open_broker(site.database, busy_timeout=100)
    broker.enqueue(message(1))
    site.wait_until_ready(site.start("hold", 1.5))

    with pytest.raises(ConnectionClosed, match="held its write lock for too long"):
        broker.enqueue(message(2))

    assert broker.queue_counts("default").ready == 1  # who only looks is not kept waiting
    site.wait_until(lambda: site.programs[0].process.poll() == 0, "the lock is released")
    broker.enqueue(message(3))
    assert broker.queue_counts("default").ready == 2


def test_those_who_wait_for_a_lock_wait_at_the_same_time(site, open_broker):
    broker = open_broker(site.database, busy_timeout=300)
    broker.enqueue(message(0))
    site.wait_until_ready(site.start("hold", 60))

    def try_to_send(number):
        with pytest.raises(ConnectionClosed):
            broker.enqueue(message(number))

    began = time.monotonic()
    with ThreadPoolExecutor(40) as pool:
        list(pool.map(try_to_send, range(40)))

    # Two waits, for who was first and for all others; one after the other it would be 12 s.
    assert time.monotonic() - began < 6


def test_a_long_lock_makes_everybody_wait_and_loses_nothing(site, open_broker):
    broker = open_broker(site.database)
    broker.enqueue_many(message(number, 20) for number in range(100))
    workers = [site.start_worker() for _ in range(2)]
    site.wait_until(lambda: site.ledger.count("end") > 10, "the workers are busy")

    site.wait_until_ready(site.start("hold", 3))
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda number: broker.enqueue(message(number, 20)), range(100, 108)))

    site.wait_until_drained()
    assert [worker.stop() for worker in workers] == [0, 0]
    assert sorted(site.ledger.numbers("end")) == list(range(108))
    site.check_store()


def test_a_worker_whose_patience_ends_keeps_what_it_runs_and_runs_nothing_twice(site):
    broker = SQLiteBroker(site.database)
    broker.enqueue_many(message(number, 100) for number in range(60))
    broker.close()
    worker = site.start_worker(CHAOS_BROKER_OPTIONS='{"busy_timeout": 100}')
    site.wait_until(lambda: site.ledger.count("end") > 10, "the worker is busy")

    # From here, at once: a program takes longer to start than the worker to run all.
    with closing(sqlite3.connect(site.database, timeout=10, isolation_level=None)) as holder:
        holder.execute("BEGIN IMMEDIATE")
        site.wait_until(
            lambda: "held its write lock for too long" in worker.output, "its patience ends"
        )
        holder.execute("ROLLBACK")

    site.wait_until_drained()
    assert worker.stop() == 0
    assert sorted(site.ledger.numbers("end")) == list(range(60))
    site.check_store()


# -- the lock file


def test_a_deleted_lock_file_is_made_again_and_deaths_are_noticed_as_before(site):
    broker = SQLiteBroker(site.database)
    broker.enqueue_many(message(number, 10) for number in range(50))
    victim, survivor = site.start_worker(threads=2), site.start_worker(threads=2)
    lock_file = site.database.with_name(f"{site.database.name}-lock")
    lock_file.unlink()
    newcomer = None
    site.wait_until(
        lambda: all("was deleted or replaced" in each.output for each in (victim, survivor)),
        "both have noticed",
    )
    newcomer = site.start_worker(threads=2)
    broker.enqueue_many(message(number, 500) for number in range(50, 70))
    site.wait_until(lambda: site.running(victim.pid), "the victim is busy")

    victim.send(signal.SIGKILL).wait()
    running = site.running(victim.pid)

    site.wait_until_drained()
    broker.close()
    assert survivor.stop() == 0
    assert newcomer.stop() == 0
    assert set(site.ledger.numbers("end")) == set(range(70))
    assert set(site.ledger.duplicates()) <= running
    for program in (survivor, newcomer):
        assert "was taken for dead" not in program.output
    site.check_store()


# -- neighbours


def test_a_broken_file_does_not_disturb_the_work_on_another(tmp_path, open_broker):
    ran = []
    (tmp_path / "broken.db").write_text("no database" * 1000)
    broken, fine = open_broker(tmp_path / "broken.db"), open_broker(tmp_path / "fine.db")
    dramatiq.actor(actor_name="work", broker=broken)(print)
    work = dramatiq.actor(actor_name="work", broker=fine)(ran.append)
    workers = [Worker(each, worker_timeout=100, worker_threads=1) for each in (broken, fine)]
    for worker in workers:
        worker.start()

    work.send(1)

    wait_until(lambda: ran == [1])
    for worker in workers:
        worker.stop()


def test_two_sites_of_one_process_do_not_mix(tmp_path, open_broker):
    with open_site(tmp_path / "one") as one, open_site(tmp_path / "two") as two:
        for site in (one, two):
            open_broker(site.database).enqueue(message(1))

        one.start_worker()
        one.wait_until_drained()

        assert two.counts() == [1, 0, 0, 0]
