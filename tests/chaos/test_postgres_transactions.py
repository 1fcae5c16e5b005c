"""Messages sent in transactions, half of which are undone, by processes that are killed."""

from __future__ import annotations

import os
import random
import sys
import threading
from pathlib import Path

import pytest

from tests.chaos.harness import Program, open_site
from tests.chaos.postgres_harness import PostgresSite

IS_FULL = os.environ.get("DRAMATIQ_CHAOS") == "full"
SEED = int(os.environ.get("DRAMATIQ_CHAOS_SEED", "0")) or random.SystemRandom().randrange(2**32)
#: Transactions in all.
TRANSACTIONS = 10_000 if IS_FULL else 2_000
PRODUCERS = 3
#: Seconds that a process gets to work before it is killed.
PATIENCE_S = (0.3, 0.9)

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(600 if IS_FULL else 90)]


@pytest.fixture
def site(tmp_path, postgres_server):
    with open_site(tmp_path, PostgresSite, server=postgres_server, schema="transactions") as site:
        site.make_broker().inspection.migrate_schema()
        site.query("CREATE TABLE orders (number bigserial PRIMARY KEY)")
        yield site


def start_producer(site, seed):
    program = Path(__file__).with_name("postgres_producer.py")
    command = [sys.executable, program, site.database, site.schema, str(seed)]
    output = site.directory / f"producer-{seed}"
    producer = Program(command, output, {"PYTHONPATH": str(program.parents[2])})
    site.programs.append(producer)
    return producer


def test_exactly_what_was_committed_runs(site):
    print(f"seed {SEED}")
    chance = random.Random(SEED)
    begun, kills = 0, {"producers": 0, "workers": 0}
    producers = [start_producer(site, SEED + index) for index in range(PRODUCERS)]
    workers = [site.start_worker(), site.start_worker()]

    while begun < TRANSACTIONS:
        threading.Event().wait(chance.uniform(*PATIENCE_S) / PRODUCERS)
        victim = chance.randrange(PRODUCERS)
        producers[victim].kill()
        kills["producers"] += 1
        producers[victim] = start_producer(site, SEED + PRODUCERS + kills["producers"])
        if kills["producers"] % 4 == 0:
            workers.pop(0).kill()
            kills["workers"] += 1
            workers.append(site.start("work", 4))
        [(begun,)] = site.query("SELECT last_value FROM orders_number_seq")
    for each in producers:
        each.kill()
    site.wait_until_drained()

    committed = {number for (number,) in site.query("SELECT number FROM orders")}
    executed = set(site.ledger.numbers("end"))
    print(f"{begun} transactions, {len(committed)} committed, killed {kills}")
    assert executed == committed
    assert TRANSACTIONS / 4 < len(committed) < begun
    site.check_store()
