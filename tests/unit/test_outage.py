from __future__ import annotations

import logging

import pytest

from dramatiq.errors import ConnectionClosed, ConnectionFailed
from dramatiq.worker.outage import Outage

logger = logging.getLogger("outage")


@pytest.fixture
def lines(caplog):
    caplog.set_level(logging.INFO)
    return lambda: [record.getMessage() for record in caplog.records]


def test_an_outage_of_many_queues_is_said_once_and_its_end_once(lines):
    outage = Outage()

    for _ in range(3):
        for queue in ("a", "b"):
            outage.begin(logger, queue, ConnectionFailed("refused"), 3)
    during = lines()
    outage.end(logger, "a")
    between = lines()
    outage.end(logger, "b")
    outage.end(logger, "b")

    assert len(during) == len(between) == 1
    assert "refused. Trying again every 3 seconds" in during[0]
    assert len(lines()) == 2
    assert "The broker is back after" in lines()[1]


def test_another_reason_is_said_too(lines):
    outage = Outage()

    outage.begin(logger, "a", ConnectionFailed("refused"), 3)
    outage.begin(logger, "a", ConnectionClosed("it is loading"), 3)
    outage.begin(logger, "a", ConnectionFailed("refused"), 3)

    assert len(lines()) == 2


def test_the_next_outage_is_said_again(lines):
    outage = Outage()

    for _ in range(2):
        outage.begin(logger, "a", ConnectionFailed("refused"), 3)
        outage.end(logger, "a")

    assert len(lines()) == 4


def test_a_queue_that_never_failed_says_nothing(lines):
    Outage().end(logger, "a")

    assert lines() == []
