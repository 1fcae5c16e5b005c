"""A disk of eight megabytes fills up: sending is refused, what was accepted runs."""

from __future__ import annotations

import time
from contextlib import suppress

import pytest

from dramatiq.brokers.sqlite import SQLiteBroker
from dramatiq.errors import BrokerConnectionError, ConnectionClosed
from dramatiq.message import Message
from tests.chaos.mounts import fill_disk, small_disk

pytestmark = pytest.mark.chaos


@pytest.fixture
def disk(site, tmp_path):
    """A small disk that holds the database, but not the ledger."""
    with small_disk(tmp_path / "disk", "8m") as disk:
        site.database = disk / "queue.db"
        yield disk
        for program in site.programs:
            program.clean_up()


@pytest.fixture
def broker(disk, site):
    broker = SQLiteBroker(site.database)
    yield broker
    broker.close()


def message(number, actor_name="work", size=0):
    # What is not an argument makes the message as large as it is to be.
    return Message("default", actor_name, (number,), {}, {"ballast": "x" * size})


def fill_with_messages(broker, size):
    """Send until the disk is full; return how many were accepted, and the error."""
    accepted = 0
    while True:
        try:
            # Some of each kind that writes more than an acknowledgement does.
            name = ("work", "fail_once", "work", "fail")[accepted % 4]
            broker.enqueue(message(accepted, name, size), delay=50 if accepted % 3 == 0 else None)
        except BrokerConnectionError as error:
            return accepted, error
        accepted += 1


def check_that_all_ran(site, accepted):
    """Each message ended once or, if it was to fail, is dead."""
    ended = sorted(site.ledger.numbers("end"))
    assert ended == [number for number in range(accepted) if number % 4 != 3]
    assert site.counts() == [0, 0, 0, accepted // 4]
    site.check_store()


def send_when_there_is_space(broker, number, timeout_s=10):
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        with suppress(BrokerConnectionError):
            return broker.enqueue(message(number))
        time.sleep(0.05)
    raise AssertionError("messages are still refused")


@pytest.mark.parametrize("size", [100, 2_000, 50_000])
def test_a_full_disk_refuses_messages_runs_those_it_has_and_takes_new_ones(
    site, disk, broker, size
):
    accepted, error = fill_with_messages(broker, size)
    # Whatever else is on the disk takes the rest of it.
    fill_disk(disk)
    assert isinstance(error, ConnectionClosed)
    assert "the disk is full" in str(error)
    assert "Free some space" in str(error)
    broker.close()

    worker = site.start_worker()
    # What fails is kept, and so is the filler: there is no more space than before.
    site.wait_until_drained()

    check_that_all_ran(site, accepted)
    for letter in broker.dead_letters("default"):
        assert letter.reason.startswith("LookupError")
    (disk / "filler").unlink()
    send_when_there_is_space(broker, accepted + 1)
    site.wait_until(lambda: accepted + 1 in site.ledger.numbers("end"), "the new message has run")
    assert worker.stop() == 0


def test_a_database_that_filled_its_disk_gives_the_space_back_when_it_is_empty(site, disk, broker):
    accepted = 0
    with suppress(ConnectionClosed):
        while True:
            broker.enqueue(message(accepted, size=1000))
            accepted += 1
    worker = site.start_worker()
    site.wait_until_drained()

    for number in range(accepted, accepted + 1000):
        send_when_there_is_space(broker, number)

    site.wait_until_drained()
    assert worker.stop() == 0
    assert sorted(site.ledger.numbers("end")) == list(range(accepted + 1000))
    assert site.database.stat().st_size < 4 * 1024 * 1024


def test_workers_go_on_when_something_else_fills_the_disk(site, disk, broker):
    broker.enqueue_many(
        Message("default", "work", (number, 10), {}, {"ballast": "x" * 500})
        for number in range(400)
    )
    workers = [site.start_worker(), site.start_worker()]
    site.wait_until(lambda: site.ledger.count("end") > 20, "the workers are busy")

    fill_disk(disk)

    site.wait_until_drained()
    assert [worker.stop() for worker in workers] == [0, 0]
    assert sorted(site.ledger.numbers("end")) == list(range(400))
    site.check_store()


def test_a_batch_that_does_not_fit_is_refused_as_a_whole(disk, broker):
    broker.enqueue(message(0))

    with pytest.raises(ConnectionClosed, match="the disk is full"):
        broker.enqueue_many(message(number, size=1000) for number in range(1, 8000))

    assert broker.queue_counts("default").ready == 1
    broker.enqueue(message(8000))
    assert broker.queue_counts("default").ready == 2
