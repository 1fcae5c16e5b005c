"""A great many delayed messages on RabbitMQ cost a worker no memory and hold up no near ones."""

from __future__ import annotations

import time

import pytest

from dramatiq.common import dq_name
from tests.chaos.harness import open_site
from tests.chaos.rabbitmq_harness import RabbitmqSite
from tests.chaos.redis_harness import IS_FULL, show
from tests.chaos.test_delayed_backlog import (
    GROWTH_BOUND_MIB,
    LATE_BOUND_MS,
    LATER,
    lateness_ms,
    message,
    resident_mib,
    send_near,
)

MESSAGES = 100_000 if IS_FULL else 5_000

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(600)]


def test_a_backlog_of_delayed_messages_costs_neither_memory_nor_time(
    tmp_path, rabbitmq_server, capsys
):
    with open_site(tmp_path, RabbitmqSite, server=rabbitmq_server) as site:
        worker = site.start_worker()
        broker = site.make_broker()
        send_near(broker, 1)
        site.wait_until(lambda: site.ledger.numbers("end") == [1], "a near message has run")
        before, began = resident_mib(worker.pid), time.monotonic()

        for start in range(0, MESSAGES, 5_000):
            broker.enqueue_many(
                (message(start + number + 100) for number in range(5_000)), delay=LATER
            )
        behind = lateness_ms(site, broker, 2)
        # Once all are parked, the worker has nothing in hand.
        topology = site.observer.topology
        site.wait_until(lambda: topology.count([dq_name("default")]) == [0], "all are parked", 120)
        parked_s = time.monotonic() - began
        late = [lateness_ms(site, broker, number) for number in range(3, 8)]
        growth = resident_mib(worker.pid) - before
        broker.close()
        worker.stop()

        figures = {
            "delayed": MESSAGES,
            "worker grew by MiB": round(growth, 1),
            "all parked after s": round(parked_s, 1),
            "late by ms: the first behind them": round(behind),
            "others": [round(each) for each in late],
        }
        show(capsys, "backlog of delayed messages on RabbitMQ", figures)
        assert growth < GROWTH_BOUND_MIB, figures
        assert max(late) < LATE_BOUND_MS, figures
        assert site.counts() == [0, MESSAGES, 0, 0]
