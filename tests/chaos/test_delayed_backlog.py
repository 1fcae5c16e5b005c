"""A great many messages that are due much later cost a worker neither memory nor time."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from dramatiq.brokers.sqlite import SQLiteBroker
from dramatiq.message import Message

IS_FULL = os.environ.get("DRAMATIQ_CHAOS") == "full"
MESSAGES = 1_000_000 if IS_FULL else 50_000
#: Milliseconds: an hour.
LATER = 3_600_000
#: MiB by which a worker may grow.
GROWTH_BOUND_MIB = 20
#: Milliseconds a message that is due in between may be late.
LATE_BOUND_MS = 1000


@pytest.mark.chaos
@pytest.mark.timeout(900)
def test_a_backlog_of_delayed_messages_costs_neither_memory_nor_time(site, capsys):
    worker = site.start_worker()
    broker = SQLiteBroker(site.database)
    send_near(broker, 1)
    site.wait_until(lambda: site.ledger.numbers("end") == [1], "a near message has run")
    before = resident_mib(worker.pid)

    for start in range(0, MESSAGES, 10_000):
        broker.enqueue_many(
            (message(start + number + 100) for number in range(10_000)), delay=LATER
        )
    late = [lateness_ms(site, broker, number) for number in range(2, 7)]
    growth = resident_mib(worker.pid) - before
    broker.close()
    worker.stop()

    figures = {
        "delayed": MESSAGES,
        "worker grew by MiB": round(growth, 1),
        "near messages late by ms": [round(each) for each in late],
    }
    with capsys.disabled():
        print(f"\nbacklog of delayed messages: {figures}")
    assert growth < GROWTH_BOUND_MIB, figures
    assert max(late) < LATE_BOUND_MS, figures
    assert site.counts() == [0, MESSAGES, 0, 0]


def message(number):
    return Message("default", "work", (number,), {}, {})


def send_near(broker, number, delay=100):
    broker.enqueue(message(number), delay=delay)


def lateness_ms(site, broker, number, delay=500):
    """Return how late a message starts that is due in half a second."""
    due_ns = time.monotonic_ns() + delay * 1_000_000
    send_near(broker, number, delay)
    site.wait_until(lambda: number in site.ledger.numbers("start"), "a near message has run")
    (start,) = [each for each in site.ledger.entries() if each[:2] == ("start", number)]
    return (start.at_ns - due_ns) / 1e6


def resident_mib(pid):
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) / 1024
    raise AssertionError("the worker has no resident memory")
