"""Workers and servers of the PostgreSQL broker are killed; the ledger tells what came of it."""

from __future__ import annotations

import random
import threading

import pytest

from tests.chaos.harness import open_site
from tests.chaos.postgres_harness import PostgresSite
from tests.chaos.redis_harness import IS_FULL, SEED, now_ns
from tests.servers import PostgresServer

#: How often the server is killed, and seconds between two kills.
KILLS, BETWEEN_KILLS_S = (6, 5.0) if IS_FULL else (2, 1.0)
#: Messages per second that are sent meanwhile.
PER_SECOND = 1000 if IS_FULL else 300
#: Seconds after the server's return within which work must go on.
RESUME_BOUND_S = 5.0
#: How often a worker is killed, and seconds between two kills.
WORKER_KILLS, BETWEEN_WORKER_KILLS_S = (50, 0.7) if IS_FULL else (4, 0.5)
THREADS = 4

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(300)]


@pytest.fixture
def server(tmp_path):
    server = PostgresServer(tmp_path / "server").start()
    yield server
    server.close()


@pytest.fixture
def site(tmp_path, server):
    with open_site(tmp_path / "site", PostgresSite, server=server, schema="chaos") as site:
        site.make_broker().inspection.migrate_schema()
        yield site


def finish(site):
    """Wait until all that was accepted has ended; return how many messages ended twice."""
    site.wait_until_drained(60)
    sent, ended = set(site.ledger.numbers("sent")), set(site.ledger.numbers("end"))
    assert sent - ended == set(), "lost"
    assert ended - sent <= set(site.ledger.numbers("unknown")), "came from nowhere"
    site.check_store()
    return len(site.ledger.duplicates())


def wait_for_work(site, after_ns):
    """Wait until something starts after a moment; return how many seconds after it."""

    def starts():
        entries = site.ledger.entries()
        return [e.at_ns for e in entries if e.kind == "start" and e.at_ns > after_ns]

    site.wait_until(starts, "work goes on")
    return (min(starts()) - after_ns) / 1e9


def test_nothing_is_lost_when_the_server_is_killed(site, server):
    print(f"seed {SEED}")
    chance = random.Random(SEED)
    workers = [site.start_worker(threads=THREADS) for _ in range(2)]
    count = int(PER_SECOND * (1.5 * BETWEEN_KILLS_S * KILLS + 3))
    producer = site.start("produce", 1, count, 0, PER_SECOND)
    site.wait_until(lambda: site.ledger.count("end") > 10, "work has begun")
    resumed = []

    for _ in range(KILLS):
        threading.Event().wait(BETWEEN_KILLS_S * chance.uniform(0.5, 1.5))
        server.restart()
        resumed.append(wait_for_work(site, now_ns()))

    assert producer.wait(60) == 0, producer.output
    duplicates = finish(site)
    assert [each.stop() for each in workers] == [0, 0]
    unknown = site.ledger.count("unknown")
    print(f"{count} messages, {unknown} of unknown fate, {duplicates} twice, resumed {resumed}")
    assert duplicates == 0
    assert max(resumed) < RESUME_BOUND_S


def test_nothing_is_lost_when_workers_are_killed(site):
    print(f"seed {SEED}")
    chance = random.Random(SEED)
    workers = [site.start_worker(threads=THREADS) for _ in range(2)]
    count = int(PER_SECOND * BETWEEN_WORKER_KILLS_S * (WORKER_KILLS + 1))
    producer = site.start("produce", 1, count, 5, PER_SECOND)

    for _ in range(WORKER_KILLS):
        threading.Event().wait(BETWEEN_WORKER_KILLS_S * chance.uniform(0.5, 1.5))
        workers.pop(chance.randrange(2)).kill()
        workers.append(site.start_worker(threads=THREADS))

    assert producer.wait(60) == 0, producer.output
    duplicates = finish(site)
    assert [each.stop() for each in workers] == [0, 0]
    print(f"{count} messages, {WORKER_KILLS} workers killed, {duplicates} twice")
    # What had ended and was not settled yet counts as running.
    assert duplicates <= WORKER_KILLS * 16
