from __future__ import annotations

import logging

import pytest

from dramatiq import Broker, Worker, get_logger
from dramatiq.brokers.stub import StubBroker
from dramatiq.middleware import Retries, ShutdownNotifications, TimeLimit
from dramatiq.results import Results
from dramatiq.results.backends import StubBackend


class Custom:
    pass


class CustomBroker(Broker):
    pass


@pytest.mark.parametrize(
    ("arguments", "name"),
    [
        (("module",), "module"),
        (("module", None), "module"),
        (("module", "part"), "module.part"),
        (("module", Custom), "module.Custom"),
    ],
)
def test_loggers_are_named_after_module_and_class(arguments, name):
    logger = get_logger(*arguments)

    assert isinstance(logger, logging.Logger)
    assert name == logger.name


def test_equal_names_give_the_same_logger():
    assert get_logger("module", "part") is logging.getLogger("module.part")


@pytest.mark.parametrize(
    ("make", "name"),
    [
        (StubBroker, "dramatiq.broker.StubBroker"),
        (CustomBroker, "dramatiq.broker.CustomBroker"),
        (lambda: Worker(StubBroker()), "dramatiq.worker.Worker"),
        (Retries, "dramatiq.middleware.retries.Retries"),
        (TimeLimit, "dramatiq.middleware.time_limit.TimeLimit"),
        (ShutdownNotifications, "dramatiq.middleware.shutdown.ShutdownNotifications"),
        (lambda: Results(backend=StubBackend()), "dramatiq.results.middleware.Results"),
    ],
)
def test_tools_find_loggers_under_fixed_names(make, name):
    assert name == make().logger.name


def test_the_interrupting_module_logs_under_its_name():
    from dramatiq import threading

    assert threading.logger.name == "dramatiq.threading"
